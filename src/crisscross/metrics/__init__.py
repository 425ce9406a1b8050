"""Scores of labels: counts first, integers over a whole set, of which every score is a pure function."""

from crisscross.metrics.boundary import boundary_counts
from crisscross.metrics.calibration import Calibration
from crisscross.metrics.confusion import ConfusionMatrix, Consistency, Scores, StableCounts, mean, scores

__all__ = [
    "Calibration",
    "ConfusionMatrix",
    "Consistency",
    "Scores",
    "StableCounts",
    "boundary_counts",
    "mean",
    "scores",
]
