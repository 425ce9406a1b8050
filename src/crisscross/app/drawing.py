"""Images and HTML of the page: labels over the image, a legend, and what attention looks at from a pixel."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from crisscross.data.color import Color, overlay
from crisscross.inference import Prediction
from crisscross.inference.legend import percent
from crisscross.report.images import data_uri

if TYPE_CHECKING:
    from crisscross.explanation import Explanation, LayerAttention

# Width in pixels of an image on the page; of the smaller ones that show attention.
WIDTH, SMALL = 1024, 480
OPACITY = 0.55


def fitted(pixels: np.ndarray, width: int, nearest: bool = False) -> np.ndarray:
    """An image [H, W, 3], or labels [H, W] by their nearest pixel, at another width."""
    from PIL import Image

    size = width, max(1, round(len(pixels) * width / pixels.shape[1]))
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize(size, how, reducing_gap=None if nearest else 2.0))


def labeled(prediction: Prediction, image: np.ndarray, opacity: float, at: tuple[int, int] | None = None) -> Any:
    """A PIL image, `WIDTH` pixels wide: the labels over the image, and a ring around the pixel (x, y)."""
    from PIL import Image, ImageDraw

    drawn = overlay(fitted(image, WIDTH), fitted(prediction.labels, WIDTH, True), prediction.card.palette, opacity)
    found = Image.fromarray(drawn)
    if at is not None:
        scale, pen = WIDTH / image.shape[1], ImageDraw.Draw(found)
        x, y = ((value + 0.5) * scale for value in at)
        for radius, color, width in ((12, "black", 6), (11, "#00ffbe", 3)):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=width)
    return found


def legend(prediction: Prediction) -> str:
    """Color, name and fraction of each class that occurs, the largest first."""
    fractions, colors = prediction.fractions(), dict(zip(prediction.card.classes, prediction.card.palette, strict=True))
    rows = (
        f"<li>{_swatch(colors[name])}{escape(name)} <b>{percent(fractions[name])}</b></li>"
        for name in prediction.classes
    )
    return f'<ul class="legend">{"".join(rows)}</ul>'


def message(text: str, alert: bool = False) -> str:
    """A line above the image: what was wrong, or what is worth knowing; "" for nothing."""
    return f'<p class="message{" alert" if alert else ""}" role="alert">{escape(text)}</p>' if text else ""


def network_name(name: str) -> str:
    """Above what follows: which of several networks says it."""
    return f'<p class="network">{escape(name)}</p>'


def probabilities(at: tuple[int, int], columns: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    """The most probable classes of a pixel: for each column a title and (class, probability), largest first."""
    parts = []
    for title, rows in columns:
        bars = "".join(
            f'<tr><th scope="row">{escape(name)}</th><td><i style="width:{value:.1%}"></i></td><td>{value:.1%}</td>'
            for name, value in rows
        )
        caption = f"<caption>{escape(title)}</caption>" if title else ""
        parts.append(f"<table>{caption}{bars}</table>")
    name = columns[0][1][0][0]
    return f'<h3>{escape(name)} <small>at {at[0]}, {at[1]}</small></h3><div class="pair odds">{"".join(parts)}</div>'


def explained(found: "Explanation") -> str:
    """The probabilities of the pixel, what each layer attends to from it, and the labels with and without attention."""
    assert found.labels is not None and found.labels_without is not None
    small = replace(found, image=fitted(found.image, SMALL))
    parts = [probabilities(found.at, [("with attention", found.top()), ("attention off", found.top(without=True))])]
    for layer in found.layers:
        title = f"{layer.name}: " if len(found.layers) > 1 else ""
        parts.append(
            f"<h4>{escape(title)}Where this pixel looks</h4>"
            f"{_figures(small, [_map(small, layer, passes) for passes in range(1, len(layer.passes) + 1)])}"
            f'<p class="note">Mean distance of the weights: {layer.distance:.0f} cells of a map of '
            f"{' × '.join(map(str, layer.effective.shape))}. Gate, the factor before attention is added: "
            f"{layer.gate:.3f}.</p>"
        )
    labels = (("labels with attention", found.labels), ("labels with attention off", found.labels_without))
    drawn = [(text, overlay(small.image, fitted(one, SMALL, True), found.palette, OPACITY)) for text, one in labels]
    parts.append(f"<h4>What attention changes: {found.changed:.1%} of the labels</h4>{_figures(small, drawn)}")
    return f'<div class="pixel">{"".join(parts)}</div>'


def _map(found: "Explanation", layer: "LayerAttention", passes: int) -> tuple[str, np.ndarray]:
    """A title and an image of what so many passes together attend to; of a clip the frame in which the pixel lies."""
    from crisscross.explanation import heat_map

    both = layer.together[passes - 1], layer.cross
    weights, cross = (found.on_image(one[layer.cell[0]] if one.ndim == 3 else one) for one in both)
    title = f"R = {passes}: " + ("its row and its column" if passes == 1 else f"after {passes} passes")
    return title, heat_map(found.image, weights, lit=cross if passes == 1 else None)


def _figures(found: "Explanation", panels: Iterable[tuple[str, np.ndarray]]) -> str:
    """Images beside each other, each with its caption and a mark at the pixel."""
    height, width = found.labels.shape if found.labels is not None else found.image.shape[:2]
    left, top = ((value + 0.5) / size for value, size in zip(found.at, (width, height), strict=True))
    mark = f'<i style="left:{left:.2%};top:{top:.2%}"></i>'
    figures = (
        f'<figure><div><img src="{data_uri(pixels, True)}" alt="{escape(text)}">{mark}</div>'
        f"<figcaption>{escape(text)}</figcaption></figure>"
        for text, pixels in panels
    )
    return f'<div class="pair">{"".join(figures)}</div>'


def _swatch(color: Color) -> str:
    return f'<i style="background:rgb({",".join(str(int(value)) for value in color)})"></i>'
