"""The calibration error, worked out by hand."""

import numpy as np
import pytest

from crisscross.metrics import Calibration
from crisscross.metrics.calibration import BINS, ece_of


def counted(probability, right, truth=None):
    found = Calibration()
    prediction = np.zeros(len(right), np.uint8)
    truth = np.where(right, 0, 1).astype(np.uint8) if truth is None else truth
    found.update(np.array(probability, np.float32), prediction, truth)
    return found


def test_two_bins_by_hand():
    # Two pixels at 0.9 of which one is right, and three at 0.5 that are all right.
    found = counted([0.9, 0.9, 0.5, 0.5, 0.5], [True, False, True, True, True])
    # 2/5 |0.5 - 0.9| + 3/5 |1 - 0.5|
    assert found.ece == pytest.approx(0.4 * 0.4 + 0.6 * 0.5)
    assert found.fractions == [0] * 7 + [0.6] + [0] * 5 + [0.4, 0]
    assert found.accuracy[7] == 1 and found.accuracy[13] == 0.5 and found.accuracy[0] is None
    assert found.confidence[7] == 0.5 and found.confidence[13] == pytest.approx(0.9)


def test_bins_hold_their_upper_end():
    edges = [0.0, 1e-6, 1 / 15, 1 / 15 + 1e-3, 14 / 15 - 1e-3, 14 / 15 + 1e-3, 1.0]
    pixels = counted(edges, [True] * len(edges)).counts[0]
    assert BINS == 15 and pixels.tolist() == [3, 1, *[0] * 11, 1, 2]


def test_against_a_plain_loop_over_many_pixels():
    generator = np.random.default_rng(0)
    probability = generator.uniform(0.2, 1, (40, 50)).astype(np.float32)
    prediction = generator.integers(0, 3, (40, 50)).astype(np.uint8)
    truth = np.where(generator.random((40, 50)) < probability**2, prediction, 2).astype(np.uint8)
    truth[:3] = 255
    found = Calibration()
    for half in (slice(0, 25), slice(25, 50)):
        found.update(probability[:, half], prediction[:, half], truth[:, half])
    expected, valid = 0.0, truth != 255
    for number in range(15):
        inside = valid & (probability > number / 15) & (probability <= (number + 1) / 15)
        if inside.any():
            gap = abs((prediction == truth)[inside].mean() - probability[inside].astype(float).mean())
            expected += inside.sum() / valid.sum() * gap
    assert expected > 0.02 and found.ece == pytest.approx(expected, abs=1e-9)


def test_ignored_pixels_count_nowhere():
    found = counted([0.9, 0.9], [True, True], np.array([255, 255], np.uint8))
    assert found.ece is None and not found.counts.any()
    assert found.fractions == [0] * 15 and set(found.accuracy) == {None}
    assert found.as_json()["pixels"] == [0] * 15


def test_of_many_sets_at_once():
    counts = np.stack([counted([0.9], [True]).counts, counted([0.7], [False]).counts, np.zeros((3, 15))])
    assert ece_of(counts)[:2] == pytest.approx([0.1, 0.7]) and np.isnan(ece_of(counts)[2])
