"""Predictions in the form of each evaluator; for Cityscapes, scored by the official evaluator itself."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_data import (
    save,
    write_ade20k,
    write_camvid32,
    write_cityscapes,
    write_coco_stuff,
    write_lip,
    write_voc2012aug,
)

from crisscross.data import open_dataset, write_prediction
from crisscross.data.files.reading import read_pair
from crisscross.metrics import ConfusionMatrix

PREDICTED_ONLY, ABSENT = 14, 16


def prediction_for(labels: np.ndarray, index: int) -> np.ndarray:
    """Class numbers like the truth, but wrong in places and everywhere a class; truck too much, no train."""
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    labels = np.where((x * 3 + y * 5 + index) % 7 == 0, (x // 4 + y + index) % 19, labels)
    labels = np.where((labels == 255) | (labels == ABSENT), (x + index) % 13, labels)
    return np.where((x + y) % 31 == 0, PREDICTED_ONLY, labels).astype(np.uint8)


def write_truth(root: Path, count: int = 3) -> Path:
    """Label ids of all kinds, ignored ones too, but no truck (27) and no train (31)."""
    write_cityscapes(root, count)
    y, x = np.mgrid[:48, :64]
    for number, path in enumerate(sorted((root / "gtFine" / "val").rglob("*_labelIds.png"))):
        ids = (x // 5 + 3 * (y // 6) + number) % 34
        save(path, np.where(np.isin(ids, (27, 31)), 7, ids).astype(np.uint8))
    return root


def test_counts_and_scores_are_those_of_the_official_evaluator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    dataset = open_dataset("cityscapes", write_truth(tmp_path / "city"))
    matrix, truths = ConfusionMatrix(19), []
    for index, pair in enumerate(dataset.split("val")):
        _, mask = read_pair(pair, dataset)
        prediction = prediction_for(mask, index)
        written = write_prediction(dataset, pair, prediction, tmp_path / "predictions" / "val")
        assert written.name == f"{pair.name}_pred_labelIds.png" and written.is_file()
        matrix.update(prediction, mask)
        truths.append(str(pair.mask))

    arguments = official.args
    settings = {"evalInstLevelScore": False, "JSONOutput": False, "quiet": True, "predictionWalk": None}
    for name, value in {**settings, "predictionPath": str(tmp_path / "predictions")}.items():
        monkeypatch.setattr(arguments, name, value)
    # The evaluator itself looks for the files.
    predictions = [official.getPrediction(arguments, truth) for truth in truths]
    result = official.evaluateImgLists(predictions, truths, arguments)

    ids = [label.id for label in official.labels if 0 <= label.trainId < 255]
    assert np.array_equal(matrix.counts, np.array(result["confMatrix"])[ids][:, ids])
    assert int(matrix.counts.sum()) > 3 * 48 * 64 / 3
    scores = matrix.scores()
    for name, iou in zip(dataset.classes, scores.iou, strict=True):
        theirs = result["classScores"][name]
        assert (iou is None) == math.isnan(theirs)
        assert iou is None or iou == theirs
    assert scores.miou == pytest.approx(result["averageScoreClasses"], abs=1e-15)
    # Theirs is NaN and left out of their mean for a class in neither; a class only predicted counts with 0 in both.
    assert scores.iou[ABSENT] is None and scores.iou[PREDICTED_ONLY] == 0
    assert result["classScores"]["truck"] == 0


@pytest.mark.parametrize(
    ("writer", "split", "file", "first", "last"),
    [
        (write_cityscapes, "val", "frankfurt_000000_000019_pred_labelIds.png", 7, 33),
        (write_ade20k, "val", "ADE_val_00000001.png", 1, 150),
        (write_voc2012aug, "val", "results/VOC2012/Segmentation/comp6_val_cls/2008_000000.png", 0, 20),
        (write_lip, "val", "100_4001.png", 0, 19),
        (write_camvid32, "val", "0016E5_007959.png", 0, 31),
        (write_coco_stuff, "val", "000000001001.png", 0, 170),
    ],
)
def test_files_and_numbers(tmp_path: Path, writer, split: str, file: str, first: int, last: int) -> None:
    dataset = open_dataset("auto", writer(tmp_path / "data"))
    labels = np.zeros((48, 64), np.uint8)
    labels[:, 1:] = len(dataset.classes) - 1
    written = write_prediction(dataset, dataset.split(split)[0], labels, tmp_path / "out")
    assert written == tmp_path / "out" / file
    with Image.open(written) as image:
        assert image.mode == ("P" if dataset.name == "voc2012aug" else "L")
        stored = np.asarray(image)
        if image.mode == "P":
            assert image.getpalette()[15 * 3 : 16 * 3] == [192, 128, 128]
    assert (stored[:, 0] == first).all() and (stored[:, 1:] == last).all()


def test_what_is_no_label_map_is_refused(tmp_path: Path) -> None:
    dataset = open_dataset("lip", write_lip(tmp_path / "data"))
    pair = dataset.split("val")[0]
    with pytest.raises(ValueError, match="labels hold 20, but there are 20 classes"):
        write_prediction(dataset, pair, np.full((4, 4), 20, np.uint8), tmp_path)
    with pytest.raises(ValueError, match=r"must be uint8 \[H, W\], got int64 \[4, 4\]"):
        write_prediction(dataset, pair, np.zeros((4, 4), np.int64), tmp_path)
