"""Predictions as the evaluator of each data set takes them."""

import os
from pathlib import Path

import numpy as np

from crisscross.data.color import write_mask
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.sets import DATASETS
from crisscross.data.sets.folder import FOLDER
from crisscross.files import output_path


def write_prediction(dataset: DataSet, pair: Pair, labels: np.ndarray, folder: str | os.PathLike[str]) -> Path:
    """Write the prediction of one image below `folder`.

    - `cityscapes` and `cityscapes-coarse`: label ids in `CITY_SEQUENCE_FRAME_pred_labelIds.png`; cityscapesscripts and
      the server look for `CITY_SEQUENCE_FRAME*.png` in all folders below the one they are given.
    - `ade20k`: class numbers + 1 in `NAME.png`, as the scene parsing benchmark counts (0 is `other`).
    - `voc2012` and `voc2012aug`: a palette PNG in `results/VOC2012/Segmentation/comp6_val_cls/`, where the development
      kit looks for it (comp6: trained on more than VOC's own images).
    - all others: class numbers in `NAME.png`.

    Args:
        dataset: the data set of the pair.
        pair: the image and its mask.
        labels: uint8 [H, W], class numbers at the image's own size.
        folder: made where it is missing.

    Returns:
        The file that was written.

    Raises:
        ValueError: the labels are not uint8 [H, W], or hold a number that is not a class.
        CrissCrossError: the file cannot be written, or the pair's name leads out of the folder.
    """
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"labels must be uint8 [H, W], got {labels.dtype} {list(labels.shape)}")
    if labels.max(initial=0) >= len(dataset.classes):
        raise ValueError(f"labels hold {int(labels.max())}, but there are {len(dataset.classes)} classes")
    path, known = prediction_path(dataset, pair, folder), DATASETS.get(dataset.name, FOLDER)
    if known.stored:
        labels = np.array(known.stored, np.uint8)[labels]
    write_mask(path, labels, known.colors)
    return path


def prediction_path(dataset: DataSet, pair: Pair, folder: str | os.PathLike[str]) -> Path:
    """The file that `write_prediction` writes.

    Raises:
        CrissCrossError: the pair's name leads out of the folder.
    """
    known = DATASETS.get(dataset.name, FOLDER)
    return output_path(folder, Path(known.folder, f"{pair.name}{known.ending}"))
