"""Counts and scores, worked out by hand."""

import numpy as np
import pytest
import torch

from crisscross.metrics import ConfusionMatrix, scores

# truth     prediction
# 0 0 1     0 1 1
# 1 2 2     1 2 0
# 2 2 255   2 2 2
TRUTH = torch.tensor([[0, 0, 1], [1, 2, 2], [2, 2, 255]], dtype=torch.uint8)
PREDICTION = torch.tensor([[0, 1, 1], [1, 2, 0], [2, 2, 2]], dtype=torch.uint8)


def test_counts_and_scores_by_hand():
    matrix = ConfusionMatrix(3)
    matrix.update(PREDICTION, TRUTH)
    assert matrix.counts.dtype == np.int64
    assert matrix.counts.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 3]]
    found = matrix.scores()
    assert found.iou == (1 / 3, 2 / 3, 3 / 4)
    assert found.accuracy == (1 / 2, 1, 3 / 4)
    assert found.miou == pytest.approx((1 / 3 + 2 / 3 + 3 / 4) / 3)
    assert found.pixel_accuracy == 6 / 8
    assert found.mean_accuracy == pytest.approx((1 / 2 + 1 + 3 / 4) / 3)


def test_rows_are_truth():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([0, 0, 0]), torch.tensor([1, 1, 0]))
    assert matrix.counts.tolist() == [[1, 0], [2, 0]]


def test_an_absent_class_is_none_and_in_no_mean():
    matrix = ConfusionMatrix(4)
    matrix.update(PREDICTION, TRUTH)
    found = matrix.scores()
    assert found.iou[3] is None and found.accuracy[3] is None
    assert found.miou == pytest.approx((1 / 3 + 2 / 3 + 3 / 4) / 3)


def test_a_class_that_is_only_predicted_has_iou_0_and_no_accuracy():
    found = scores(torch.tensor([[3, 1], [0, 0]]))
    assert found.iou == (3 / 4, 0) and found.accuracy == (3 / 4, None)
    assert found.miou == 3 / 8 and found.mean_accuracy == 3 / 4


def test_a_class_that_is_never_hit_has_0_of_both():
    found = scores(torch.tensor([[3, 0], [1, 0]]))
    assert found.iou == (3 / 4, 0) and found.accuracy == (1, 0)
    assert found.miou == 3 / 8 and found.mean_accuracy == 1 / 2


def test_nothing_counted_is_none_everywhere():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([0, 7]), torch.tensor([255, 255]))
    found = matrix.scores()
    assert matrix.counts.sum() == 0
    assert (found.miou, found.pixel_accuracy, found.mean_accuracy) == (None, None, None)
    assert found.iou == found.accuracy == (None, None)


def test_ignore_is_any_label_one_likes():
    matrix = ConfusionMatrix(3, ignore=2)
    matrix.update(PREDICTION.clamp(max=2)[:2], TRUTH[:2])
    assert matrix.counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_predictions_under_ignored_truth_may_be_anything():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([99, 1]), torch.tensor([255, 1]))
    assert matrix.counts.tolist() == [[0, 0], [0, 1]]


def test_images_add_up():
    generator = torch.Generator().manual_seed(0)
    truth, prediction = (torch.randint(0, 5, (6, 7, 9), generator=generator) for _ in range(2))
    truth[truth == 4] = 255
    one_by_one, at_once = ConfusionMatrix(5), ConfusionMatrix(5)
    for index in range(6):
        one_by_one.update(prediction[index], truth[index])
    at_once.update(prediction, truth)
    assert np.array_equal(one_by_one.counts, at_once.counts)
    expected = [[int(((truth == t) & (prediction == p)).sum()) for p in range(5)] for t in range(5)]
    assert at_once.counts.tolist() == expected


def test_counts_beyond_float32_stay_exact():
    # float32 cannot tell 2**24 from 2**24 + 1.
    matrix = ConfusionMatrix(2)
    matrix.counts += np.array([[2**24, 0], [0, 2**53]])
    matrix.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert matrix.counts.tolist() == [[2**24 + 1, 0], [0, 2**53 + 1]]
    found = scores(torch.tensor([[2**24 + 1, 0], [2**24, 0]]))
    assert found.pixel_accuracy == (2**24 + 1) / (2**25 + 1) != 0.5


@pytest.mark.parametrize(
    ("prediction", "truth", "words"),
    [
        ([0, 3], [0, 1], r"prediction holds 3, outside 0\.\.2"),
        ([0, 1], [0, 3], r"truth holds 3, outside 0\.\.2"),
        ([0, -1], [0, 1], r"prediction holds -1, outside 0\.\.2"),
        ([0, 1], [-1, 1], r"truth holds -1, outside 0\.\.2"),
        ([0, 1, 2], [0, 1], r"prediction is \(3,\), truth is \(2,\)"),
    ],
)
def test_what_cannot_be_counted_is_refused_and_counts_nothing(prediction, truth, words):
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=words):
        matrix.update(torch.tensor(prediction), torch.tensor(truth))
    assert matrix.counts.sum() == 0
