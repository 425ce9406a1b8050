"""An explanation as an image, in the manner of the paper's figures: image, cross, and what all passes attend to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crisscross.data.color import overlay
from crisscross.explanation.attention import LayerAttention
from crisscross.explanation.heat import heat_colors, heat_map, mark
from crisscross.explanation.pixel import Explanation
from crisscross.inference.legend import with_legend
from crisscross.terminal import plain

# The longer side of a panel, what stands above and below it, and the spaces between them, in pixels.
SIDE, HEAD, FOOT, GAP = 400, 26, 34, 16
LETTERS, SMALL, BAR = 15, 13, 8
INK, FAINT = (29, 31, 35), (102, 106, 114)
# Frames of a clip that stand beside each other.
ACROSS = 4


@dataclass(frozen=True)
class Panel:
    """A part of the figure: uint8 [H, W, 3], what stands above and below it; `scale` is the weight that a color bar
    below it ends with, in place of a text."""

    title: str
    pixels: np.ndarray
    note: str = ""
    scale: float | None = None


def figure(explanation: Explanation) -> Any:
    """A PIL image: the image with the pixel marked, labels with and without attention, then the maps of each layer.

    The color scale of each map ends at its own largest weight, in per cent of all weights.
    """
    has_labels = explanation.labels is not None
    parts = []
    if has_labels:
        parts.append(_sheet([label_panels(explanation)], explanation.at))
        parts.append(_classes(explanation, parts[0].width))
    for layer in explanation.layers:
        parts.append(_heading(f"{plain(layer.name)}, gate {layer.gate:.3f}"))
        rows = layer_panels(explanation, layer)
        parts.append(_sheet(rows if has_labels else [[image_panel(explanation), *rows[0]], *rows[1:]], explanation.at))
    return _stacked(parts)


def image_panel(explanation: Explanation) -> Panel:
    """The image and where the pixel is."""
    return Panel("image", explanation.image, f"x {explanation.at[0]}, y {explanation.at[1]}")


def label_panels(explanation: Explanation) -> list[Panel]:
    """The image, and the labels with and without attention laid over it."""
    found = explanation
    assert found.labels is not None and found.labels_without is not None
    said = [", ".join(f"{name} {value:.1%}" for name, value in found.top(3, without)) for without in (False, True)]
    return [
        image_panel(found),
        Panel("prediction", overlay(found.image, found.labels, found.palette, 0.6), said[0]),
        Panel(
            f"attention off: {found.changed:.1%} change",
            overlay(found.image, found.labels_without, found.palette, 0.6),
            said[1],
        ),
    ]


def layer_panels(explanation: Explanation, layer: LayerAttention) -> list[list[Panel]]:
    """Rows of maps: the passes and all together beside each other; of a clip each in a row of its own, by frames."""
    count = len(layer.passes)
    rows = [_maps(explanation, f"pass {number}", one, layer.cross) for number, one in enumerate(layer.passes, 1)]
    if count > 1:
        title = "both passes together" if count == 2 else f"all {count} passes together"
        rows.append(_maps(explanation, title, layer.effective, None))
    return rows if layer.effective.ndim == 3 else [[panel for row in rows for panel in row]]


def _maps(explanation: Explanation, title: str, weights: np.ndarray, lit: np.ndarray | None) -> list[Panel]:
    """A panel of weights [h, w]; of a clip [T, h, w] one for each frame, with a common scale."""
    top, clip, outside = float(weights.max()), weights.ndim == 3, explanation.on_padding(weights)
    title += f" ({_percent(outside)} on padding)" if outside >= 0.005 else ""
    panels = []
    for number, one in enumerate(weights if clip else weights[None]):
        reached = None if lit is None else explanation.on_image(lit[number] if clip else lit)
        frame = f", frame {number + 1} of {len(weights)}: {_percent(float(one.sum()))}" if clip else ""
        image = explanation.frames[number] if clip and len(explanation.frames) > 1 else explanation.image
        pixels = heat_map(image, explanation.on_image(one), top, reached)
        panels.append(Panel(f"{title}{frame}", pixels, scale=top))
    return panels


def _percent(weight: float) -> str:
    """A weight in per cent, with two digits where it is below ten."""
    percent = 100 * weight
    return f"{percent:.0f}%" if percent >= 9.95 or not weight else f"{percent:.2g}%" if percent >= 0.001 else "<0.001%"


def _classes(explanation: Explanation, wide: int) -> Any:
    """A legend of the classes that occur with or without attention, so many pixels wide."""
    from PIL import Image

    assert explanation.labels is not None and explanation.labels_without is not None
    present = sorted({*np.unique(explanation.labels).tolist(), *np.unique(explanation.labels_without).tolist()})
    kept = [number for number in present if number < len(explanation.classes)]
    entries = [(explanation.classes[number], explanation.palette[number]) for number in kept]
    legend = with_legend(Image.new("RGB", (wide - GAP, 1), "white"), entries, LETTERS)
    band = Image.new("RGB", (legend.width + GAP, legend.height), "white")
    # The legend has a margin of its own.
    band.paste(legend, (GAP - LETTERS // 2, 0))
    return band


def _heading(text: str) -> Any:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(LETTERS + 3)
    band = Image.new("RGB", (round(font.getlength(text)) + 2 * GAP, 2 * LETTERS + GAP), "white")
    ImageDraw.Draw(band).text((GAP, band.height - 4), text, fill=INK, font=font, anchor="ls")
    return band


def _sheet(rows: Sequence[Sequence[Panel]], at: tuple[int, int]) -> Any:
    """Panels beside and below each other, the pixel marked in each."""
    from PIL import Image

    lines = [row[start : start + ACROSS] for row in rows for start in range(0, len(row), ACROSS)]
    height, width = rows[0][0].pixels.shape[:2]
    ratio = SIDE / max(height, width)
    shown = max(1, round(ratio * width)), max(1, round(ratio * height))
    wide, high = max(shown[0], SIDE // 2) + GAP, shown[1] + HEAD + FOOT
    sheet = Image.new("RGB", (max(map(len, lines)) * wide + GAP, len(lines) * high + GAP // 2), "white")
    for row, line in enumerate(lines):
        for column, panel in enumerate(line):
            _draw(sheet, panel, (GAP + column * wide, row * high), wide - GAP, shown, at)
    return sheet


def _draw(
    sheet: Any, panel: Panel, corner: tuple[int, int], wide: int, shown: tuple[int, int], at: tuple[int, int]
) -> None:
    from PIL import Image, ImageDraw, ImageFont

    left, top = corner
    pen, height, width = ImageDraw.Draw(sheet), *panel.pixels.shape[:2]
    head, small = ImageFont.load_default(LETTERS), ImageFont.load_default(SMALL)
    pen.text((left, top + HEAD - 7), _fitting(panel.title, head, wide), fill=INK, font=head, anchor="ls")
    pixels = np.asarray(Image.fromarray(panel.pixels).resize(shown, Image.Resampling.LANCZOS))
    spot = ((at[0] + 0.5) * shown[0] / width, (at[1] + 0.5) * shown[1] / height)
    sheet.paste(Image.fromarray(mark(pixels, spot)), (left, top + HEAD))
    below = top + HEAD + shown[1] + 6
    if panel.scale is None:
        pen.text((left, below + 11), _fitting(panel.note, small, wide), fill=FAINT, font=small, anchor="ls")
        return
    bar = np.broadcast_to(heat_colors(np.linspace(0, 1, shown[0])), (BAR, shown[0], 3)).astype(np.uint8)
    sheet.paste(Image.fromarray(bar), (left, below))
    # Colors follow the square root: the middle of the bar is a quarter of its end.
    for share, anchor in ((0.0, "ls"), (0.5, "ms"), (1.0, "rs")):
        text = _percent(panel.scale * share**2) if share else "0"
        pen.text((left + share * shown[0], below + BAR + 14), text, fill=FAINT, font=small, anchor=anchor)


def _fitting(text: str, font: Any, wide: int) -> str:
    """The text, shortened where it is wider than so many pixels."""
    text = plain(text)
    while len(text) > 1 and font.getlength(text) > wide:
        text = f"{text[:-2].rstrip()}…"
    return text


def _stacked(parts: Sequence[Any]) -> Any:
    from PIL import Image

    sheet = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet
