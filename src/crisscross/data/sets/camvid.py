"""CamVid, 11 classes, in the layout of the SegNet tutorial: `train/ trainannot/ val/ valannot/ test/ testannot/`."""

import os
from pathlib import Path

from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.files.folders import either_form, images_in
from crisscross.data.sets.camvid32 import TO_11, camvid32_splits, is_camvid32
from crisscross.errors import CrissCrossError

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
PALETTE = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
# The annotation's own value for "unlabeled".
VOID = 11
SPLITS = ("train", "val", "test")


def is_camvid(root: Path) -> bool:
    """Whether a folder has this layout."""
    return (root / "train").is_dir() and (root / "trainannot").is_dir()


def open_camvid(root: str | os.PathLike[str]) -> DataSet:
    """Open CamVid (Brostow et al. 2009; split and 11 classes of Badrinarayanan et al.). Labels 0..10, 11 is ignored.

    A folder with the 32 labels at full resolution (see `camvid32.py`) is opened too; its labels are read as the 11.

    Raises:
        CrissCrossError: the folder or its layout is missing.
    """
    root = existing_folder(root)
    if is_camvid32(root) and not is_camvid(root):
        return DataSet("camvid", root, CLASSES, PALETTE, camvid32_splits(root), labels=TO_11, video=True)
    if not is_camvid(root):
        raise CrissCrossError(
            f"{root}: not CamVid in the SegNet layout: train/ and trainannot/ must be there "
            "(evaluate another layout with --name auto)"
        )
    splits = {name: _pairs(root, name) for name in SPLITS if (root / name).is_dir()}
    return DataSet("camvid", root, CLASSES, PALETTE, splits, void=(VOID,), video=True)


def _pairs(root: Path, split: str) -> tuple[Pair, ...]:
    masks = root / f"{split}annot"
    return tuple(Pair(path.stem, path, either_form(masks / f"{path.stem}.png")) for path in images_in(root / split))
