"""Pascal VOC 2012 segmentation: 21 classes, alone or with the labels of the Semantic Boundaries Dataset (SBD)."""

import os
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from crisscross.data.color import write_mask
from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.files.folders import needed_file, needed_folder, read_names
from crisscross.data.files.matlab import read_field
from crisscross.data.palette import class_names, voc_palette
from crisscross.data.sets.record import BuiltIn, Plan
from crisscross.errors import CrissCrossError
from crisscross.files import joined, output_path, write_text

CLASSES = class_names(
    """
    background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse,
    motorbike, person, pottedplant, sheep, sofa, train, tvmonitor
    """
)
PALETTE = voc_palette(len(CLASSES))
# All 256, so that viewers show the classes and the border around objects, 255 (ignored), as in VOC's own masks.
ALL_COLORS = voc_palette(256)
MASKS, AUGMENTED = "SegmentationClass", "SegmentationClassAug"
LISTS = Path("ImageSets", "Segmentation")
INSIDE = (Path(), Path("VOC2012"), Path("VOCdevkit", "VOC2012"))
# Where benchmark.tgz is usually unpacked, seen from VOC2012, from its VOCdevkit and from the folder above.
SBD_FOLDERS = ("benchmark_RELEASE/dataset", "VOCaug/dataset", "SBD", "sbd", "dataset")
# Images of train.txt and of aug.txt.
TRAIN, AUG = 1464, 9118
VOC_FIX = "it belongs to VOCtrainval_11-May-2012.tar"


def voc_folder(root: str | os.PathLike[str]) -> Path:
    """VOC2012 itself, also where its VOCdevkit or the folder above is given.

    Raises:
        CrissCrossError: there is no such folder.
    """
    root = existing_folder(root)
    for inside in INSIDE:
        if (root / inside / "JPEGImages").is_dir():
            return root / inside
    fix = "download VOCtrainval_11-May-2012.tar from the Pascal VOC site and unpack it; VOCdevkit/VOC2012 is its root"
    return needed_folder(root / "JPEGImages", fix)


def is_voc(root: Path, masks: str = MASKS) -> bool:
    """Whether a folder is VOC2012, or holds it, with masks in this folder and the lists of its splits.

    Labeling tools write the same folders: the names of VOC's own images begin with their year.
    """
    needed = ("JPEGImages", MASKS, masks)
    return any(
        all((root / inside / name).is_dir() for name in needed)
        and all((root / inside / LISTS / f"{split}.txt").is_file() for split in ("train", "val"))
        and next((root / inside / MASKS).glob("20[0-9][0-9]_[0-9][0-9][0-9][0-9][0-9][0-9].png"), None) is not None
        for inside in INSIDE
    )


def open_voc2012(root: str | os.PathLike[str]) -> DataSet:
    """Open Pascal VOC 2012 (Everingham et al. 2010): train 1,464, val 1,449, trainval 2,913 images.

    Raises:
        CrissCrossError: a missing folder or list, or a name that leads out of the folder.
    """
    root = voc_folder(root)
    names = ["train", "val", *(["trainval"] if (root / LISTS / "trainval.txt").is_file() else [])]
    return DataSet("voc2012", root, CLASSES, PALETTE, {name: _listed(root, name) for name in names})


