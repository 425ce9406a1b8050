"""Images and masks: opening data sets, reading files, augmentation, batches, predictions for the evaluators."""

import os

from crisscross.config import hint, import_attribute
from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.sets import DATASETS
from crisscross.data.sets.camvid import open_camvid
from crisscross.data.sets.folder import open_folder
from crisscross.data.sets.recognition import recognized_name
from crisscross.data.sets.submission import write_prediction
from crisscross.errors import CrissCrossError

__all__ = ["DATASETS", "DataSet", "Pair", "open_camvid", "open_dataset", "open_folder", "write_prediction"]

OTHER_LAYOUT = "for another layout: `--set data.name=auto` in train, `--name auto` in evaluate and data check"


def open_dataset(name: str, root: str | os.PathLike[str]) -> DataSet:
    """Open the data set at `root`.

    Args:
        name: a key of `DATASETS`; `auto` (recognize the layout); or `package.module:function`, called with the folder
            and returning a `DataSet`.
        root: the data set's folder.

    Raises:
        CrissCrossError: unknown name, missing folder, or a layout that is not the named one.
    """
    if name == "auto":
        name = recognized_name(existing_folder(root), DATASETS)
    if name in DATASETS:
        try:
            return DATASETS[name].open(root)
        except CrissCrossError as error:
            if name == "folder" or not os.path.isdir(root) or DATASETS[name].recognize(existing_folder(root)):
                raise
            raise CrissCrossError(f"{error} ({OTHER_LAYOUT})") from None
    if ":" not in name:
        known = hint(name, ["auto", *DATASETS, "package.module:function"])
        raise CrissCrossError(f"unknown data set {name!r}; {known}")
    dataset = import_attribute(name, "data.name")(root)
    if not isinstance(dataset, DataSet):
        raise CrissCrossError(f"data.name {name}: must return a DataSet, got {type(dataset).__name__}")
    return dataset
