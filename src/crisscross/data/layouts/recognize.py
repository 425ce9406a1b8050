"""Which format a folder is in: one function a format, asked in order."""

import csv
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.config.documents import read_text
from crisscross.data.check.mixups import swapped
from crisscross.data.cures import create
from crisscross.data.dataset import Pair
from crisscross.data.files.folders import images_in
from crisscross.data.layouts.class_lists import class_list
from crisscross.data.layouts.drawing import image_size
from crisscross.data.layouts.folders import Layout, find_layout
from crisscross.data.layouts.formats.coco import coco
from crisscross.data.layouts.formats.exports import EXPORTS
from crisscross.data.layouts.formats.label_studio import label_studio
from crisscross.data.layouts.formats.tools import labelme_reading, supervisely_reading
from crisscross.data.layouts.formats.yolo import ultralytics, yolo
from crisscross.data.layouts.lists import lists_pairs
from crisscross.data.layouts.reading import DAMAGE, Drawings, Reading, drawn_folders, folder_keys
from crisscross.data.layouts.sources import MOST_TEXT
from crisscross.data.layouts.values import IGNORE, MOST_COLORS, UnclearError, look_at_masks, meaning_of
from crisscross.data.layouts.vocabulary import BACKGROUNDS, SPLITS, meaning
from crisscross.errors import CrissCrossError


def recognize(root: Path) -> Reading | None:
    """How a folder is read, None where it holds no images with masks.

    Raises:
        CrissCrossError: more than one reading is possible, or the format is damaged.
    """
    tools = (
        ultralytics,
        roboflow,
        supervisely_reading,
        cvat_camvid,
        *EXPORTS,
        coco,
        labelme_reading,
        label_studio,
        yolo,
    )
    for reading in tools:
        try:
            found = reading(root)
        except DAMAGE as error:
            raise CrissCrossError(f"{root}: a damaged export ({reading.__name__}: {error!r:.100})") from None
        if found:
            return found
    return masks_in_folders(root)


def masks_in_folders(root: Path) -> Reading | None:
    """Folders of images and masks by their names; classes from a file that lists them, or from the values."""
    lists = _split_lists(root)
    layout = find_layout(root, paired=any(lists_pairs(root / path) for path in lists.values()))
    if layout is None:
        return None
    if layout.per_class:
        return _class_masks(root, layout)
    listed = class_list(root)
    files = [path for folder in dict.fromkeys(layout.masks.values()) for path in _mask_files(root, layout, folder)]
    where: dict[str, Any] = folder_keys(layout.images, layout.masks)
    where |= {
        key: value
        for key, value in (("image_suffix", layout.image_suffix), ("mask_suffix", layout.mask_suffix))
        if value
    }
    try:
        found = meaning_of(look_at_masks(files), listed, str(root))
    except CrissCrossError as error:
        if exchanged := _exchanged(root, layout, files):
            raise CrissCrossError(exchanged) from None
        if isinstance(error, UnclearError) and error.keys:
            raise CrissCrossError(f"{error}: {create(root, {'names': [], **where, **error.keys})}") from None
        raise
    description: dict[str, Any] = {"names": list(found.classes), **where}
    if found.labels is not None:
        description["labels"] = {
            value: "ignore" if number == IGNORE else number for value, number in found.labels.items()
        }
    if found.colored:
        description["palette"] = {name: list(color) for name, color in zip(found.classes, found.palette, strict=True)}
    if lists:
        description["splits"] = lists
    shown = ", ".join(
        f"{folder or '.'}/" for folder in dict.fromkeys([*layout.images.values(), *layout.masks.values()])
    )
    # Names that a person listed are meant; a table of colors often comes from elsewhere.
    meant = listed.file if listed.names and listed.palette is None else ""
    notes = (f"images and masks in {shown}", *layout.notes, *found.notes)
    return Reading("images and masks", description, notes, names_file=meant)


def _exchanged(root: Path, layout: Layout, masks: Sequence[Path]) -> str:
    """That images and masks were exchanged, as an error; empty where they were not."""
    folder = root / next(iter(layout.images.values()))
    images = [path for path in images_in(folder, deep=True) if path not in masks]
    pairs = [Pair(image.name, image, mask) for image, mask in zip(images, masks, strict=False)]
    problem = swapped(pairs)
    return f"{problem.file}: {problem.text}" if problem else ""