def open_voc2012aug(root: str | os.PathLike[str]) -> DataSet:
    """Open Pascal VOC 2012 with the labels of SBD (Hariharan et al. 2011): train 10,582, val 1,449 images.

    `train` is train.txt (1,464, with VOC's own labels) followed by aug.txt (9,118, SegmentationClassAug). Where aug.txt
    is missing, a list trainaug.txt or train_aug.txt, as other packages provide, is read in its place, without the
    images of train.txt.

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
    return _pairs(root, read_names(root / LISTS / f"{split}.txt", VOC_FIX), MASKS)


def _pairs(root: Path, names: Iterable[str], masks: str) -> tuple[Pair, ...]:
    images, labels = root / "JPEGImages", root / masks
    return tuple(Pair(name, joined(images, f"{name}.jpg"), joined(labels, f"{name}.png")) for name in names)


def sbd_plan(root: Path, out: Path) -> Plan:
    """SBD's `cls/*.mat` -> palette PNGs in SegmentationClassAug, and `aug.txt`.

    aug.txt lists the images of SBD's train.txt and val.txt that are in neither VOC's train.txt nor its val.txt.

    Raises:
        CrissCrossError: VOC, SBD or one of their lists is missing, a list names a file elsewhere, or another `aug.txt`
            is there.
    """
    voc = voc_folder(root)
    sbd = _sbd_folder(root, voc)
    # A list may name an image twice.
    train, val = (dict.fromkeys(read_names(voc / LISTS / f"{split}.txt", VOC_FIX)) for split in ("train", "val"))
    sbd_fix = "it belongs to benchmark.tgz of the Semantic Boundaries Dataset"
    named = {name for split in ("train", "val") for name in read_names(sbd / f"{split}.txt", sbd_fix)}
    augmented = sorted(named - {*train, *val})
    target = out / voc.relative_to(root)
    jobs = {
        output_path(target / AUGMENTED, f"{name}.png"): partial(from_mat, joined(sbd / "cls", f"{name}.mat"))
        for name in augmented
    }
    listed = output_path(target / LISTS, "aug.txt")
    if listed.is_file() and set(read_names(listed, "")) != set(augmented):
        raise CrissCrossError(f"{listed}: lists other images than SBD's; move it away and type the same again")
    line = f"train of voc2012aug: {len(train) + len(augmented):,} = {len(train):,} + {len(augmented):,} images"
    if (len(train), len(augmented)) != (TRAIN, AUG):
        line = f"warning: {line}; the published ones are {TRAIN + AUG:,} = {TRAIN:,} + {AUG:,}"
    return Plan(jobs, partial(write_text, listed, "\n".join(augmented) + "\n"), (line,))


def _sbd_folder(root: Path, voc: Path) -> Path:
    """The folder of SBD that holds cls/, train.txt and val.txt."""
    for above in dict.fromkeys((root, voc, voc.parent, voc.parent.parent)):
        for folder in SBD_FOLDERS:
            if (above / folder / "cls").is_dir():
                return above / folder
    fix = "unpack benchmark.tgz of the Semantic Boundaries Dataset (SBD) beside VOCdevkit or in it"
    return needed_folder(root / SBD_FOLDERS[0] / "cls", fix)


def from_mat(source: Path, target: Path) -> int:
    """Write the labels `GTcls.Segmentation` of one .mat file as a palette PNG.

    Raises:
        CrissCrossError: missing or unreadable, or labels that are not VOC's.
    """
    needed_file(source, "SBD's lists name it: unpack benchmark.tgz again")
    try:
        labels = read_field(source, "GTcls", "Segmentation")
    except (OSError, ValueError) as error:
        raise CrissCrossError(f"{source}: not a .mat file of SBD with GTcls.Segmentation: {error}") from None
    legal = labels.dtype.kind in "iu" and set(np.unique(labels).tolist()) <= {*range(len(CLASSES)), 255}
    if labels.ndim != 2 or not legal:
        raise CrissCrossError(f"{source}: GTcls.Segmentation must hold class numbers 0..{len(CLASSES) - 1} [H, W]")
    write_mask(target, labels.astype(np.uint8), ALL_COLORS)
    return 0


VOC2012 = BuiltIn(
    *(open_voc2012, is_voc, CLASSES, PALETTE),
    published={"train": TRAIN, "val": 1449, "trainval": 2913},
    folder="results/VOC2012/Segmentation/comp6_val_cls",
    colors=ALL_COLORS,
)
VOC2012AUG = replace(
    VOC2012,
    open=open_voc2012aug,
    recognize=partial(is_voc, masks=AUGMENTED),
    published={"train": TRAIN + AUG, "val": 1449},
    prepare=sbd_plan,
    when="needed",
)
