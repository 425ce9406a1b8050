"""The images of the page about a network's attention, as HTML."""

from html import escape

import numpy as np

from crisscross.data.color import overlay
from crisscross.explanation.attention import LayerAttention
from crisscross.explanation.findings import Survey
from crisscross.explanation.heat import MARK, heat_map, mark
from crisscross.explanation.pixel import Explanation
from crisscross.report.images import data_uri, error_map

WIDEST, OPACITY = 480, 0.6


def field_map(share: np.ndarray, center: tuple[float, float], side: float) -> np.ndarray:
    """A gradient [H, W] as colors uint8, in cells of 4 x 4 pixels, with a square of this side around its center."""
    height, width = (length // 4 * 4 for length in share.shape)
    cells = share[:height, :width].reshape(height // 4, 4, width // 4, 4).sum((1, 3))
    weights = np.sqrt(cells).repeat(4, 0).repeat(4, 1)
    drawn = heat_map(np.zeros((*weights.shape, 3), np.uint8), weights)
    half = side / 2
    ends = [
        [int(np.clip(place + sign * half, 0, limit - 1)) for sign in (-1, 1)]
        for place, limit in zip(center, weights.shape, strict=True)
    ]
    (top, bottom), (left, right) = ends
    for y in (top, bottom):
        drawn[max(y - 1, 0) : y + 1, left : right + 1] = MARK
    for x in (left, right):
        drawn[top : bottom + 1, max(x - 1, 0) : x + 1] = MARK
    return drawn


def example_row(found: Survey, name: str, truth: np.ndarray, one: Explanation) -> str:
    """A row of panels about one pixel; `truth` holds the true labels [H, W]."""
    assert one.labels is not None and one.labels_without is not None
    x, y = one.at
    true = found.classes[truth[y, x]] if truth[y, x] < len(found.classes) else "ignored"
    (label, odds), (other, other_odds) = one.top(1)[0], one.top(1, without=True)[0]
    panels = [
        (one.image, f"image, x {x}, y {y}"),
        (overlay(one.image, truth, found.palette, OPACITY), f"truth: {true}"),
        (overlay(one.image, one.labels, found.palette, OPACITY), f"prediction: {label} {odds:.0%}"),
        (overlay(one.image, one.labels_without, found.palette, OPACITY), f"switched off: {other} {other_odds:.0%}"),
    ]
    for layer in one.layers:
        panels += _maps(one, layer, f"{layer.name}, " if len(one.layers) > 1 else "")
    panels.append((error_map(one.image, one.labels != one.labels_without), f"labels that change: {one.changed:.1%}"))
    figures = "".join(figure_of(mark(*_small(pixels, one.at)), caption) for pixels, caption in panels)
    return f'<section class="row"><h3>{escape(name)}</h3><div>{figures}</div></section>'


def _maps(one: Explanation, layer: LayerAttention, before: str) -> list[tuple[np.ndarray, str]]:
    """The map of each pass and of all together; of a clip those of the frame with the pixel."""
    named = [(f"{before}pass {number}", weights, layer.cross) for number, weights in enumerate(layer.passes, 1)]
    if len(layer.passes) > 1:
        together = "both passes" if len(layer.passes) == 2 else f"all {len(layer.passes)} passes"
        named.append((f"{before}{together} together", layer.effective, np.ones_like(layer.cross)))
    found = []
    for caption, weights, lit in named:
        top = float(weights.max())
        if weights.ndim == 3:
            weights, lit = weights[layer.cell[0]], lit[layer.cell[0]]
        pixels = heat_map(one.image, one.on_image(weights), top, one.on_image(lit))
        found.append((pixels, f"{caption}, up to {100 * top:.2g} %"))
    return found


def _small(image: np.ndarray, at: tuple[int, int]) -> tuple[np.ndarray, tuple[float, float]]:
    """At most `WIDEST` pixels wide, and where the pixel is then."""
    from PIL import Image

    ratio = min(1.0, WIDEST / image.shape[1])
    size = max(1, round(image.shape[1] * ratio)), max(1, round(image.shape[0] * ratio))
    small = image if ratio == 1 else np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    return small, ((at[0] + 0.5) * ratio, (at[1] + 0.5) * ratio)


def figure_of(pixels: np.ndarray, caption: str) -> str:
    """An image uint8 [H, W, 3] with a caption, as HTML."""
    image = f'<img class="photo" src="{data_uri(pixels, True)}" alt="{escape(caption)}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
