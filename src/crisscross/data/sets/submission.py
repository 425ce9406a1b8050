"""Predictions as the evaluator of each data set takes them."""

from functools import partial
from pathlib import Path

import numpy as np

from crisscross.data.color import index_image
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.palette import voc_palette
from crisscross.data.sets.cityscapes import LABEL_IDS
from crisscross.files import output_path, write_atomically

# All 256, so that viewers show the 21 classes and the border, 255, as those of the ground truth.
VOC_PALETTE = voc_palette(256)
VOC_RESULTS = Path("results", "VOC2012", "Segmentation", "comp6_val_cls")


def write_prediction(dataset: DataSet, pair: Pair, labels: np.ndarray, folder: Path) -> Path:
    """Write the prediction of one image below `folder`.

    - `cityscapes` and `cityscapes-coarse`: label ids in `CITY_SEQUENCE_FRAME_pred_labelIds.png`; cityscapesscripts and
      the server look for `CITY_SEQUENCE_FRAME*.png` in all folders below the one they are given.
    - `ade20k`: class numbers + 1 in `NAME.png`, as the scene parsing benchmark counts (0 is `other`).
    - `voc2012` and `voc2012aug`: a palette PNG in `results/VOC2012/Segmentation/comp6_val_cls/`, where the development
      kit looks for it (comp6: trained on more than VOC's own images).
    - all others: class numbers in `NAME.png`.

    Args:
        dataset: what the pair belongs to.
        pair: whose prediction it is.
        labels: uint8 [H, W], class numbers at the image's own size.
        folder: made where it is missing.

    Returns:
        The file that was written.

    Raises:
        ValueError: the labels are no uint8 [H, W], or hold a number that is no class.
        CrissCrossError: the file cannot be written, or the pair's name leads out of the folder.
    """
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"labels must be uint8 [H, W], got {labels.dtype} {list(labels.shape)}")
    if labels.max(initial=0) >= len(dataset.classes):
        raise ValueError(f"labels hold {int(labels.max())}, but there are {len(dataset.classes)} classes")
    path = prediction_path(dataset, pair, folder)
    if dataset.name.startswith("cityscapes"):
        labels = np.array(LABEL_IDS, np.uint8)[labels]
    elif dataset.name == "ade20k":
        labels = labels + np.uint8(1)
    image = index_image(labels, VOC_PALETTE if dataset.name.startswith("voc2012") else None)
    write_atomically(path, partial(image.save, format="PNG"))
    return path


def prediction_path(dataset: DataSet, pair: Pair, folder: Path) -> Path:
    """The file that `write_prediction` writes.

    Raises:
        CrissCrossError: the pair's name leads out of the folder.
    """
    if dataset.name.startswith("cityscapes"):
        return output_path(folder, f"{pair.name}_pred_labelIds.png")
    inside = VOC_RESULTS if dataset.name.startswith("voc2012") else Path()
    return output_path(folder, inside / f"{pair.name}.png")
