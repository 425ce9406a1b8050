"""Exports of labeling tools whose masks are polygons or crops in text files: YOLO, LabelMe, Supervisely, COCO."""

import base64
import contextlib
import io
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from crisscross.config.documents import read_json, read_text
from crisscross.data.files.coco_json import entries, read_images, read_tree
from crisscross.data.files.coco_masks import Drop, check_shape, checked_shape, decode, import_coco
from crisscross.data.layouts.drawing import Shape, area, draw_shapes, image_size
from crisscross.data.layouts.reading import Drawings, Reading, drawn_folders
from crisscross.data.layouts.sources import holds, image_files, split_folders, text_files
from crisscross.errors import CrissCrossError

MOST_TEXT = 64 * 2**20
# Coordinates of YOLO files may leave the image by rounding.
BEYOND = 0.01


def yolo_shapes(path: Path, size: tuple[int, int], classes: int, first: int) -> list[Shape]:
    """The polygons of one YOLO text file, the largest first; class k gets the label k + `first`.

    Raises:
        CrissCrossError: a line that is no polygon (a box, coordinates outside 0..1, a class beyond the last).
    """
    shapes = []
    for number, line in enumerate(read_text(path, MOST_TEXT).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        try:
            label, values = int(words[0]), [float(word) for word in words[1:]]
        except ValueError as error:
            raise CrissCrossError(f"{where}: expected `class x y x y ...`, got {line[:60]!r}") from error
        if len(values) == 4:
            raise CrissCrossError(f"{where}: a box, not a polygon; export the labels for segmentation")
        if len(values) < 6 or len(values) % 2:
            raise CrissCrossError(f"{where}: a polygon needs three points or more, got {len(values)} numbers")
        if not all(-BEYOND <= value <= 1 + BEYOND for value in values):
            raise CrissCrossError(f"{where}: coordinates must be fractions of the image in 0..1, got {max(values):g}")
        if not 0 <= label < classes:
            raise CrissCrossError(f"{where}: class {label}, but there are {classes} classes (0..{classes - 1})")
        height, width = size
        points = np.array(values).reshape(-1, 2) * (width, height) - 0.5
        # Edges of regions usually lie halfway between two pixels: the inner one is meant.
        points += np.sign(points.mean(axis=0) - points) * 1e-3
        shapes.append(Shape(label + first, [[(float(x), float(y)) for x, y in np.rint(points)]]))
    return sorted(shapes, key=lambda shape: -area(shape.rings[0]))


def yolo_mask(image: Path, text: Path, classes: int) -> np.ndarray:
    """Labels of one image: 0 is the background, class k of the file is k + 1. No file means nothing to see."""
    size = image_size(image)
    return draw_shapes(size, yolo_shapes(text, size, classes, 1) if text.is_file() else [])


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
        points = [(float(x), float(y)) for x, y in entry["points"]]
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
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise CrissCrossError(f"{path}: a shape that cannot be drawn ({error!r:.80}); mend or remove it") from error


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
    shapes = []
    for entry in tree.get("objects", []) if isinstance(tree, dict) else []:
        try:
            label, kind = numbers[entry["classTitle"]], entry["geometryType"]
            if kind == "bitmap":
                data = base64.b64decode(entry["bitmap"]["data"])
                with contextlib.suppress(zlib.error):
                    data = zlib.decompress(data)
                left, top = entry["bitmap"]["origin"]
                shapes.append(Shape(label, crop=_decoded_png(data), corner=(int(left), int(top))))
            elif kind == "rectangle":
                (left, top), (right, bottom) = entry["points"]["exterior"]
                shapes.append(Shape(label, [[(left, top), (right, top), (right, bottom), (left, bottom)]]))
            elif kind == "polygon":
                points = entry["points"]
                shapes.append(Shape(label, [points["exterior"]], points.get("interior") or ()))
            elif kind not in ("line", "point"):
                raise ValueError(f"geometryType {kind!r:.40}")
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise CrissCrossError(f"{path}: an object that cannot be drawn ({error!r:.80})") from error
    return draw_shapes(image_size(image), shapes)


def coco_masks(file: Path, folder: Path, first: int = 1) -> tuple[list[str], Drawings]:
    """Classes of a COCO file in the order of their numbers, and its masks by the name of their image.

    Objects are drawn from large to small; 0 is the background. Run lengths count whatever `iscrowd` says: CVAT marks
    every brush stroke so.

    Raises:
        CrissCrossError: a damaged file, or the package pycocotools is missing.
    """
    import_coco()
    tree = read_tree(file)
    categories = sorted(entries(file, tree, "categories", id=int, name=str), key=lambda entry: entry["id"])
    objects: dict[int, list[dict[str, Any]]] = {}
    for entry in entries(file, tree, "annotations", id=int, image_id=int, category_id=int):
        objects.setdefault(entry["image_id"], []).append(entry)
    used = {entry["category_id"] for found in objects.values() for entry in found}
    # Roboflow invents a category 0 above all others, which no object has.
    kept = [entry for entry in categories if entry["id"] in used or entry["id"] != 0]
    numbers = {entry["id"]: number for number, entry in enumerate(kept, first)}
    names = [str(entry["name"]) for entry in kept]
    draw: Drawings = {}
    for image in read_images(file, tree):
        draw[image.file_name] = partial(
            _coco_mask, str(file), (image.height, image.width), objects.get(image.number, []), numbers
        )
    return names, draw


def _coco_mask(
    file: str, size: tuple[int, int], objects: Iterable[dict[str, Any]], numbers: Mapping[int, int]
) -> np.ndarray:
    drawn = []
    for entry in objects:
        where = f"{file}: annotation {entry['id']}"
        if entry["category_id"] not in numbers:
            raise CrissCrossError(f"{where}: category {entry['category_id']} is not in the list of categories")
        try:
            shape, _ = checked_shape(entry.get("segmentation"), *size, where)
        except Drop:
            continue
        check_shape(shape, where)
        covered = decode(shape, *size) > 0
        drawn.append((int(covered.sum()), numbers[entry["category_id"]], covered))
    labels = np.zeros(size, np.uint8)
    for _, number, covered in sorted(drawn, key=lambda one: -one[0]):
        labels[covered] = number
    return labels
