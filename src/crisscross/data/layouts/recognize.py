"""Which format a folder is in: one function a format, asked in order."""

import csv
import io
import mmap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from crisscross.config.documents import read_text, read_yaml
from crisscross.data.files.folders import images_in
from crisscross.data.layouts.drawing import image_size
from crisscross.data.layouts.folders import Layout, find_layout
from crisscross.data.layouts.reading import Drawings, Reading, drawn_folders
from crisscross.data.layouts.sources import common, image_files, text_files
from crisscross.data.layouts.tools import MOST_TEXT, coco_masks, labelme_reading, supervisely_reading, yolo_mask
from crisscross.data.layouts.values import Color, hex_color, look_at_masks, meaning_of
from crisscross.data.layouts.vocabulary import SPLITS, meaning
from crisscross.errors import CrissCrossError

# JSON files that are looked at for COCO's.
MOST_FILES = 200
NAME_FILES = ("class_names.txt", "classes.txt", "labels.txt", "codes.txt", "names.txt")


def recognize(root: Path) -> Reading | None:
    """How a folder is read, None where it holds no images with masks.

    Raises:
        CrissCrossError: more than one reading is possible, or the format is damaged.
    """
    for reading in (ultralytics, roboflow, supervisely_reading, cvat_camvid, coco, labelme_reading, yolo):
        if found := reading(root):
            return found
    return masks_in_folders(root)


def masks_in_folders(
    root: Path, names: Sequence[str] = (), palette: Mapping[str, Color] | None = None
) -> Reading | None:
    """Folders of images and masks by their names; classes from a file that lists them, or from the values."""
    layout = find_layout(root)
    if layout is None:
        return None
    palette = palette or label_map(root)
    names = names or (() if palette else listed_names(root))
    if layout.per_class:
        return _class_masks(root, layout)
    files = [path for folder in dict.fromkeys(layout.masks.values()) for path in _mask_files(root, layout, folder)]
    found = meaning_of(look_at_masks(files), names, palette, str(root))
    description: dict[str, Any] = {"names": list(found.classes), **_folders(layout)}
    if found.labels is not None:
        description["labels"] = dict(found.labels)
    if found.colored:
        description["palette"] = {name: list(color) for name, color in zip(found.classes, found.palette, strict=True)}
    description |= {
        key: value
        for key, value in (("image_suffix", layout.image_suffix), ("mask_suffix", layout.mask_suffix))
        if value
    }
    if lists := _split_lists(root):
        description["splits"] = lists
    where = ", ".join(
        f"{folder or '.'}/" for folder in dict.fromkeys([*layout.images.values(), *layout.masks.values()])
    )
    return Reading("images and masks", description, (f"images and masks in {where}", *found.notes))


def _folders(layout: Layout) -> dict[str, Any]:
    """The keys `images` and `masks` of a description."""

    def said(folders: Mapping[str, str]) -> Any:
        named = {split: folder or "." for split, folder in folders.items()}
        return named[""] if set(named) == {""} else named

    return {"images": said(layout.images), "masks": said(layout.masks)}


def _mask_files(root: Path, layout: Layout, folder: str) -> list[Path]:
    end, _, kind = layout.mask_suffix.partition(".")
    together = folder in layout.images.values()
    return [
        path
        for path in images_in(root / folder, deep=True)
        if path.stem.endswith(end) and (not together or end or path.suffix == f".{kind}")
    ]


def label_map(root: Path) -> dict[str, Color] | None:
    """Colors of classes from a file that lists them: CVAT's labelmap.txt, label_colors.txt, V7's class_mapping.csv."""
    for name, fields in (
        ("labelmap.txt", _cvat_line),
        ("label_colors.txt", _camvid_line),
        ("label_color.txt", _camvid_line),
    ):
        if (path := root / name).is_file():
            lines = [line for line in read_text(path, MOST_TEXT).splitlines() if line.strip() and line[0] != "#"]
            return dict(fields(path, line) for line in lines)
    return None


def _cvat_line(path: Path, line: str) -> tuple[str, Color]:
    name, _, rest = line.partition(":")
    return name.strip(), _color(path, line, rest.partition(":")[0].split(","))


