"""Intervals by resampling: two images by hand, more of them against SciPy."""

import numpy as np
import pytest

from crisscross.metrics import scores
from crisscross.metrics.bootstrap import interval, resampled
from crisscross.metrics.overlap import accuracy_of, iou_of, mean_of, overlap_counts, pixel_accuracy_of


def counts_of(*matrices):
    return np.stack([overlap_counts(np.array(matrix)) for matrix in matrices])


def test_two_images_by_hand():
    # Class 0 has IoU 1/2 in the first image and 3/4 in the second. Both images are drawn twice in a quarter of all
    # resamples each, so the ends of 95 % are the two images alone.
    counts = counts_of([[1, 1], [0, 8]], [[3, 1], [0, 6]])
    found = iou_of(resampled(counts))[:, 0]
    assert interval(found) == (0.5, 0.75)
    values, number = np.unique(found, return_counts=True)
    assert values.tolist() == [0.5, pytest.approx(4 / 6), 0.75]
    # Half of 1000, within four standard deviations.
    assert abs(number[1] - 500) < 64 and number.sum() == 1000


def test_the_same_seed_draws_the_same_images():
    counts = np.random.default_rng(1).integers(0, 9, (7, 3, 4))
    assert np.array_equal(resampled(counts), resampled(counts))
    assert not np.array_equal(resampled(counts), resampled(counts, seed=1))
    # The images drawn do not depend on what is counted.
    assert np.array_equal(resampled(counts)[:, :, :2], resampled(counts[:, :, :2]))
    # Every resample has as many images.
    assert (resampled(np.ones((7, 1)), 250) == 7).all()


def test_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(2)
    matrices = generator.integers(0, 50, (30, 3, 3)) + np.eye(3, dtype=int) * generator.integers(0, 400, (30, 1, 1))
    counts = counts_of(*matrices)
    ours = interval(mean_of(iou_of(resampled(counts, 1500))))

    def miou(numbers):
        return scores(matrices[numbers.astype(int)].sum(0)).miou

    theirs = stats.bootstrap(
        (np.arange(30),), miou, vectorized=False, n_resamples=1500, method="percentile", random_state=3
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)
    assert ours[1] - ours[0] > 0.03


def test_one_image_has_no_spread():
    found = resampled(counts_of([[1, 1], [0, 8]]))
    assert interval(iou_of(found)[:, 0]) == (0.5, 0.5)


def test_a_class_that_never_occurs_has_no_interval_and_is_in_no_mean():
    counts = counts_of([[1, 1, 0], [0, 8, 0], [0, 0, 0]], [[0, 0, 0], [0, 5, 0], [0, 0, 0]])
    found = iou_of(resampled(counts))
    assert interval(found[:, 2]) is None
    # Class 0 is absent where only the second image is drawn: these resamples have no value for it.
    assert np.isnan(found[:, 0]).any() and interval(found[:, 0]) == (0.5, 0.5)
    assert interval(mean_of(found))[1] == 1
    nothing = resampled(np.zeros((3, 3, 2)))
    assert interval(mean_of(iou_of(nothing))) is None and interval(pixel_accuracy_of(nothing)) is None


def test_scores_of_overlaps_are_those_of_the_matrix():
    matrix = np.random.default_rng(0).integers(0, 9, (5, 5))
    matrix[3] = matrix[:, 3] = 0
    expected, found = scores(matrix), overlap_counts(matrix)
    for values, want in ((iou_of(found), expected.iou), (accuracy_of(found), expected.accuracy)):
        assert [None if np.isnan(value) else value for value in values] == pytest.approx(want)
    assert mean_of(iou_of(found)) == pytest.approx(expected.miou)
    assert pixel_accuracy_of(found) == pytest.approx(expected.pixel_accuracy)
