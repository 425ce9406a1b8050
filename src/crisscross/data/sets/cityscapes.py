"""Cityscapes: `leftImg8bit/SPLIT/CITY/*.png` with fine (`gtFine`) or coarse (`gtCoarse`) labels of 19 classes."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from crisscross.data.color import write_mask
from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.files.folders import absent, images_in, needed_folder
from crisscross.data.files.reading import read_mask
from crisscross.data.palette import class_names, hex_palette
from crisscross.data.sets.record import BuiltIn, Job, Plan
from crisscross.errors import CrissCrossError
from crisscross.files import output_path

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
        note = f"{left_out} is left out: it has no {end}; type `crisscross data prepare {name} {root}`"
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


def train_id_plan(root: Path, out: Path) -> Plan:
    """`*_labelTrainIds.png` for every `*_labelIds.png`, fine and coarse.

    Raises:
        CrissCrossError: there are no label ids.
    """
    kinds = [kind for kind in (FINE, COARSE) if (root / kind).is_dir()]
    files = [path for kind in kinds for path in images_in(root / kind, f"_{kind}_{LABEL_IDS_END}", deep=True)]
    if not files:
        raise CrissCrossError(
            f"{root}: no *_{LABEL_IDS_END} in {FINE}/ or {COARSE}/; unpack gtFine_trainvaltest.zip of Cityscapes here"
        )
    names = [path.name.removesuffix(LABEL_IDS_END) + TRAIN_IDS_END for path in files]
    targets = [path.relative_to(root).with_name(name) for path, name in zip(files, names, strict=True)]
    pairs = zip(targets, files, strict=True)
    return Plan([Job(output_path(out, target), partial(to_train_ids, file)) for target, file in pairs])


def to_train_ids(source: Path, target: Path) -> int:
    """Write the train ids of one file of label ids.

    Raises:
        CrissCrossError: unreadable, or a value that is not a label id.
    """
    labels = read_mask(source)
    if unknown := set(np.unique(labels).tolist()) - TRAIN_ID_OF.keys():
        raise CrissCrossError(f"{source}: value {min(unknown)}, but the label ids of Cityscapes are 0..33")
    table = np.full(256, 255, np.uint8)
    table[list(TRAIN_ID_OF)] = list(TRAIN_ID_OF.values())
    write_mask(target, table[labels])
    return 0


CITYSCAPES = BuiltIn(
    *(open_cityscapes, is_cityscapes, CLASSES, PALETTE),
    published=PUBLISHED[FINE],
    prepare=train_id_plan,
    when="optional",
    stored=LABEL_IDS,
    prediction="{name}_pred_labelIds.png",
)
CITYSCAPES_COARSE = replace(
    CITYSCAPES,
    open=partial(open_cityscapes, kind=COARSE),
    recognize=partial(is_cityscapes, kind=COARSE),
    published=PUBLISHED[COARSE],
)