def _camvid_line(path: Path, line: str) -> tuple[str, Color]:
    words = line.split()
    return " ".join(words[3:]) or hex_color(_color(path, line, words[:3])), _color(path, line, words[:3])


def _color(path: Path, line: str, words: Sequence[str]) -> Color:
    try:
        red, green, blue = (int(word) for word in words)
        if not all(0 <= value <= 255 for value in (red, green, blue)):
            raise ValueError("outside 0..255")
    except ValueError as error:
        raise CrissCrossError(f"{path}: no color in the line {line[:60]!r} ({error})") from error
    return red, green, blue


def listed_names(root: Path) -> list[str]:
    """Names of classes, one a line, from the first file with a usual name."""
    for name in NAME_FILES:
        if (path := root / name).is_file():
            lines = [line.strip() for line in read_text(path, MOST_TEXT).splitlines() if line.strip()]
            return [line for line in lines if line != "__ignore__"]
    return []


def _split_lists(root: Path) -> dict[str, str]:
    """Lists of splits: ImageSets/Segmentation of Pascal VOC, train_list.txt of PaddleSeg, valid.txt."""
    for folder, end in (("", ".txt"), ("ImageSets/Segmentation", ".txt"), ("", "_list.txt")):
        found = {
            split: f"{folder}/{word}{end}".lstrip("/")
            for split, words in SPLITS.items()
            for word in sorted(words)
            if (root / folder / f"{word}{end}").is_file()
        }
        if "train" in found:
            return found
    return {}


def _class_masks(root: Path, layout: Layout) -> Reading:
    """One binary mask for each class, in a folder of the class: put together, later classes over earlier ones."""
    draw: Drawings = {}
    for split, folder in layout.images.items():
        masks = root / (layout.masks.get(split) or layout.masks[""])
        for image in images_in(root / folder, deep=True):
            stem = image.relative_to(root / folder).with_suffix("")
            parts = [next(iter(sorted((masks / name).glob(f"{stem.as_posix()}.*"))), None) for name in layout.per_class]
            draw[(PurePosixPath(folder) / stem.with_suffix(".png").as_posix()).as_posix()] = partial(
                _joined_masks, image, parts
            )
    description = {"names": ["background", *layout.per_class], **drawn_folders(layout.images)}
    note = f"one mask for each of {', '.join(layout.per_class)}: put together, later ones over earlier ones"
    return Reading("a mask for each class", description, (note,), draw)


def _joined_masks(image: Path, parts: Sequence[Path | None]) -> np.ndarray:
    from crisscross.data.files.reading import read_mask

    labels = np.zeros(image_size(image), np.uint8)
    for number, path in enumerate(parts, 1):
        if path is not None:
            mask = read_mask(path)
            if mask.shape != labels.shape:
                raise CrissCrossError(f"{path}: is {mask.shape[::-1]}, its image {labels.shape[::-1]}")
            labels[mask > (127 if mask.max(initial=0) > 1 else 0)] = number
    return labels


def ultralytics(root: Path) -> Reading | None:
    """A YAML file with `names`, `train` and `val`: masks in a folder `masks`, or polygons in text files."""
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        values = read_yaml(path)
        if isinstance(values, dict) and "names" in values and {"train", "val", "validation"} & set(values):
            return _ultralytics(root, path, values)
    return None


def _ultralytics(root: Path, path: Path, values: Mapping[str, Any]) -> Reading | None:
    names = values["names"]
    names = [names[number] for number in sorted(names)] if isinstance(names, dict) else list(names)
    names = [str(name) for name in names]
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
        if mapping := values.get("label_mapping"):
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
        target = (PurePosixPath(images) / stem.with_suffix(".png").as_posix()).as_posix()
        draw[target] = partial(yolo_mask, image, root / labels / stem.with_suffix(".txt"), classes)
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
            images[meaning(PurePosixPath(folder).name).split or _split_of(folder)] = image
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


def _split_of(folder: str) -> str:
    return next((found for part in PurePosixPath(folder).parts if (found := meaning(part).split)), "")


