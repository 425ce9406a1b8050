"""CamVid, 11 classes, in the layout of the SegNet tutorial: `train/ trainannot/ val/ valannot/ test/ testannot/`."""

import os
from pathlib import Path

from crisscross.data.dataset import DataSet, existing_folder
from crisscross.data.files.folders import images_in, pairs_of
from crisscross.data.palette import class_names, hex_palette
from crisscross.data.sets.camvid32 import PUBLISHED, TO_11, camvid32_splits, is_camvid32
from crisscross.data.sets.record import BuiltIn
from crisscross.errors import CrissCrossError

CLASSES = class_names("sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist")
PALETTE = hex_palette("808080 800000 c0c080 804080 3c28de 808000 c08080 404080 400080 404000 0080c0")
# The annotation's own value for "unlabeled".
VOID = 11


def is_camvid(root: Path) -> bool:
    """Whether a folder has this layout."""
    # CVAT exports color masks in the same folders, with a table of their colors.
    colored = (root / "label_colors.txt").is_file()
    return (root / "train").is_dir() and (root / "trainannot").is_dir() and not colored


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
        raise CrissCrossError(f"{root}: not CamVid in the SegNet layout: train/ and trainannot/ must be there")
    present = [name for name in PUBLISHED if (root / name).is_dir()]
    splits = {name: pairs_of(images_in(root / name), root / f"{name}annot") for name in present}
    return DataSet("camvid", root, CLASSES, PALETTE, splits, void=(VOID,), video=True)


CAMVID = BuiltIn(open_camvid, is_camvid, CLASSES, PALETTE, published=PUBLISHED)
