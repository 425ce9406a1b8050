"""An explanation as an image, in the manner of the paper's figures: image, cross, and what all passes attend to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from crisscross.data.color import overlay
from crisscross.explanation.pixel import Explanation

WIDTH, GAP, TITLE = 320, 8, 20
# From nothing to the largest weight.
HEAT = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)
ACROSS = 3


def heat(weights: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Weights [H, W], 0 or more, as colors over a dimmed gray image: uint8 [H, W, 3].

    The scale ends at the largest weight, and follows the square root: what is spread out stays visible.
    """
    share = np.sqrt(weights / max(float(weights.max()), 1e-12))
    place = share * (len(HEAT) - 1)
    low = np.minimum(place.astype(int), len(HEAT) - 2)
    colors = HEAT[low] + (HEAT[low + 1] - HEAT[low]) * (place - low)[..., None]
    gray = image.astype(np.float32).mean(-1, keepdims=True)
    mixed = gray * 0.6 * (1 - share[..., None]) + colors * (0.25 + 0.75 * share[..., None])
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def figure(explanation: Explanation) -> Any:
    """A PIL image: the image with the pixel marked, labels with and without attention, then a row for each layer."""
    found = explanation
    rows: list[list[tuple[str, np.ndarray]]] = [[("image", found.image)]]
    if found.labels is not None and found.labels_without is not None:
        for title, labels in (("prediction", found.labels), ("without attention", found.labels_without)):
            (name, value), *_ = found.top(1, without=labels is found.labels_without)
            text = f"{title}: {name} {value:.0%}"
            rows[0].append((text, overlay(found.image, labels, found.palette)))
    for layer in found.layers:
        maps = [(f"pass {number}", one) for number, one in enumerate(layer.passes, 1)]
        maps.append((f"all passes, gate {layer.gate:.3f}", layer.effective))
        rows.append([(title, heat(found.on_image(one), found.image)) for title, one in _frames(maps)])
    return _sheet(rows, found.at)


def _frames(maps: Sequence[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """Maps [h, w]; of clips one for each frame."""
    found = []
    for title, weights in maps:
        if weights.ndim == 2:
            found.append((title, weights))
        else:
            found += [(f"{title}, frame {number}", one) for number, one in enumerate(weights, 1)]
    return found


def _sheet(rows: Sequence[Sequence[tuple[str, np.ndarray]]], at: tuple[int, int]) -> Any:
    """Panels with titles, `ACROSS` beside each other, the pixel marked in each."""
    from PIL import Image, ImageDraw

    height, width = rows[0][0][1].shape[:2]
    shown = WIDTH, max(1, round(WIDTH * height / width))
    lines = [row[start : start + ACROSS] for row in rows for start in range(0, len(row), ACROSS)]
    across = max(map(len, lines))
    size = across * (WIDTH + GAP) + GAP, len(lines) * (shown[1] + TITLE + GAP) + GAP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        top = GAP + number * (shown[1] + TITLE + GAP)
        for place, (title, pixels) in enumerate(line):
            left = GAP + place * (WIDTH + GAP)
            draw.text((left, top + 4), title, fill="black")
            sheet.paste(Image.fromarray(pixels).resize(shown), (left, top + TITLE))
            x, y = left + at[0] * shown[0] / width, top + TITLE + at[1] * shown[1] / height
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), outline="white", width=3)
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), outline="red", width=2)
    return sheet