def _largest(texts: Sequence[Path]) -> int:
    first = (
        line.split(maxsplit=1)[0] for path in texts for line in read_text(path, MOST_TEXT).splitlines() if line.strip()
    )
    return max((int(word) for word in first if word.isdecimal()), default=0)


def roboflow(root: Path) -> Reading | None:
    """Roboflow's semantic masks: `_classes.csv` in each split, masks beside their images as NAME_mask.png."""
    files = sorted([*root.glob("_classes.csv"), *root.glob("*/_classes.csv")])
    if not files:
        return None
    rows = list(csv.reader(io.StringIO(read_text(files[0], MOST_TEXT))))[1:]
    try:
        table = {int(row[0]): row[1].strip() for row in rows if row}
    except (ValueError, IndexError) as error:
        raise CrissCrossError(f"{files[0]}: must hold lines `value, class` ({error})") from error
    images = {}
    for file in files:
        folder = file.parent.relative_to(root).as_posix()
        images["" if folder == "." else meaning(folder).split or folder] = folder
    where: Any = images[""] if set(images) == {""} else images
    names = [table[value] for value in sorted(table)]
    description: dict[str, Any] = {"names": names, "images": where, "masks": where, "mask_suffix": "_mask"}
    if sorted(table) != list(range(len(table))):
        description["labels"] = {value: number for number, value in enumerate(sorted(table))}
    return Reading("Roboflow", description, (f"{files[0].name}: {len(names)} classes",))


def cvat_camvid(root: Path) -> Reading | None:
    """CVAT's CamVid export: `label_colors.txt`, `SUBSET.txt`, `SUBSET/` and `SUBSETannot/` with color masks."""
    if not (root / "label_colors.txt").is_file():
        return None
    subsets = sorted(path.name.removesuffix("annot") for path in root.glob("*annot") if path.is_dir())
    images = {meaning(name).split: name for name in subsets if (root / name).is_dir()}
    if not images:
        return None
    palette = label_map(root) or {}
    masks = {split: f"{name}annot" for split, name in images.items()}
    alone = set(images) == {""}
    description = {
        "names": list(palette),
        "palette": {name: list(color) for name, color in palette.items()},
        "images": images[""] if alone else images,
        "masks": masks[""] if alone else masks,
    }
    return Reading("CVAT CamVid", description, (f"label_colors.txt: {len(palette)} classes by color",))


def coco(root: Path) -> Reading | None:
    """COCO's JSON: one file a split, in `annotations/` or beside the images."""
    everything = {path.name: path for path in image_files(root)}
    stems = {path.stem for path in everything.values()}
    # A file for each image is another format; of whole data sets there are few.
    whole = [path for path in text_files(root, ".json") if path.stem not in stems]
    files = [path for path in whole if len(whole) <= MOST_FILES and _is_coco(path)]
    if not files:
        return None
    classes: list[str] = []
    images: dict[str, str] = {}
    draw: Drawings = {}
    for file in files:
        names, masks = coco_masks(file, root)
        if classes and names != classes:
            raise CrissCrossError(f"{file}: other categories than {files[0].name}; every split needs the same ones")
        classes = names
        split = meaning(file.stem).split or _split_of(file.parent.relative_to(root).as_posix())
        folders = set()
        for name, make in masks.items():
            path = everything.get(PurePosixPath(name.replace("\\", "/")).name)
            if path is None:
                raise CrissCrossError(f"{file}: its image {name!r:.100} is not in {root}")
            relative = path.relative_to(root)
            folders.add(relative.parent.as_posix())
            draw[relative.with_suffix(".png").as_posix()] = make
        images[split] = common(folders)
    note = f"objects of {len(draw)} images drawn to masks, large ones first; what none covers is background"
    return Reading("COCO", {"names": ["background", *classes], **drawn_folders(images)}, (note,), draw)


def _is_coco(path: Path) -> bool:
    """Whether a file has COCO's three lists, at a glance: those of large data sets have gigabytes."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(f'"{key}"'.encode()) >= 0 for key in ("images", "annotations", "categories"))
    except (OSError, ValueError):
        return False
