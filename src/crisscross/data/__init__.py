"""Images and masks: opening data sets, reading, chance, batches, predictions as the evaluators take them."""

import os
from collections.abc import Callable
from pathlib import Path

from crisscross.config import hint, import_attribute
from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.sets.ade20k import is_ade20k, open_ade20k
from crisscross.data.sets.camvid import is_camvid, open_camvid
from crisscross.data.sets.camvid32 import is_camvid32, open_camvid32
from crisscross.data.sets.cityscapes import is_cityscapes, is_cityscapes_coarse, open_cityscapes, open_cityscapes_coarse
from crisscross.data.sets.coco_stuff import is_coco_stuff, open_coco_stuff
from crisscross.data.sets.folder import DESCRIPTION, open_folder
from crisscross.data.sets.lip import is_lip, open_lip
from crisscross.data.sets.submission import write_prediction
from crisscross.data.sets.voc import is_voc, is_voc_aug, open_voc2012, open_voc2012aug
from crisscross.errors import CrissCrossError

__all__ = ["OPENERS", "DataSet", "Pair", "open_camvid", "open_dataset", "open_folder", "write_prediction"]

OPENERS: dict[str, Callable[[str | os.PathLike[str]], DataSet]] = {
    "folder": open_folder,
    "cityscapes": open_cityscapes,
    "cityscapes-coarse": open_cityscapes_coarse,
    "ade20k": open_ade20k,
    "voc2012": open_voc2012,
    "voc2012aug": open_voc2012aug,
    "lip": open_lip,
    "camvid": open_camvid,
    "camvid32": open_camvid32,
    "coco-stuff": open_coco_stuff,
}
# In this order, the narrower layout first; a described folder is what its description says.
LAYOUTS: dict[str, Callable[[Path], bool]] = {
    "folder": lambda root: (root / DESCRIPTION).is_file(),
    "camvid": is_camvid,
    "cityscapes": is_cityscapes,
    "cityscapes-coarse": is_cityscapes_coarse,
    "voc2012aug": is_voc_aug,
    "voc2012": is_voc,
    "lip": is_lip,
    "camvid32": is_camvid32,
    "ade20k": is_ade20k,
    "coco-stuff": is_coco_stuff,
}


def open_dataset(name: str, root: str | os.PathLike[str]) -> DataSet:
    """Open the data set at `root`.

    Args:
        name: a key of `OPENERS`; `auto` (recognize the layout); or `package.module:function`, called with the folder
            and returning a `DataSet`.
        root: the data set's folder.

    Raises:
        CrissCrossError: unknown name, missing folder, or a layout that is not the named one.
    """
    if name == "auto":
        name = _recognize(existing_folder(root))
    if name in OPENERS:
        return OPENERS[name](root)
    if ":" not in name:
        known = hint(name, ["auto", *OPENERS, "package.module:function"])
        raise CrissCrossError(f"unknown data set {name!r}; {known}")
    dataset = import_attribute(name, "data.name")(root)
    if not isinstance(dataset, DataSet):
        raise CrissCrossError(f"data.name {name}: must return a DataSet, got {type(dataset).__name__}")
    return dataset


def _recognize(root: Path) -> str:
    for name, is_layout in LAYOUTS.items():
        if is_layout(root):
            return name
    raise CrissCrossError(
        f"{root}: not a data set: neither {DESCRIPTION} (a plain folder with images/ and masks/) "
        "nor train/ and trainannot/ (CamVid) nor another known layout (`crisscross data list`) is there"
    )
