"""Exports of labeling tools with a text file for each image: LabelMe, Supervisely."""

import base64
import contextlib
import io
import os
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from crisscross.config.documents import read_json, read_text
from crisscross.data.layouts.drawing import Shape, draw_shapes, image_size, ring_of
from crisscross.data.layouts.reading import DAMAGE, Drawings, Reading, drawn_folders
from crisscross.data.layouts.sources import MOST_TEXT, holds, image_files, split_folders, text_files
from crisscross.errors import CrissCrossError


def labelme_reading(root: Path) -> Reading | None:
    """LabelMe: one JSON file beside each image, its shapes by name."""
    found = [path for path in text_files(root, ".json") if holds(path, b'"shapes"')]
    names: set[str] = set()
    images: dict[Path, Path] = {}
    for path in found:
        tree = read_json(path, MOST_TEXT)
        if isinstance(tree, dict) and isinstance(tree.get("shapes"), list) and "imagePath" in tree:
            names |= {str(shape.get("label")) for shape in tree["shapes"] if isinstance(shape, dict)}
            images[path] = _labelme_image(path, str(tree["imagePath"]))
    if not images:
        return None
    listed = root / "labels.txt"
    order = [line.strip() for line in read_text(listed, MOST_TEXT).splitlines()] if listed.is_file() else sorted(names)
    backgrounds = {"background", "_background_", "__background__"}
    classes = [name for name in order if name and name not in backgrounds and name != "__ignore__"]
    if missing := sorted(names - set(classes) - backgrounds - {"__ignore__"}):
        raise CrissCrossError(f"{listed}: does not list {missing[0]!r}, which is a label in the JSON files; add it")
    numbers = {name: number for number, name in enumerate(classes, 1)} | dict.fromkeys(backgrounds, 0)
    numbers["__ignore__"] = 255
    draw: Drawings = {}
    for path, image in images.items():
        if not image.is_relative_to(root):
            raise CrissCrossError(f"{path}: its image {image} lies outside {root}; put it beside the JSON file")
        draw[image.relative_to(root).with_suffix(".png").as_posix()] = partial(labelme_mask, path, image, numbers)
    note = f"{len(draw)} LabelMe files drawn to masks; pixels that no shape covers are background"
    return Reading("LabelMe", {"names": ["background", *classes], **drawn_folders(split_folders(draw))}, (note,), draw)


def _labelme_image(path: Path, named: str) -> Path:
    """The image of a JSON file: as it says, or beside it with its name."""
    image = Path(os.path.normpath(path.parent / PureWindowsPath(named).as_posix()))
    choices = [image, *(path.with_suffix(suffix) for suffix in (".jpg", ".jpeg", ".png", ".bmp", ".tif"))]
    for choice in choices:
        if os.path.isfile(choice):
            return choice
    raise CrissCrossError(f"{path}: its image {named!r:.80} is not there; put it beside the JSON file")


def labelme_mask(path: Path, image: Path, numbers: Mapping[str, int]) -> np.ndarray:
    """Labels of one LabelMe file.

    Raises:
        CrissCrossError: a shape that is no region, or is damaged.
    """
    # Read again: files hold their images as text, too much to keep.
    shapes = read_json(path, MOST_TEXT)["shapes"]
    return draw_shapes(
        image_size(image), [shape for entry in shapes for shape in _labelme_shapes(path, entry, numbers)]
    )


def _labelme_shapes(path: Path, entry: Any, numbers: Mapping[str, int]) -> Iterator[Shape]:
    try:
        label, kind = numbers[str(entry["label"])], entry.get("shape_type") or "polygon"
        points = ring_of(entry["points"])
        if kind in ("polygon", "oriented_rectangle"):
            yield Shape(label, [points])
        elif kind == "rectangle":
            (left, top), (right, bottom) = points
            yield Shape(label, [[(left, top), (right, top), (right, bottom), (left, bottom)]])
        elif kind == "circle":
            (x, y), (edge_x, edge_y) = points
            turns = np.linspace(0, 2 * np.pi, 64, endpoint=False)
            radius = np.hypot(edge_x - x, edge_y - y)
            yield Shape(label, [list(zip(x + radius * np.cos(turns), y + radius * np.sin(turns), strict=True))])
        elif kind == "mask":
            crop = _decoded_png(base64.b64decode(entry["mask"]))
            yield Shape(label, crop=crop, corner=(round(points[0][0]), round(points[0][1])))
        elif kind not in ("line", "linestrip", "point", "points"):
            raise ValueError(f"shape_type {kind!r:.40}")
    except DAMAGE as error:
        raise CrissCrossError(f"{path}: a shape that cannot be drawn ({error!r:.80}); mend or remove it") from None


