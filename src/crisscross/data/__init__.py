"""Pictures and masks: opening data sets, reading, chance, batches."""

import os
from collections.abc import Callable
from pathlib import Path

from crisscross.config import import_attribute
from crisscross.data.camvid import is_camvid, open_camvid
from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.folder import DESCRIPTION, open_folder
from crisscross.errors import CrissCrossError

__all__ = ["OPENERS", "DataSet", "Pair", "open_camvid", "open_dataset", "open_folder"]

OPENERS: dict[str, Callable[[str | os.PathLike[str]], DataSet]] = {"folder": open_folder, "camvid": open_camvid}


def open_dataset(name: str, root: str | os.PathLike[str]) -> DataSet:
    """Open the data set at `root`.

    Args:
        name: a key of `OPENERS`; `auto` (recognise the layout); or `package.module:function`, called with the folder
            and returning a `DataSet`.
        root: the data set's folder.

    Raises:
        CrissCrossError: unknown name, missing folder, or a layout that is not the named one.
    """
    if name == "auto":
        name = _recognise(existing_folder(root))
    if name in OPENERS:
        return OPENERS[name](root)
    if ":" not in name:
        raise CrissCrossError(f"unknown data set {name!r}; known: auto, {', '.join(OPENERS)}, package.module:function")
    dataset = import_attribute(name, "data.name")(root)
    if not isinstance(dataset, DataSet):
        raise CrissCrossError(f"data.name {name}: must return a DataSet, got {type(dataset).__name__}")
    return dataset


def _recognise(root: Path) -> str:
    if (root / DESCRIPTION).is_file():
        return "folder"
    if is_camvid(root):
        return "camvid"
    raise CrissCrossError(
        f"{root}: not a data set: neither {DESCRIPTION} (a plain folder with images/ and masks/) "
        "nor train/ and trainannot/ (CamVid) is there"
    )
