"""Counts first: an int64 confusion matrix; every score is a pure function of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class ConfusionMatrix:
    """Integer counts over a whole set: `counts` int64 [K, K], rows are truth, columns prediction.

    NumPy counts, because this runs beside the network and would compete with it for PyTorch's threads.

    Args:
        classes: number of classes K.
        ignore: label value left out of every count.
    """

    def __init__(self, classes: int, ignore: int = 255) -> None:
        self.classes, self.ignore = classes, ignore
        self.counts = np.zeros((classes, classes), np.int64)

    def update(self, prediction: Any, truth: Any) -> None:
        """Add one or more images.

        Args:
            prediction: integers 0..K-1, any shape: an array, or a tensor on any device.
            truth: integers of the same shape, 0..K-1 or `ignore`.

        Raises:
            ValueError: the shapes differ, or a value is outside its range.
        """
        prediction, truth = _array(prediction), _array(truth)
        if prediction.shape != truth.shape:
            raise ValueError(f"prediction is {prediction.shape}, truth is {truth.shape}")
        if prediction.dtype == truth.dtype == np.uint8:
            self.counts += self._pairs_of_bytes(prediction, truth)
        else:
            self.counts += self._pairs(prediction, truth)

    def _pairs(self, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        counted = truth != self.ignore
        truth, prediction = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
        for name, values in (("truth", truth), ("prediction", prediction)):
            ends = (int(values.min()), int(values.max())) if values.size else ()
            self._refuse(name, [end for end in ends if not 0 <= end < self.classes])
        return np.bincount(truth * self.classes + prediction, minlength=self.classes**2).reshape(self.classes, -1)

    def _pairs_of_bytes(self, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """The same in one pass over the pixels: all pairs of bytes are counted, and then looked through."""
        index = truth.astype(np.uint16)
        index <<= 8
        index |= prediction
        pairs = np.bincount(index.ravel(), minlength=256**2).reshape(256, 256)
        if 0 <= self.ignore < 256:
            pairs[self.ignore] = 0
        for name, counts in (("truth", pairs.sum(1)), ("prediction", pairs.sum(0))):
            self._refuse(name, (counts[self.classes :].nonzero()[0] + self.classes).tolist())
        return pairs[: self.classes, : self.classes]

    def _refuse(self, name: str, outside: list[int]) -> None:
        if outside:
            raise ValueError(f"{name} holds {outside[0]}, outside 0..{self.classes - 1}")

    def scores(self) -> "Scores":
        """Scores of everything counted so far."""
        return scores(self.counts)


@dataclass(frozen=True)
class Scores:
    """Fractions 0..1. A class in neither truth nor prediction is absent: None, and left out of every mean.

    `accuracy` of a class is its recall; `dice` is also called F1.
    """

    miou: float | None
    pixel_accuracy: float | None
    mean_accuracy: float | None
    iou: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    dice: tuple[float | None, ...]
    precision: tuple[float | None, ...]


def scores(counts: Any) -> Scores:
    """Scores of a confusion matrix [K, K] of integers (rows truth, columns prediction), an array or a tensor.

    IoU = hits / (truth + prediction - hits), Dice = 2 hits / (truth + prediction), accuracy = hits / truth and
    precision = hits / prediction; a class that is only predicted has IoU 0 and no accuracy.
    """
    hits = counts.diagonal().tolist()
    truth, predicted = counts.sum(1).tolist(), counts.sum(0).tolist()
    iou = tuple(_ratio(h, t + p - h) for h, t, p in zip(hits, truth, predicted, strict=True))
    accuracy = tuple(_ratio(h, t) for h, t in zip(hits, truth, strict=True))
    dice = tuple(_ratio(2 * h, t + p) for h, t, p in zip(hits, truth, predicted, strict=True))
    precision = tuple(_ratio(h, p) for h, p in zip(hits, predicted, strict=True))
    return Scores(mean(iou), _ratio(sum(hits), sum(truth)), mean(accuracy), iou, accuracy, dice, precision)


class Consistency(NamedTuple):
    """Temporal consistency, fractions 0..1; None where no pixel is stable.

    `pixels` is over all stable pixels, `mean` the mean over the classes that have any, `by_class` each of them.
    """

    pixels: float | None
    mean: float | None
    by_class: tuple[float | None, ...]


class StableCounts:
    """Counts for the temporal consistency of labels of consecutive frames.

    A pixel is stable where the true label of both frames is the same class; it is consistent where the two predictions
    agree, be they right or wrong. Nothing is warped: the figure asks what stands still in the image.

    Args:
        classes: number of classes K.
        ignore: true label that counts nowhere.
    """

    def __init__(self, classes: int, ignore: int = 255) -> None:
        self.classes, self.ignore = classes, ignore
        # By class: stable pixels, and those of them that are consistent.
        self.counts = np.zeros((classes, 2), np.int64)

    def update(self, prediction: tuple[Any, Any], truth: tuple[Any, Any]) -> None:
        """Add two consecutive frames: (before, after), integers [H, W] each; frames of two sizes share no pixel."""
        (before, after), truth = map(_array, prediction), (_array(truth[0]), _array(truth[1]))
        if truth[0].shape != truth[1].shape:
            return
        stable = (truth[0] == truth[1]) & (truth[0] != self.ignore)
        kept = stable & (before == after)
        for column, chosen in enumerate((stable, kept)):
            self.counts[:, column] += np.bincount(truth[0][chosen], minlength=self.classes)

    def scores(self) -> Consistency:
        """Consistency of everything counted so far."""
        stable, kept = self.counts[:, 0].tolist(), self.counts[:, 1].tolist()
        by_class = tuple(_ratio(k, s) for k, s in zip(kept, stable, strict=True))
        return Consistency(_ratio(sum(kept), sum(stable)), mean(by_class), by_class)


def _array(x: Any) -> np.ndarray:
    return np.asarray(x.cpu() if hasattr(x, "cpu") else x)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are not None; None where all are."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
