"""What a page shows of an evaluation beside its scores: counts of each image, and the images labeled worst and best."""

from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crisscross.data import DataSet
from crisscross.engine.semantic.labeling import LabeledPair
from crisscross.metrics import Calibration, boundary_counts
from crisscross.metrics.bootstrap import LEVEL, RESAMPLES, SEED, interval, resampled
from crisscross.metrics.boundary import RATIO
from crisscross.metrics.calibration import BINS, ece_of
from crisscross.metrics.overlap import accuracy_of, iou_of, mean_of, overlap_counts, pixel_accuracy_of
from crisscross.report.images import shrink_labels

# Images at either end that are shown.
SHOWN = 4


@dataclass(frozen=True)
class RankedImage:
    """An image with truth and labels in small, its mean IoU, and the fraction of its labeled pixels that is wrong."""

    iou: float
    name: str
    wrong: float
    truth: np.ndarray
    labels: np.ndarray


class Detail:
    """Counts of each image of a split, and the images that were labeled worst and best.

    `overlaps` and `boundaries` are int64 [3, K] of each image, see `crisscross.metrics.overlap`; `calibrations` are
    float64 [3, bins], see `Calibration`.
    """

    def __init__(self, dataset: DataSet) -> None:
        self.dataset = dataset
        self.overlaps: list[np.ndarray] = []
        self.boundaries: list[np.ndarray] = []
        self.calibrations: list[np.ndarray] = []
        self.ranked: list[RankedImage] = []

    def add(self, one: LabeledPair, counts: np.ndarray, iou: float | None) -> None:
        """Count an image with its confusion matrix and its mean IoU, None where all of it is ignored."""
        ignore, calibration, overlap = self.dataset.ignore, Calibration(), overlap_counts(counts)
        self.overlaps.append(overlap)
        self.boundaries.append(boundary_counts(one.labels, one.mask, len(counts), ignore))
        if one.confidence is not None:
            calibration.update(one.confidence, one.labels, one.mask, ignore)
        self.calibrations.append(calibration.counts)
        if iou is not None:
            wrong = 1 - float(pixel_accuracy_of(overlap))
            small = shrink_labels(one.mask), shrink_labels(one.labels)
            self.rank([RankedImage(iou, one.pair.name, wrong, *small)])

    def rank(self, images: Iterable[RankedImage]) -> None:
        """Keep `SHOWN` of the lowest and `SHOWN` of the highest mean IoU, in this order."""
        for image in images:
            insort(self.ranked, image, key=lambda each: (each.iou, each.name))
            if len(self.ranked) > 2 * SHOWN:
                del self.ranked[SHOWN]

    def merged(self, parts: Iterable["Detail"]) -> "Detail":
        """Those of several processes as one."""
        found = Detail(self.dataset)
        for part in parts:
            found.overlaps += part.overlaps
            found.boundaries += part.boundaries
            found.calibrations += part.calibrations
            found.rank(part.ranked)
        return found

    @property
    def calibration(self) -> Calibration:
        """That of all images."""
        return Calibration(np.reshape(self.calibrations, (-1, 3, BINS)).sum(0))

    def facts(self, classes: Sequence[str]) -> dict[str, Any]:
        """Scores and intervals as JSON values; of less than two images there are no intervals."""
        overlaps, boundaries = (np.reshape(part, (-1, 3, len(classes))) for part in (self.overlaps, self.boundaries))
        calibrations = np.reshape(self.calibrations, (-1, 3, BINS))
        boundary = iou_of(boundaries.sum(0))
        return {
            "boundary_ratio": RATIO,
            "boundary_miou": _known(mean_of(boundary)),
            "boundary_iou": dict(zip(classes, map(_known, boundary), strict=True)),
            "calibration": self.calibration.as_json(),
            "bootstrap": {"resamples": RESAMPLES, "seed": SEED, "level": LEVEL},
            "intervals": _intervals(classes, overlaps, boundaries, calibrations) if len(overlaps) > 1 else None,
        }


def _intervals(
    classes: Sequence[str], overlaps: np.ndarray, boundaries: np.ndarray, calibrations: np.ndarray
) -> dict[str, Any]:
    drawn = resampled(overlaps)
    iou, boundary = iou_of(drawn), iou_of(resampled(boundaries))
    of_all = {
        "miou": mean_of(iou),
        "pixel_accuracy": pixel_accuracy_of(drawn),
        "mean_accuracy": mean_of(accuracy_of(drawn)),
        "boundary_miou": mean_of(boundary),
        "ece": ece_of(resampled(calibrations)),
    }
    by_class = {
        name: dict(zip(classes, map(interval, values.T), strict=True))
        for name, values in (("iou", iou), ("boundary_iou", boundary))
    }
    return {name: interval(values) for name, values in of_all.items()} | by_class


def _known(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
