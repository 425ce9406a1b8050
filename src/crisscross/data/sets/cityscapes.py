"""Cityscapes: `leftImg8bit/SPLIT/CITY/*.png` with fine (`gtFine`) or coarse (`gtCoarse`) labels of 19 classes."""

import os
from pathlib import Path

from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.files.folders import absent, images_in, needed_folder
from crisscross.data.palette import hex_palette

# The order is that of the train ids, 0..18.
CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
PALETTE = hex_palette(
    "804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046 003c64 "
    "005064 0000e6 770b20"
)
# The label id of each train id; all other ids, 0..33, count nowhere.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
ALL_LABEL_IDS = 34
# From stored label id to train id. License plates have the id -1, which is never drawn: 255 gives train ids away.
TRAIN_ID_OF = {label: LABEL_IDS.index(label) if label in LABEL_IDS else 255 for label in range(ALL_LABEL_IDS)}

IMAGES, IMAGE_END = "leftImg8bit", "_leftImg8bit.png"
FINE, COARSE = "gtFine", "gtCoarse"
SPLITS = {FINE: ("train", "val", "test"), COARSE: ("train", "train_extra", "val")}
TRAIN_IDS_END, LABEL_IDS_END = "labelTrainIds.png", "labelIds.png"


def is_cityscapes(root: Path) -> bool:
    """Whether a folder has this layout, with fine labels."""
    return (root / IMAGES).is_dir() and (root / FINE).is_dir()


def is_cityscapes_coarse(root: Path) -> bool:
    """Whether a folder has this layout, with coarse labels."""
    return (root / IMAGES).is_dir() and (root / COARSE).is_dir()


def open_cityscapes(root: str | os.PathLike[str]) -> DataSet:
    """Open Cityscapes (Cordts et al. 2016) with its fine labels: train 2,975, val 500, test 1,525 images.

    Reads `*_gtFine_labelTrainIds.png` where every image has one, else `*_gtFine_labelIds.png` through the official
    table. The labels of the test split are dummies without any class: it can be labeled, not scored.

    Raises:
        CrissCrossError: a missing folder.
    """
    return _open(existing_folder(root), "cityscapes", FINE)


def open_cityscapes_coarse(root: str | os.PathLike[str]) -> DataSet:
    """Open Cityscapes with its coarse labels: train 2,975, train_extra 19,998, val 500 images.

    Raises:
        CrissCrossError: a missing folder.
    """
    return _open(existing_folder(root), "cityscapes-coarse", COARSE)


def _open(root: Path, name: str, kind: str) -> DataSet:
    fix = f"download {IMAGES}_*.zip and {kind}*.zip from cityscapes-dataset.com and unpack both into {root}"
    needed_folder(root / IMAGES, fix)
    needed_folder(root / kind, fix)
    files = {
        split: images_in(root / IMAGES / split, IMAGE_END, deep=True)
        for split in SPLITS[kind]
        if (root / IMAGES / split).is_dir() and (root / kind / split).is_dir()
    }
    end, left_out = _stored_as(root, kind, files)
    splits = {
        split: tuple(_pair(root, kind, end, image) for image in images)
        for split, images in files.items()
        if split != left_out
    }
    labels = None if end == TRAIN_IDS_END else TRAIN_ID_OF
    note = absent(root, {split: (f"{IMAGES}/{split}", f"{kind}/{split}") for split in SPLITS[kind]})
    if left_out:
        note = f"{left_out} is left out: it has no {end}; type `crisscross data prepare {name} {root}`"
    return DataSet(name, root, CLASSES, PALETTE, splits, note=note, labels=labels)


def _stored_as(root: Path, kind: str, files: dict[str, list[Path]]) -> tuple[str, str]:
    """The ending of the label files that serve, and `test` where that split alone lacks them.

    One data set has one table of label values, so the two kinds are never mixed.
    """
    lacking = {
        end: {
            split for split, some in files.items() if not all(_mask(root, kind, end, file).is_file() for file in some)
        }
        for end in (TRAIN_IDS_END, LABEL_IDS_END)
    }
    for end, splits in lacking.items():
        if not splits:
            return end, ""
    for end, splits in lacking.items():
        if splits == {"test"}:
            return end, "test"
    return LABEL_IDS_END, ""


def _mask(root: Path, kind: str, end: str, image: Path) -> Path:
    stem = image.name.removesuffix(IMAGE_END)
    return root / kind / image.parent.relative_to(root / IMAGES) / f"{stem}_{kind}_{end}"


def _pair(root: Path, kind: str, end: str, image: Path) -> Pair:
    return Pair(image.name.removesuffix(IMAGE_END), image, _mask(root, kind, end, image))
