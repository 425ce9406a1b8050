"""Ultralytics' layouts: masks or polygons, described by a YAML file, and polygons in text files alone."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from crisscross.config.documents import read_text, read_yaml
from crisscross.data.files.folders import images_in, read_lines
from crisscross.data.layouts.class_lists import listed_names
from crisscross.data.layouts.description import parse_names
from crisscross.data.layouts.drawing import Shape, area, draw_shapes, image_size
from crisscross.data.layouts.lists import endings
from crisscross.data.layouts.reading import Drawings, Reading, drawn_folders, folder_keys
from crisscross.data.layouts.sources import MOST_TEXT, common, split_of, text_files
from crisscross.data.layouts.vocabulary import meaning
from crisscross.errors import CrissCrossError

# Coordinates may leave the image by rounding.
BEYOND = 0.01
# Splits by the keys that name them; `validation` is another name of `val`.
KEYS = (("train", "train"), ("val", "validation"), ("val", "val"), ("test", "test"))


def ultralytics(root: Path) -> Reading | None:
    """A YAML file with `names`, `train` and `val`: masks in a folder `masks`, or polygons in text files."""
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        values = read_yaml(path)
        if isinstance(values, dict) and {"names", "nc"} & set(values) and {"train", "val", "validation"} & set(values):
            return _ultralytics(root, path, values)
    return None


def _ultralytics(root: Path, path: Path, values: Mapping[str, Any]) -> Reading | None:
    if "names" in values or type(values["nc"]) is not int:
        names = list(parse_names(values.get("names"), "names", path))
    else:
        names = [f"class {number}" for number in range(values["nc"])]
    given = {split: _entries(root, path, split, values.get(key)) for split, key in KEYS if values.get(key)}
    given = {split: entries for split, entries in given.items() if entries}
    if not given:
        raise CrissCrossError(f"{path}: train and val must be folders of images, got {values.get('train')!r:.80}")
    lists: dict[str, Any] = {}
    if all(len(entries) == 1 and not entries[0].endswith(".txt") for entries in given.values()):
        images = {split: entries[0] for split, entries in given.items()}
    else:
        folders = [folder for entries in given.values() for entry in entries for folder in _folders_of(root, entry)]
        images, lists = {"": common(folders)}, {"splits": given}
    folder = str(values.get("masks_dir") or "masks")
    masks = {split: _replaced(image, folder) for split, image in images.items()}
    if all((root / mask).is_dir() for mask in masks.values()):
        description: dict[str, Any] = {"names": names, **folder_keys(images, masks), **lists}
        if isinstance(mapping := values.get("label_mapping"), dict):
            usable = {value: number for value, number in mapping.items() if type(value) is int and 0 <= value <= 255}
            description["labels"] = {
                value: number if type(number) is int and number != 255 else "ignore" for value, number in usable.items()
            }
        return Reading("Ultralytics", description, (f"{path.name}: {len(names)} classes, masks in {folder}/",))
    labels = {split: _replaced(image, "labels") for split, image in images.items()}
    if not any(text_files(root / label, ".txt") for label in labels.values() if (root / label).is_dir()):
        wanted = " or ".join(f"{found}/" for found in (*list(masks.values())[:1], *list(labels.values())[:1]))
        raise CrissCrossError(f"{path}: neither masks nor polygons for its images; looked in {wanted}: put them there")
    draw: Drawings = {}
    for split, image in images.items():
        draw |= _yolo_masks(root, image, labels[split], len(names))
    note = f"{path.name}: polygons of {len(draw)} images drawn to masks; class 0 is background, then {names[0]}"
    return Reading("YOLO", {"names": ["background", *names], **drawn_folders(images), **lists}, (note,), draw)


def _entries(root: Path, path: Path, split: str, given: Any) -> list[str]:
    """The folders and lists of a split, relative to the root: one of them, or a list."""
    entries = []
    for entry in given if isinstance(given, list) else [given]:
        if not isinstance(entry, str):
            raise CrissCrossError(f"{path}: {split} must name folders of images or lists of them, got {entry!r:.80}")
        # A test split is often named that nobody has.
        if split != "test" or any((root / end).exists() for end in endings(entry)):
            entries.append(_below(root, path, entry))
    return entries


def _folders_of(root: Path, entry: str) -> list[str]:
    """The folders that a folder, or a list of images, stands for."""
    if not entry.endswith(".txt"):
        return [entry]
    found = set()
    for line in read_lines(root / entry):
        if line and (end := next((end for end in endings(line) if (root / end).is_file()), None)):
            found.add(PurePosixPath(end).parent.as_posix())
    if not found:
        raise CrissCrossError(
            f"{root / entry}: none of its images is here; paths may begin anywhere, but must end here"
        )
    return sorted(found)


def _below(root: Path, path: Path, given: str) -> str:
    """What a YAML file names, relative to the root: `path:` in such files is often of another machine."""
    for end in endings(given):
        if end.endswith(".txt") and (root / end).is_file():
            return end
        if (root / end).is_dir():
            inside = PurePosixPath(end) / "images"
            return inside.as_posix() if not images_in(root / end) and (root / inside).is_dir() else end
    kind = "list" if given.endswith(".txt") else "folder"
    raise CrissCrossError(f"{path}: names the {kind} {given!r:.80}, which is not in {root}; mend the path")


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
    texts, images = [], {}
    stems: dict[str, set[str]] = {}
    for path in text_files(root, ".txt"):
        folder = path.parent.relative_to(root).as_posix()
        if not any(meaning(part).role == "mask" for part in PurePosixPath(folder).parts):
            continue
        image = _replaced_back(folder)
        if image not in stems:
            stems[image] = {one.stem for one in images_in(root / image)} if (root / image).is_dir() else set()
        # Lists of splits and notes lie beside masks as well.
        if path.stem in stems[image]:
            texts.append(path)
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