def _decoded_png(data: bytes) -> np.ndarray:
    """A small PNG as bool [h, w]: its alpha where it has one, else what is not 0."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.load()
        if image.mode in ("RGBA", "LA"):
            return np.asarray(image.getchannel("A")) > 0
        values = np.asarray(image)
    return values > 0 if values.ndim == 2 else np.asarray(values.max(axis=-1) > 0)


def supervisely_reading(root: Path) -> Reading | None:
    """Supervisely: `meta.json`, and `img/` and `ann/` in a folder for each data set."""
    meta = root / "meta.json"
    if not meta.is_file():
        return None
    tree = read_json(meta)
    if not isinstance(tree, dict) or not isinstance(tree.get("classes"), list):
        return None
    classes = [str(entry.get("title")) for entry in tree["classes"] if isinstance(entry, dict)]
    named = [name for name in classes if name.lower() not in ("background", "bg")]
    numbers = {name: named.index(name) + 1 if name in named else 0 for name in classes}
    draw: Drawings = {}
    sets: dict[Path, list[Path]] = {}
    for image in image_files(root):
        if image.parent.name == "img" and (image.parent.parent / "ann").is_dir():
            sets.setdefault(image.parent.parent, []).append(image)
    for folder, images in sets.items():
        for image in images:
            choices = (folder / "ann" / f"{image.name}.json", folder / "ann" / f"{image.stem}.json")
            file = next((choice for choice in choices if choice.is_file()), None)
            if file is None:
                raise CrissCrossError(f"{image}: its annotation {choices[0]} is not there")
            name = image.relative_to(root).with_suffix(".png").as_posix()
            draw[name] = partial(supervisely_mask, file, image, numbers)
    if not draw:
        return None
    note = f"{len(draw)} Supervisely annotations drawn to masks; pixels that no object covers are background"
    folders = drawn_folders(split_folders(draw))
    return Reading("Supervisely", {"names": ["background", *named], **folders}, (note,), draw)


def supervisely_mask(path: Path, image: Path, numbers: Mapping[str, int]) -> np.ndarray:
    """Labels of one Supervisely annotation.

    Raises:
        CrissCrossError: an object of another kind than polygon, bitmap and rectangle, or a damaged one.
    """
    tree = read_json(path, MOST_TEXT)
    shapes: list[Shape] = []
    objects = tree.get("objects") if isinstance(tree, dict) else None
    if not isinstance(objects, list):
        raise CrissCrossError(f"{path}: must hold a list `objects`, as Supervisely writes it")
    for entry in objects:
        try:
            label, kind = numbers[entry["classTitle"]], entry["geometryType"]
            if kind == "bitmap":
                data = base64.b64decode(entry["bitmap"]["data"])
                with contextlib.suppress(zlib.error):
                    data = zlib.decompress(data)
                left, top = entry["bitmap"]["origin"]
                shapes.append(Shape(label, crop=_decoded_png(data), corner=(int(left), int(top))))
            elif kind == "rectangle":
                (left, top), (right, bottom) = ring_of(entry["points"]["exterior"])
                shapes.append(Shape(label, [[(left, top), (right, top), (right, bottom), (left, bottom)]]))
            elif kind == "polygon":
                points = entry["points"]
                holes = [ring_of(ring) for ring in points.get("interior") or ()]
                shapes.append(Shape(label, [ring_of(points["exterior"])], holes))
            elif kind not in ("line", "point"):
                raise ValueError(f"geometryType {kind!r:.40}")
        except DAMAGE as error:
            raise CrissCrossError(f"{path}: an object that cannot be drawn ({error!r:.80})") from None
    return draw_shapes(image_size(image), shapes)
