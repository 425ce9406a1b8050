"""Pascal VOC 2012 segmentation: 21 classes, alone or with the labels of the Semantic Boundaries Dataset."""

import os
from collections.abc import Iterable
from pathlib import Path

from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.files.folders import needed_folder, read_names
from crisscross.data.palette import voc_palette
from crisscross.files import joined

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
PALETTE = voc_palette(len(CLASSES))
# 255 is the border around objects, which counts nowhere.
MASKS, AUGMENTED = "SegmentationClass", "SegmentationClassAug"
LISTS = Path("ImageSets", "Segmentation")


def voc_folder(root: str | os.PathLike[str]) -> Path:
    """VOC2012 itself, also where its VOCdevkit or the folder above is given.

    Raises:
        CrissCrossError: there is no such folder.
    """
    root = existing_folder(root)
    for inside in (Path(), Path("VOC2012"), Path("VOCdevkit", "VOC2012")):
        if (root / inside / "JPEGImages").is_dir():
            return root / inside
    fix = "download VOCtrainval_11-May-2012.tar from the Pascal VOC site and unpack it; VOCdevkit/VOC2012 is its root"
    return needed_folder(root / "JPEGImages", fix)


def is_voc(root: Path) -> bool:
    """Whether a folder is VOC2012 or holds it."""
    return any(
        (root / inside / "JPEGImages").is_dir() and (root / inside / MASKS).is_dir()
        for inside in (Path(), Path("VOC2012"), Path("VOCdevkit", "VOC2012"))
    )


def is_voc_aug(root: Path) -> bool:
    """Whether a folder is VOC2012, or holds it, and the additional labels are there."""
    return is_voc(root) and (voc_folder(root) / AUGMENTED).is_dir()


def open_voc2012(root: str | os.PathLike[str]) -> DataSet:
    """Open Pascal VOC 2012 (Everingham et al. 2010): train 1,464, val 1,449, trainval 2,913 images.

    Raises:
        CrissCrossError: a missing folder or list, or a name that leads out of the folder.
    """
    root = voc_folder(root)
    splits = {"train": _listed(root, "train"), "val": _listed(root, "val")}
    if (root / LISTS / "trainval.txt").is_file():
        splits["trainval"] = _listed(root, "trainval")
    return DataSet("voc2012", root, CLASSES, PALETTE, splits)


def open_voc2012aug(root: str | os.PathLike[str]) -> DataSet:
    """Open Pascal VOC 2012 with the labels of SBD (Hariharan et al. 2011): train 10,582, val 1,449 images.

    `train` is train.txt (1,464, with VOC's own labels) followed by aug.txt (9,118, SegmentationClassAug). Where aug.txt
    is missing, what a list trainaug.txt or train_aug.txt, as others hand out, holds beyond train.txt serves.

    Raises:
        CrissCrossError: a missing folder or list, or a name that leads out of the folder.
    """
    root = voc_folder(root)
    fix = f"type `crisscross data prepare voc2012aug {root}`"
    needed_folder(root / AUGMENTED, fix)
    train = _listed(root, "train")
    own = {pair.name for pair in train}
    lists = [root / LISTS / f"{name}.txt" for name in ("aug", "trainaug", "train_aug")]
    found = next((path for path in lists if path.is_file()), lists[0])
    # Some lists name the image's file in place of the image.
    names = [name for name in (Path(word).stem for word in read_names(found, fix)) if name not in own]
    splits = {"train": train + _pairs(root, names, AUGMENTED), "val": _listed(root, "val")}
    return DataSet("voc2012aug", root, CLASSES, PALETTE, splits)


def _listed(root: Path, split: str) -> tuple[Pair, ...]:
    fix = "it belongs to VOCtrainval_11-May-2012.tar and lists the names of the images, one a line"
    return _pairs(root, read_names(root / LISTS / f"{split}.txt", fix), MASKS)


def _pairs(root: Path, names: Iterable[str], masks: str) -> tuple[Pair, ...]:
    images, labels = root / "JPEGImages", root / masks
    return tuple(Pair(name, joined(images, f"{name}.jpg"), joined(labels, f"{name}.png")) for name in names)
