"""Exports with masks and a file about them: CVAT's Cityscapes, V7, nnU-Net, Hugging Face's imagefolder."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.config.documents import parse_json, read_json, read_text
from crisscross.data.color import labels_of_colors
from crisscross.data.files.decoding import opened
from crisscross.data.files.folders import images_in
from crisscross.data.files.reading import read_mask
from crisscross.data.layouts.class_lists import class_list
from crisscross.data.layouts.folders import find_layout
from crisscross.data.layouts.reading import Drawings, Reading, drawn_folders, folder_keys
from crisscross.data.layouts.sources import MOST_TEXT, split_folders, split_of, text_files
from crisscross.data.layouts.values import Meaning, look_at_masks, meaning_of
from crisscross.errors import CrissCrossError
from crisscross.files import joined


def cvat_cityscapes(root: Path) -> Reading | None:
    """CVAT's Cityscapes export: `label_colors.txt` in the order of the ids, `gtFine/`, `imgsFine/leftImg8bit/`."""
    file, images, masks = root / "label_colors.txt", root / "imgsFine" / "leftImg8bit", root / "gtFine"
    if not (file.is_file() and images.is_dir() and masks.is_dir()):
        return None
    lines = [line.split() for line in read_text(file, MOST_TEXT).splitlines() if line.strip() and line[0] != "#"]
    if not all(len(line) > 3 for line in lines):
        raise CrissCrossError(f"{file}: must hold lines `red green blue name`")
    names = [" ".join(line[3:]) for line in lines]
    subsets = sorted(path.name for path in masks.iterdir() if path.is_dir() and (images / path.name).is_dir())
    if not subsets:
        raise CrissCrossError(f"{masks}: no folder in it has one of the same name in {images}; export with images")
    alone = len(subsets) == 1 and not split_of(subsets[0])
    splits = {"" if alone else split_of(name) or name: name for name in subsets}
    description = {
        "names": names,
        **folder_keys(
            {split: f"imgsFine/leftImg8bit/{name}" for split, name in splits.items()},
            {split: f"gtFine/{name}" for split, name in splits.items()},
        ),
        "image_suffix": "_leftImg8bit",
        "mask_suffix": "_gtFine_labelIds",
    }
    return Reading("CVAT Cityscapes", description, (f"label_colors.txt: {len(names)} classes by their line",))


def v7(root: Path) -> Reading | None:
    """V7's masks: `class_mapping.csv` with a number, a gray or a color for each class."""
    file = next(
        (path for path in (root / "class_mapping.csv", root / "masks" / "class_mapping.csv") if path.is_file()), None
    )
    if file is None:
        return None
    names, values = [], []
    for row in list(csv.reader(io.StringIO(read_text(file, MOST_TEXT))))[1:]:
        try:
            if row:
                names.append(row[0].strip())
                values.append(tuple(int(word) for word in row[1].split()))
        except (ValueError, IndexError):
            raise CrissCrossError(f"{file}: must hold lines `name, value` or `name, red green blue`") from None
    layout = find_layout(root)
    if layout is None or not names:
        raise CrissCrossError(f"{root}: {file.name} is there, but no folder of images; put them into images/")
    names = ["background" if name == "__background__" else name for name in names]
    description: dict[str, Any] = {"names": names, **folder_keys(layout.images, layout.masks)}
    if all(len(value) == 3 for value in values):
        description["palette"] = {name: list(color) for name, color in zip(names, values, strict=True)}
    elif all(len(value) == 1 for value in values):
        if (numbers := [value[0] for value in values]) != list(range(len(names))):
            description["labels"] = {value: number for number, value in enumerate(numbers)}
    else:
        raise CrissCrossError(f"{file}: must hold one number a class, or three")
    return Reading("V7", description, (f"{file.name}: {len(names)} classes",))


