"""Label Studio's JSON export: polygons, rectangles and brush strokes of every task."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from crisscross.config.documents import read_json
from crisscross.data.files.decoding import MOST_PIXELS
from crisscross.data.layouts.drawing import Shape, draw_shapes, image_size, ring_of
from crisscross.data.layouts.reading import Drawings, Reading, drawn_folders
from crisscross.data.layouts.sources import holds, image_files, split_folders, text_files
from crisscross.errors import CrissCrossError

MOST_JSON = 1024 * 2**20
KINDS = {"polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels"}
BACKGROUNDS = ("background", "Background")


def label_studio(root: Path) -> Reading | None:
    """Label Studio: one JSON list of tasks; images by the names that the tasks give, with or without upload prefix."""
    found: list[tuple[Path, Any]] = []
    for file in text_files(root, ".json"):
        if holds(file, b'"annotations"', b'"result"'):
            tree = read_json(file, MOST_JSON)
            found += [(file, task) for task in tree if _is_task(task)] if isinstance(tree, list) else []
    if not found:
        return None
    images = {path.name: path for path in image_files(root)}
    names = sorted({label for file, task in found for entry in _regions(task) for label in _labels(entry)})
    numbers = {name: number for number, name in enumerate((n for n in names if n not in BACKGROUNDS), 1)}
    numbers |= dict.fromkeys(BACKGROUNDS, 0)
    draw: Drawings = {}
    for file, task in found:
        image = _image_of(file, task, images)
        target = image.relative_to(root).with_suffix(".png").as_posix()
        draw[target] = partial(label_studio_mask, file, image, list(_regions(task)), numbers)
    classes = [name for name in names if name not in BACKGROUNDS]
    note = f"{len(draw)} Label Studio tasks drawn to masks; pixels that no region covers are background"
    folders = drawn_folders(split_folders(draw))
    return Reading("Label Studio", {"names": ["background", *classes], **folders}, (note,), draw)


def _is_task(task: Any) -> bool:
    return isinstance(task, dict) and isinstance(task.get("annotations"), list) and isinstance(task.get("data"), dict)


def _regions(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The regions of a task's first annotation that was not cancelled."""
    for annotation in task["annotations"]:
        if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
            for entry in annotation.get("result") or ():
                if isinstance(entry, dict) and entry.get("type") in KINDS and isinstance(entry.get("value"), dict):
                    yield entry
            return


def _labels(entry: Mapping[str, Any]) -> Sequence[str]:
    return [str(label) for label in entry["value"].get(entry["type"]) or ()][:1]


def _image_of(file: Path, task: Mapping[str, Any], images: Mapping[str, Path]) -> Path:
    """The file of a task: its name stands at the end of an address, often with a prefix of eight digits."""
    texts = [value for value in task["data"].values() if isinstance(value, str)]
    for text in texts:
        name = PurePosixPath(unquote(re.sub(r"^.*[?&]d=", "", text)).replace("\\", "/")).name
        for choice in (name, re.sub(r"^[0-9a-f]{8}-", "", name)):
            if choice in images:
                return images[choice]
    raise CrissCrossError(f"{file}: the image {texts[0] if texts else '?'!r:.100} is not here; export with images")


def label_studio_mask(
    file: Path, image: Path, regions: Sequence[Mapping[str, Any]], numbers: Mapping[str, int]
) -> np.ndarray:
    """Labels of one task.

    Raises:
        CrissCrossError: a region without label, damaged, or of a kind that is not drawn.
    """
    size = image_size(image)
    shapes = []
    for entry in regions:
        try:
            shapes.append(_shape(entry, numbers[_labels(entry)[0]], size))
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise CrissCrossError(f"{file}: a region of {image.name} that cannot be drawn ({error!r:.80})") from None
    return draw_shapes(size, shapes)


def _shape(entry: Mapping[str, Any], label: int, size: tuple[int, int]) -> Shape:
    """A region; its places are percentages of the image."""
    value, (height, width) = entry["value"], size
    if entry.get("image_rotation"):
        raise ValueError("an image that was turned in Label Studio")
    if "rle" in value:
        return Shape(label, crop=brush_mask(value["rle"], int(entry["original_height"]), int(entry["original_width"])))
    if "points" in value:
        ring = [(x / 100 * width - 0.5, y / 100 * height - 0.5) for x, y in ring_of(value["points"])]
        return Shape(label, [[(float(np.rint(x)), float(np.rint(y))) for x, y in ring]])
    left, top = float(value["x"]) / 100 * width, float(value["y"]) / 100 * height
    if entry["type"] == "ellipselabels":
        across, down = float(value["radiusX"]) / 100 * width, float(value["radiusY"]) / 100 * height
        turns = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        corners = np.stack([across * np.cos(turns), down * np.sin(turns)], axis=1)
    else:
        across, down = float(value["width"]) / 100 * width, float(value["height"]) / 100 * height
        corners = np.array([(0, 0), (across, 0), (across, down), (0, down)])
    angle = np.deg2rad(float(value.get("rotation") or 0))
    turned = corners @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = turned + np.array([left, top]) - 0.5
    # As for polygons of YOLO: an edge halfway between two pixels means the inner one.
    points += np.sign(points.mean(axis=0) - points) * 1e-3
    return Shape(label, [ring_of(np.rint(points))])


def brush_mask(code: Sequence[int], height: int, width: int) -> np.ndarray:
    """Bool [H, W] of Label Studio's run lengths: a stream of bits that holds RGBA, of which alpha is the stroke.

    32 bits count the values, 5 bits their width less one, four times 4 bits the widths of lengths less one; then blocks
    of one bit (repeated or listed), two bits (which width), the length less one, and one or that many values.

    Raises:
        ValueError: the stream is damaged or belongs to an image of another size.
    """
    bits = np.unpackbits(np.array(code, np.uint8))
    weights = 1 << np.arange(32, dtype=np.int64)[::-1]
    place = 0

    def take(count: int) -> int:
        nonlocal place
        if place + count > len(bits):
            raise ValueError("run lengths that are cut off")
        place += count
        return int(bits[place - count : place] @ weights[32 - count :])

    total = take(32)
    if total != height * width * 4 or total > 4 * MOST_PIXELS:
        raise ValueError(f"{total} values for {width} x {height} pixels")
    depth = take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]
    values, filled = np.zeros(total, np.int64), 0
    while filled < total:
        repeated = take(1)
        count = take(widths[take(2)]) + 1
        if repeated:
            values[filled : filled + count] = take(depth)
        else:
            if place + count * depth > len(bits):
                raise ValueError("run lengths that are cut off")
            block = bits[place : place + count * depth].reshape(count, depth) @ weights[32 - depth :]
            values[filled : filled + count] = block[: total - filled]
            place += count * depth
        filled += count
    return values.reshape(height, width, 4)[..., 3] > 0
