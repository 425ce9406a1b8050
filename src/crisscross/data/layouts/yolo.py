"""Ultralytics' layouts: masks or polygons, described by a YAML file, and polygons in text files alone."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from crisscross.config.documents import read_text, read_yaml
from crisscross.data.files.folders import images_in
from crisscross.data.layouts.description import parse_names
from crisscross.data.layouts.drawing import Shape, area, draw_shapes, image_size
from crisscross.data.layouts.reading import Drawings, Reading, drawn_folders
from crisscross.data.layouts.sources import MOST_TEXT, listed_names, split_of, text_files
from crisscross.data.layouts.vocabulary import meaning
from crisscross.errors import CrissCrossError

# Coordinates may leave the image by rounding.
BEYOND = 0.01


def ultralytics(root: Path) -> Reading | None:
    """A YAML file with `names`, `train` and `val`: masks in a folder `masks`, or polygons in text files."""
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        values = read_yaml(path)
        if isinstance(values, dict) and "names" in values and {"train", "val", "validation"} & set(values):
            return _ultralytics(root, path, values)
    return None


def _ultralytics(root: Path, path: Path, values: Mapping[str, Any]) -> Reading | None:
    names = list(parse_names(values["names"], "names", path))
    images = {}
    for split, key in (("train", "train"), ("val", "val"), ("val", "validation"), ("test", "test")):
        given = values.get(key)
        if isinstance(given, str) and not given.endswith(".txt"):
            images[split] = _below(root, path, given)
    if not images:
        raise CrissCrossError(f"{path}: train and val must be folders of images, got {values.get('train')!r:.80}")
    folder = str(values.get("masks_dir") or "masks")
    masks = {split: _replaced(image, folder) for split, image in images.items()}
    if all((root / mask).is_dir() for mask in masks.values()):
        description: dict[str, Any] = {"names": names, "images": images, "masks": masks}
        if isinstance(mapping := values.get("label_mapping"), dict):
            usable = {value: number for value, number in mapping.items() if type(value) is int and 0 <= value <= 255}
            description["labels"] = {
                value: number if type(number) is int and number != 255 else "ignore" for value, number in usable.items()
            }
        return Reading("Ultralytics", description, (f"{path.name}: {len(names)} classes, masks in {folder}/",))
    labels = {split: _replaced(image, "labels") for split, image in images.items()}
    draw: Drawings = {}
    for split, folder in images.items():
        draw |= _yolo_masks(root, folder, labels[split], len(names))
    note = f"{path.name}: polygons of {len(draw)} images drawn to masks; class 0 is background, then {names[0]}"
    return Reading("YOLO", {"names": ["background", *names], **drawn_folders(images)}, (note,), draw)


def _below(root: Path, path: Path, given: str) -> str:
    """A folder that a YAML file names, relative to the root: `path:` in such files is often of another machine."""
    parts = [part for part in PurePosixPath(given.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    for start in range(len(parts)):
        folder = PurePosixPath(*parts[start:])
        if (root / folder).is_dir():
            inside = folder / "images"
            return (inside if not images_in(root / folder) and (root / inside).is_dir() else folder).as_posix()
    raise CrissCrossError(f"{path}: names the folder {given!r:.80}, which is not in {root}")


def _replaced(image: str, name: str) -> str:
    """The folder beside a folder of images: the last `images` in its path becomes `name`."""
    parts = list(PurePosixPath(image).parts)
    for place in range(len(parts) - 1, -1, -1):
        if meaning(parts[place]).role == "image":
            parts[place] = name
            return PurePosixPath(*parts).as_posix()
    return PurePosixPath(*parts, name).as_posix()


def _yolo_masks(root: Path, images: str, labels: str, classes: int) -> Drawings:
    draw: Drawings = {}
    for image in images_in(root / images, deep=True):
        stem = image.relative_to(root / images).with_suffix("")
        target = image.relative_to(root).with_suffix(".png").as_posix()
        # Names may hold dots: what follows the last one of them is no file type.
        draw[target] = partial(yolo_mask, image, root / labels / f"{stem}.txt", classes)
    return draw


def yolo(root: Path) -> Reading | None:
    """Polygons in text files beside images, in `labels/`, with classes in classes.txt; without any YAML file."""
    texts = [
        path
        for path in text_files(root, ".txt")
        if any(meaning(part).role == "mask" for part in path.relative_to(root).parts[:-1])
    ]
    images = {}
    for path in texts:
        folder = path.parent.relative_to(root).as_posix()
        image = _replaced_back(folder)
        if (root / image).is_dir() and images_in(root / image):
            images[meaning(PurePosixPath(folder).name).split or split_of(folder)] = image
    if not images or not texts:
        return None
    names = listed_names(root) or [f"class {number}" for number in range(_largest(texts) + 1)]
    draw: Drawings = {}
    for image in images.values():
        draw |= _yolo_masks(root, image, _replaced(image, "labels"), len(names))
    note = f"polygons of {len(draw)} images drawn to masks; class 0 is background, then {', '.join(names[:3])}"
    return Reading("YOLO", {"names": ["background", *names], **drawn_folders(images)}, (note,), draw)


def _replaced_back(folder: str) -> str:
    parts = ["images" if meaning(part).role == "mask" else part for part in PurePosixPath(folder).parts]
    return PurePosixPath(*parts).as_posix()


def _largest(texts: Sequence[Path]) -> int:
    first = (
        line.split(maxsplit=1)[0] for path in texts for line in read_text(path, MOST_TEXT).splitlines() if line.strip()
    )
    return max((int(word) for word in first if word.isdecimal()), default=0)


def yolo_shapes(path: Path, size: tuple[int, int], classes: int) -> list[Shape]:
    """The polygons of one YOLO text file, the largest first; class k gets the label k + 1.

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
        except ValueError:
            raise CrissCrossError(f"{where}: expected `class x y x y ...`, got {line[:60]!r}") from None
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
        shapes.append(Shape(label + 1, [[(float(x), float(y)) for x, y in np.rint(points)]]))
    return sorted(shapes, key=lambda shape: -area(shape.rings[0]))


def yolo_mask(image: Path, text: Path, classes: int) -> np.ndarray:
    """Labels of one image: 0 is the background, class k of the file is k + 1. No file means nothing to see."""
    size = image_size(image)
    return draw_shapes(size, yolo_shapes(text, size, classes) if text.is_file() else [])
