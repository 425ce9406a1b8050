"""Instances drawn on their image: translucent masks with an outline, boxes, names and scores."""

import colorsys
from typing import Any

import numpy as np

from crisscross.instances.result import Instances

# Opacity of a mask.
ALPHA = 0.45
# Steps of the golden ratio keep hues far apart, however many there are.
GOLDEN = 0.618034
Color = tuple[int, int, int]


def instance_color(number: int) -> Color:
    """The color of the n-th instance: bright, and far from its neighbors'."""
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.85 if number % 2 else 0.6, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(image: np.ndarray, instances: Instances, scores: bool = True) -> Any:
    """A PIL image of an RGB image uint8 [H, W, 3] with its instances: small masks over large, best names on top.

    `scores`: write them behind the names.
    """
    from PIL import Image, ImageDraw, ImageFont

    canvas = image.astype(np.float32)
    areas = instances.masks.sum((1, 2))
    for number in np.argsort(-areas, kind="stable"):
        mask, paint = instances.masks[number], np.array(instance_color(int(number)), np.float32)
        canvas[mask] = canvas[mask] * (1 - ALPHA) + paint * ALPHA
        canvas[outline(mask)] = paint
    drawn = Image.fromarray(np.rint(canvas).astype(np.uint8))
    pen, size = ImageDraw.Draw(drawn), max(11, round(min(image.shape[:2]) / 32))
    font = ImageFont.load_default(size)
    for number in range(len(instances.scores) - 1, -1, -1):
        left, top, right, bottom = (float(side) for side in instances.boxes[number])
        color = instance_color(number)
        pen.rectangle([left, top, right, bottom], outline=color, width=max(1, size // 8))
        name = instances.classes[int(instances.labels[number])]
        text = f"{name} {instances.scores[number]:.2f}" if scores else name
        _label(pen, font, text, (left, top), color, image.shape[1])
    return drawn


def outline(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask bool [H, W] with a neighbor outside it; the border of the image is no outside."""
    padded = np.pad(mask, 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def _label(pen: Any, font: Any, text: str, corner: tuple[float, float], color: Color, width: int) -> None:
    """A name above its box, inside the image, black on the color of the instance."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    x = min(max(corner[0], 0), max(width - (right - left) - 4, 0))
    y = max(corner[1] - (bottom - top) - 4, 0)
    pen.rectangle([x, y, x + right - left + 4, y + bottom - top + 4], fill=color)
    pen.text((x + 2 - left, y + 2 - top), text, fill=(0, 0, 0), font=font)
