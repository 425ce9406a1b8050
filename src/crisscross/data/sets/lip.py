"""Look Into Person: people cut out of images, 20 classes of body parts and clothes."""

import os
from pathlib import Path

from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.files.folders import absent, either_form, images_in, needed_folder, pairs_of, read_names
from crisscross.data.palette import class_names, hex_palette
from crisscross.data.sets.record import BuiltIn
from crisscross.files import joined

CLASSES = class_names(
    """
    Background, Hat, Hair, Glove, Sunglasses, UpperClothes, Dress, Coat, Socks, Pants, Jumpsuits, Scarf, Skirt,
    Face, Left-arm, Right-arm, Left-leg, Right-leg, Left-shoe, Right-shoe
    """
)
PALETTE = hex_palette(
    """
    000000 800000 ff0000 005500 aa0033 ff5500 000055 0077dd 555500 005555 553300 345680 008000 0000ff 33aadd 00ffff
    55ffaa aaff55 ffff00 ffaa00
    """
)
FLIP_PAIRS = ((14, 15), (16, 17), (18, 19))
PUBLISHED = {"train": 30462, "val": 10000}


def is_lip(root: Path) -> bool:
    """Whether a folder has this layout."""
    return any(
        (root / f"{split}_images").is_dir() and (root / f"{split}_segmentations").is_dir() for split in PUBLISHED
    )


def open_lip(root: str | os.PathLike[str]) -> DataSet:
    """Open LIP (Gong et al. 2017): `SPLIT_images/*.jpg`, `SPLIT_segmentations/*.png`; train 30,462, val 10,000.

    A list `SPLIT_id.txt` chooses the images and their order; without it all are taken. Every value is a class,
    background included; 255 is ignored. Left and right are exchanged in mirrored images.

    Raises:
        CrissCrossError: a missing folder.
    """
    root = existing_folder(root)
    fix = f"unpack the single-person LIP into {root}: train_images/, train_segmentations/, val_images/ ..."
    present = [split for split in PUBLISHED if (root / f"{split}_images").is_dir()]
    if not present:
        needed_folder(root / "train_images", fix)
    splits = {split: _pairs(root, split, fix) for split in present}
    note = absent(root, {split: (f"{split}_images",) for split in PUBLISHED})
    return DataSet("lip", root, CLASSES, PALETTE, splits, note=note, flip_pairs=FLIP_PAIRS)


def _pairs(root: Path, split: str, fix: str) -> tuple[Pair, ...]:
    folder, masks = root / f"{split}_images", needed_folder(root / f"{split}_segmentations", fix)
    listed = root / f"{split}_id.txt"
    if not listed.is_file():
        return pairs_of(images_in(folder), masks)
    names = [name.removesuffix(".jpg") for name in read_names(listed, fix)]
    return pairs_of([either_form(joined(folder, f"{name}.jpg")) for name in names], masks)


LIP = BuiltIn(open_lip, is_lip, CLASSES, PALETTE, FLIP_PAIRS, PUBLISHED)
