"""Pixels that truth and prediction share, by class, and the scores that follow from them, of many sets at once.

Counts are [..., 3, K] for K classes: pixels of both, of the truth, of the prediction. The score of an absent class is
NaN.
"""

import warnings

import numpy as np

HITS, TRUTH, PREDICTED = range(3)


def overlap_counts(matrix: np.ndarray) -> np.ndarray:
    """int64 [3, K] of a confusion matrix [K, K], rows truth, columns prediction."""
    return np.stack([matrix.diagonal(), matrix.sum(1), matrix.sum(0)]).astype(np.int64)


def iou_of(counts: np.ndarray) -> np.ndarray:
    """Intersection over union [..., K]."""
    hits = counts[..., HITS, :]
    return _ratio(hits, counts[..., TRUTH, :] + counts[..., PREDICTED, :] - hits)


def accuracy_of(counts: np.ndarray) -> np.ndarray:
    """Fraction [..., K] of the true pixels that were predicted so."""
    return _ratio(counts[..., HITS, :], counts[..., TRUTH, :])


def pixel_accuracy_of(counts: np.ndarray) -> np.ndarray:
    """Fraction [...] of all pixels that were predicted right."""
    return _ratio(counts[..., HITS, :].sum(-1), counts[..., TRUTH, :].sum(-1))


def mean_of(values: np.ndarray) -> np.ndarray:
    """Mean [...] over the classes [..., K] that are not NaN; NaN where all are."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        return np.nanmean(values, -1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)
