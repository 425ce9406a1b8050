"""Turning what the data sets' sites hand out into masks of class numbers, for those that need it."""

from collections.abc import Callable
from pathlib import Path

from crisscross.config import hint
from crisscross.data.dataset import existing_folder
from crisscross.data.prepare.camvid32 import camvid32_jobs
from crisscross.data.prepare.cityscapes import cityscapes_jobs
from crisscross.data.prepare.coco_stuff import coco_stuff_jobs
from crisscross.data.prepare.voc import voc_jobs
from crisscross.data.prepare.work import Plan, Prepared, carry_out
from crisscross.errors import CrissCrossError

__all__ = ["NOT_NEEDED", "PREPARE", "Prepared", "prepare"]

# (data set's folder, folder to write to) -> what is to be done.
PREPARE: dict[str, Callable[[Path, Path], Plan]] = {
    "cityscapes": cityscapes_jobs,
    "cityscapes-coarse": cityscapes_jobs,
    "voc2012aug": voc_jobs,
    "camvid32": camvid32_jobs,
    "coco-stuff": coco_stuff_jobs,
}
NOT_NEEDED = ("ade20k", "voc2012", "lip", "camvid", "folder")


def prepare(name: str, root: Path, out: Path | None = None, workers: int = 1) -> Prepared:
    """Write the masks that a data set lacks; those that are there already are left alone.

    Args:
        name: a key of `PREPARE`.
        root: the data set's folder.
        out: where the new files go, in the same folders as below `root`; none means `root` itself.
        workers: processes that work side by side; 0 and 1 mean this one.

    Raises:
        CrissCrossError: a data set that needs nothing or is unknown, a missing file, folder or package, or a file that
            cannot be read or written. Files that are finished stay; the next run goes on from there.
    """
    if name in NOT_NEEDED:
        raise CrissCrossError(f"{name} needs no preparation; look at it with `crisscross data check {root}`")
    if name not in PREPARE:
        raise CrissCrossError(f"no preparation for {name!r}; {hint(name, PREPARE)}")
    root = existing_folder(root)
    return carry_out(name, PREPARE[name](root, out or root), workers)