def nnunet(root: Path) -> Reading | None:
    """nnU-Net's raw data with 2D images: `dataset.json`, `imagesTr/NAME_0000.png`, `labelsTr/NAME.png`."""
    file, images, masks = root / "dataset.json", root / "imagesTr", root / "labelsTr"
    if not (file.is_file() and images.is_dir() and masks.is_dir()):
        return None
    tree = read_json(file)
    given = tree.get("labels") if isinstance(tree, dict) else None
    if not images_in(masks):
        raise CrissCrossError(f"{masks}: no PNG or TIFF images in it; volumes such as .nii.gz are not read")
    if any(not path.stem.endswith("_0000") for path in images_in(images)):
        raise CrissCrossError(f"{images}: only images of one file are read: NAME_0000.png, and no NAME_0001.png")
    if not isinstance(given, dict):
        raise CrissCrossError(f"{file}: `labels` must map names to numbers")
    try:
        # Older files map numbers to names.
        table = {name: number for number, name in given.items()} if all(key.isdecimal() for key in given) else given
        values = {str(name): int(number) for name, number in table.items()}
    except (TypeError, ValueError):
        raise CrissCrossError(f"{file}: `labels` must map each name to one number; regions are not read") from None
    ignored = values.pop("ignore", None)
    names = sorted(values, key=lambda name: values[name])
    description: dict[str, Any] = {"names": names, "images": "imagesTr", "masks": "labelsTr", "image_suffix": "_0000"}
    if ignored is not None or [values[name] for name in names] != list(range(len(names))):
        description["labels"] = {values[name]: number for number, name in enumerate(names)}
        description["labels"] |= {} if ignored is None else {ignored: "ignore"}
    return Reading("nnU-Net", description, (f"dataset.json: {len(names)} classes",))


def imagefolder(root: Path) -> Reading | None:
    """Hugging Face's imagefolder: `metadata.jsonl` or `metadata.csv` beside the images, with a column of masks."""
    files = [path for path in text_files(root, ".jsonl", ".csv") if path.stem == "metadata"]
    pairs: dict[Path, Path] = {}
    for file in files:
        for where, row in _rows(file):
            column = next((key for key in row if key != "file_name" and str(key).endswith("file_name")), None)
            if column is None or not isinstance(row.get("file_name"), str) or not isinstance(row[column], str):
                continue
            image, mask = joined(file.parent, row["file_name"]), joined(file.parent, row[column])
            if missing := next((path for path in (image, mask) if not path.is_file()), None):
                raise CrissCrossError(f"{where}: {missing} is not there")
            pairs[image] = mask
    if not pairs:
        return None
    found = meaning_of(look_at_masks(list(pairs.values())), class_list(root), str(root))
    draw: Drawings = {
        image.relative_to(root).with_suffix(".png").as_posix(): partial(_as_classes, mask, found)
        for image, mask in pairs.items()
    }
    note = f"{files[0].name}: {len(pairs)} images with masks, which are copied as class numbers"
    folders = drawn_folders(split_folders(draw))
    return Reading("imagefolder", {"names": list(found.classes), **folders}, (note, *found.notes), draw)


def _rows(file: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows of a metadata file, each with its place for messages."""
    text = read_text(file, MOST_TEXT)
    if file.suffix == ".csv":
        return [(f"{file}, row {n}", row) for n, row in enumerate(csv.DictReader(io.StringIO(text)), 2)]
    lines = [(f"{file}, line {n}", line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    rows = [(where, parse_json(line, where)) for where, line in lines]
    if wrong := next((where for where, row in rows if not isinstance(row, dict)), None):
        raise CrissCrossError(f'{wrong}: must be an object such as {{"file_name": ..., "mask_file_name": ...}}')
    return rows


def _as_classes(path: Path, found: Meaning) -> np.ndarray:
    """Class numbers uint8 [H, W] of a mask."""
    if found.colored:
        with opened(path, decode=True) as (image, _):
            labels = labels_of_colors(np.asarray(image.convert("RGB")), found.palette)
        if (labels < 0).any():
            raise CrissCrossError(f"{path}: holds colors that the first masks do not; list all as `palette`")
        return labels.astype(np.uint8)
    stored = read_mask(path)
    table = np.arange(256, dtype=np.uint8)
    for value, number in (found.labels or {}).items():
        table[value] = number
    if found.labels and (unknown := set(np.unique(stored).tolist()) - set(found.labels)):
        raise CrissCrossError(f"{path}: value {min(unknown)} is in none of the first masks")
    return table[stored]


# Asked in this order; each is told by files that no other layout has.
EXPORTS: Sequence[Callable[[Path], Reading | None]] = (cvat_cityscapes, v7, nnunet, imagefolder)