def _mask_files(root: Path, layout: Layout, folder: str) -> list[Path]:
    end, _, kind = layout.mask_suffix.partition(".")
    together = folder in layout.images.values()
    return [
        path
        for path in images_in(root / folder, deep=True)
        if path.stem.endswith(end) and (not together or end or path.suffix == f".{kind}")
    ]


def _split_lists(root: Path) -> dict[str, str]:
    """Lists of splits: ImageSets/Segmentation of Pascal VOC, train_list.txt of PaddleSeg, valid.txt."""
    for folder, end in (("", ".txt"), ("ImageSets/Segmentation", ".txt"), ("", "_list.txt")):
        found = {
            split: f"{folder}/{word}{end}".lstrip("/")
            for split, words in SPLITS.items()
            for word in sorted(words)
            if (root / folder / f"{word}{end}").is_file()
        }
        # A list beside others that has one name, test.txt say, can be of anything.
        if "train" in found or "val" in found:
            return found
    return {}


def _class_masks(root: Path, layout: Layout) -> Reading:
    """One binary mask for each class, in a folder of the class: put together, later classes over earlier ones."""
    draw: Drawings = {}
    classes = [name for name in layout.per_class if name.strip("_").lower() not in BACKGROUNDS]
    for split, folder in layout.images.items():
        masks = root / (layout.masks.get(split) or layout.masks[""])
        mask_of = [
            {path.relative_to(masks / name).with_suffix(""): path for path in images_in(masks / name, deep=True)}
            for name in classes
        ]
        # Masks that cannot be read as they are have a cure, which is told before any is drawn.
        look_at_masks([path for found in mask_of for path in found.values()])
        for image in images_in(root / folder, deep=True):
            stem = image.relative_to(root / folder).with_suffix("")
            parts = [found.get(stem) for found in mask_of]
            draw[image.relative_to(root).with_suffix(".png").as_posix()] = partial(_joined_masks, image, parts)
    description = {"names": ["background", *classes], **drawn_folders(layout.images)}
    note = (
        f"one mask for each of {', '.join(classes)}: put together, later ones over earlier ones; the rest is background"
    )
    return Reading("a mask for each class", description, (note,), draw)


def _joined_masks(image: Path, parts: Sequence[Path | None]) -> np.ndarray:
    from crisscross.data.files.reading import read_mask

    labels = np.zeros(image_size(image), np.uint8)
    for number, path in enumerate(parts, 1):
        if path is not None:
            mask = read_mask(path)
            if mask.shape != labels.shape:
                raise CrissCrossError(f"{path}: is {mask.shape[::-1]}, its image {labels.shape[::-1]}")
            if 1 < mask.max(initial=0) <= MOST_COLORS:
                raise CrissCrossError(
                    f"{path}: holds values up to {mask.max()}, but masks of one class hold 0 and 255, or 0 and 1"
                )
            labels[mask > (127 if mask.max(initial=0) > 1 else 0)] = number
    return labels


def roboflow(root: Path) -> Reading | None:
    """Roboflow's semantic masks: `_classes.csv` in each split, masks beside their images as NAME_mask.png."""
    files = sorted([*root.glob("_classes.csv"), *root.glob("*/_classes.csv")])
    if not files:
        return None
    rows = list(csv.reader(io.StringIO(read_text(files[0], MOST_TEXT))))[1:]
    try:
        table = {int(row[0]): row[1].strip() for row in rows if row}
    except (ValueError, IndexError) as error:
        raise CrissCrossError(f"{files[0]}: must hold lines `value, class` ({error})") from None
    images = {}
    for file in files:
        folder = file.parent.relative_to(root).as_posix()
        images["" if folder == "." else meaning(folder).split or folder] = folder
    names = [table[value] for value in sorted(table)]
    description: dict[str, Any] = {"names": names, **folder_keys(images, images), "mask_suffix": "_mask"}
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
    palette = class_list(root).palette or {}
    masks = {split: f"{name}annot" for split, name in images.items()}
    description = {
        "names": list(palette),
        "palette": {name: list(color) for name, color in palette.items()},
        **folder_keys(images, masks),
    }
    return Reading("CVAT CamVid", description, (f"label_colors.txt: {len(palette)} classes by color",))
