"""Labels in the formats that clients ask for."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from starlette.exceptions import HTTPException
from starlette.responses import Response

from crisscross.errors import shown
from crisscross.inference import Card, formats

PNG, JSON = "image/png", "application/json"


class Format(NamedTuple):
    """A media type, a line about the format, and the function that writes labels uint8 [H, W] in it."""

    media: str
    line: str
    write: Callable[[np.ndarray, Card], bytes]


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _labels(labels: np.ndarray, card: Card) -> bytes:
    return formats.index_png(labels, card.palette)


def _color(labels: np.ndarray, card: Card) -> bytes:
    return formats.color_png(labels, card.palette)


def _polygons(labels: np.ndarray, card: Card) -> bytes:
    height, width = labels.shape
    found = formats.polygons(labels, card.classes)
    return _json({"width": width, "height": height, "polygons": found})


def _rle(labels: np.ndarray, card: Card) -> bytes:
    return _json(
        {
            "images": [formats.coco_image(1, "image", labels)],
            "categories": formats.coco_categories(card.classes),
            "annotations": formats.coco_annotations(labels, len(card.classes)),
        }
    )


def _fractions(labels: np.ndarray, card: Card) -> bytes:
    found = formats.class_fractions(labels, len(card.classes)).tolist()
    return _json(dict(zip(card.classes, found, strict=True)))


# By name. Of each media type, the first is what `Accept` gets.
FORMATS = {
    "labels": Format(PNG, "PNG whose pixel values are the labels", _labels),
    "color": Format(PNG, "RGB PNG in the colors of the classes", _color),
    "polygons": Format(JSON, "outlines of all regions in pixels", _polygons),
    "rle": Format(JSON, "COCO annotations, one mask for each class as compressed run lengths", _rle),
    "fractions": Format(JSON, "fraction of the pixels that each class has", _fractions),
}


def answer(name: str, labels: np.ndarray, card: Card) -> Response:
    """The labels uint8 [H, W] in a format of `FORMATS`."""
    form = FORMATS[name]
    return Response(form.write(labels, card), media_type=form.media)


def choose(wanted: str | None, accept: str) -> str:
    """The name of the format that a request asks for, by name or else by `Accept`.

    Raises:
        HTTPException: 400 or 406; there is none.
    """
    if wanted is not None:
        if wanted not in FORMATS:
            raise HTTPException(400, f"no format {shown(wanted)}; there are {', '.join(FORMATS)}")
        return wanted
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    best, found = 0.0, ""
    for name, form in FORMATS.items():
        # The most exact range that fits says how much a type is wanted.
        kinds = (form.media, f"{form.media.partition('/')[0]}/*", "*/*")
        fitting = [(kinds.index(kind), -q) for kind, q in ranges if kind in kinds]
        q = -min(fitting)[1] if fitting else 0.0
        if q > best:
            best, found = q, name
    if not found:
        raise HTTPException(406, f"`Accept` must allow {PNG} or {JSON}, got {shown(accept)}")
    return found


def _range(text: str) -> tuple[str, float]:
    """A media range of `Accept`, and how much it is wanted, 0 to 1."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    q = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                q = float(parameter[2:])
            except ValueError:
                q = 0.0
    return kind, q
