"""The Semantic Boundaries Dataset as additional labels of Pascal VOC 2012."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from crisscross.data.files.folders import needed_file, needed_folder, read_names
from crisscross.data.files.reading import read_mask
from crisscross.data.palette import voc_palette
from crisscross.data.prepare.mat import read_field
from crisscross.data.prepare.work import Job, Plan, unique_targets, write_mask
from crisscross.data.sets.voc import AUGMENTED, CLASSES, LISTS, MASKS, voc_folder
from crisscross.errors import CrissCrossError
from crisscross.files import joined, output_path, write_text

# Where benchmark.tgz is usually unpacked, seen from VOC2012, from its VOCdevkit and from the folder above.
PLACES = ("benchmark_RELEASE/dataset", "VOCaug/dataset", "SBD", "sbd", "dataset")
TRAIN, AUG = 1464, 9118
PALETTE = voc_palette(256)


def voc_jobs(root: Path, out: Path) -> Plan:
    """SBD's `cls/*.mat` -> palette PNGs in SegmentationClassAug, VOC's own train masks beside them, and `aug.txt`.

    aug.txt lists the images of SBD's train.txt and val.txt that are in neither VOC's train.txt nor its val.txt.

    Raises:
        CrissCrossError: VOC, SBD or one of their lists is missing, a list names a file elsewhere, or an `aug.txt` of
            others is there.
    """
    voc = voc_folder(root)
    sbd = _sbd(root, voc)
    voc_fix = "it belongs to VOCtrainval_11-May-2012.tar"
    train, val = (read_names(voc / LISTS / f"{split}.txt", voc_fix) for split in ("train", "val"))
    sbd_fix = "it belongs to benchmark.tgz of the Semantic Boundaries Dataset"
    named = {name for split in ("train", "val") for name in read_names(sbd / f"{split}.txt", sbd_fix)}
    augmented = sorted(named - {*train, *val})
    target = out / voc.relative_to(root)
    jobs = [
        Job(output_path(target / AUGMENTED, f"{name}.png"), partial(from_mat, joined(sbd / "cls", f"{name}.mat")))
        for name in augmented
    ]
    jobs += [
        Job(output_path(target / AUGMENTED, f"{name}.png"), partial(own, joined(voc / MASKS, f"{name}.png")))
        for name in train
    ]
    listed = output_path(target / LISTS, "aug.txt")
    _refuse_other_list(listed, augmented)
    line = f"train of voc2012aug: {len(train) + len(augmented):,} = {len(train):,} + {len(augmented):,} images"
    if (len(train), len(augmented)) != (TRAIN, AUG):
        line = f"warning: {line}; the published ones are {TRAIN + AUG:,} = {TRAIN:,} + {AUG:,}"
    return Plan(unique_targets(jobs), partial(write_text, listed, "\n".join(augmented) + "\n"), (line,))


def _refuse_other_list(path: Path, names: Sequence[str]) -> None:
    if path.is_file() and set(read_names(path, "")) != set(names):
        raise CrissCrossError(f"{path}: lists other images than SBD's; move it away and type the same again")


def _sbd(root: Path, voc: Path) -> Path:
    """The folder of SBD that holds cls/, train.txt and val.txt."""
    for above in dict.fromkeys((root, voc, voc.parent, voc.parent.parent)):
        for place in PLACES:
            if (above / place / "cls").is_dir():
                return above / place
    fix = "unpack benchmark.tgz of the Semantic Boundaries Dataset (SBD) beside VOCdevkit or in it"
    return needed_folder(root / PLACES[0] / "cls", fix)


def from_mat(source: Path, target: Path) -> int:
    """Write the labels `GTcls.Segmentation` of one .mat file as a palette PNG.

    Raises:
        CrissCrossError: missing or unreadable, or labels that are not VOC's.
    """
    labels = _segmentation(source)
    if (
        labels.ndim != 2
        or labels.dtype.kind not in "iu"
        or not set(np.unique(labels).tolist()) <= {*range(len(CLASSES)), 255}
    ):
        raise CrissCrossError(f"{source}: GTcls.Segmentation must hold class numbers 0..{len(CLASSES) - 1} [H, W]")
    write_mask(target, labels.astype(np.uint8), PALETTE)
    return 0


def _segmentation(source: Path) -> np.ndarray:
    needed_file(source, "SBD's lists name it: unpack benchmark.tgz again")
    try:
        return read_field(source, "GTcls", "Segmentation")
    except (OSError, ValueError) as error:
        raise CrissCrossError(f"{source}: not a .mat file of SBD with GTcls.Segmentation: {error}") from error


def own(source: Path, target: Path) -> int:
    """Write VOC's own mask again.

    Raises:
        CrissCrossError: missing or unreadable.
    """
    write_mask(target, read_mask(source), PALETTE)
    return 0
