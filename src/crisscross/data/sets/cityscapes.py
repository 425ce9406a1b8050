"""Cityscapes: `leftImg8bit/SPLIT/CITY/*.png` with fine (`gtFine`) or coarse (`gtCoarse`) labels of 19 classes."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.files.folders import absent, images_in, needed_folder
from crisscross.data.palette import class_names, hex_palette
from crisscross.data.sets.record import BuiltIn

# In the order of the train ids, 0..18.
CLASSES = class_names(
    """
    road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person,
    rider, car, truck, bus, train, motorcycle, bicycle
    """
)
PALETTE = hex_palette(
    """
    804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 dc143c ff0000 00008e 000046 003c64
    005064 0000e6 770b20
    """
)
# The label id of each train id; all other ids, 0..33, are ignored.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# From stored label id to train id. License plates have the id -1, which is never drawn; 255 occurs in train ids only.
TRAIN_ID_OF = {label: LABEL_IDS.index(label) if label in LABEL_IDS else 255 for label in range(34)}

IMAGES, IMAGE_END = "leftImg8bit", "_leftImg8bit.png"
FINE, COARSE = "gtFine", "gtCoarse"
PUBLISHED = {
    FINE: {"train": 2975, "val": 500, "test": 1525},
    COARSE: {"train": 2975, "train_extra": 19998, "val": 500},
}
TRAIN_IDS_END, LABEL_IDS_END = "labelTrainIds.png", "labelIds.png"


def is_cityscapes(root: Path, kind: str = FINE) -> bool:
    """Whether a folder has this layout, with labels of this kind."""
    return (root / IMAGES).is_dir() and (root / kind).is_dir()


def open_cityscapes(root: str | os.PathLike[str], kind: str = FINE) -> DataSet:
    """Open Cityscapes (Cordts et al. 2016).

    With its fine labels it has train 2,975, val 500, test 1,525 images, with its coarse ones train 2,975,
    train_extra 19,998, val 500.

    Reads `*_labelTrainIds.png` where every image has one, else `*_labelIds.png` through the official table. The fine
    labels of the test split are dummies without any class: it can be labeled, not scored.

    Raises:
        CrissCrossError: a missing folder.
    """
    root, name = existing_folder(root), "cityscapes" if kind == FINE else "cityscapes-coarse"
    fix = f"download {IMAGES}_*.zip and {kind}*.zip from cityscapes-dataset.com and unpack both into {root}"
    needed_folder(root / IMAGES, fix)
    needed_folder(root / kind, fix)
    files = {
        split: images_in(root / IMAGES / split, IMAGE_END, deep=True)
        for split in PUBLISHED[kind]
        if (root / IMAGES / split).is_dir() and (root / kind / split).is_dir()
    }
    end, left_out = _label_files(root, kind, files)
    splits = {
        split: tuple(Pair(_name(image), image, _mask(root, kind, end, image)) for image in images)
        for split, images in files.items()
        if split != left_out
    }
    note = absent(root, {split: (f"{IMAGES}/{split}", f"{kind}/{split}") for split in PUBLISHED[kind]})
    if left_out:
        note = f"{left_out} is left out: it has no {end}"
    labels = None if end == TRAIN_IDS_END else TRAIN_ID_OF
    return DataSet(name, root, CLASSES, PALETTE, splits, note=note, labels=labels)


def _label_files(root: Path, kind: str, files: dict[str, list[Path]]) -> tuple[str, str]:
    """The ending of the label files to read, and `test` where that split alone lacks them.

    A data set has one table of label values, so the two kinds are never mixed.
    """
    lacking = {
        end: {
            split for split, some in files.items() if not all(_mask(root, kind, end, file).is_file() for file in some)
        }
        for end in (TRAIN_IDS_END, LABEL_IDS_END)
    }
    for allowed in (set(), {"test"}):
        for end, splits in lacking.items():
            if splits <= allowed:
                return end, "".join(splits)
    return LABEL_IDS_END, ""


def _name(image: Path) -> str:
    return image.name.removesuffix(IMAGE_END)


def _mask(root: Path, kind: str, end: str, image: Path) -> Path:
    return root / kind / image.parent.relative_to(root / IMAGES) / f"{_name(image)}_{kind}_{end}"


CITYSCAPES = BuiltIn(
    *(open_cityscapes, is_cityscapes, CLASSES, PALETTE),
    published=PUBLISHED[FINE],
    stored=LABEL_IDS,
    ending="_pred_labelIds.png",
)
CITYSCAPES_COARSE = replace(
    CITYSCAPES,
    open=partial(open_cityscapes, kind=COARSE),
    recognize=partial(is_cityscapes, kind=COARSE),
    published=PUBLISHED[COARSE],
)
