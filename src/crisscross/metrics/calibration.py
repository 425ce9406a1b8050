"""Whether a network is right as often as it is sure.

C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On Calibration of Modern Neural Networks, ICML 2017.
"""

from typing import Any

import numpy as np

BINS = 15


class Calibration:
    """Counts over pixels by the probability of their label: `counts` float64 [3, BINS].

    Rows: pixels, the sum of their probabilities, and pixels that are right. Bin b holds the probabilities in
    (b / BINS, (b + 1) / BINS], and the first one 0, too.
    """

    def __init__(self, counts: np.ndarray | None = None) -> None:
        self.counts = np.zeros((3, BINS)) if counts is None else counts

    def update(self, probability: np.ndarray, prediction: np.ndarray, truth: np.ndarray, ignore: int = 255) -> None:
        """Add an image.

        Args:
            probability: that of the label of each pixel, float32 [H, W] in 0..1.
            prediction: labels [H, W].
            truth: labels [H, W], or `ignore`.
            ignore: label value that is left out.
        """
        counted = truth != ignore
        sure, right = probability[counted], prediction[counted] == truth[counted]
        number = np.clip(np.ceil(sure * np.float32(BINS)) - 1, 0, BINS - 1).astype(np.uint8)
        pairs = np.bincount(number + np.uint8(BINS) * right, minlength=2 * BINS).reshape(2, BINS)
        self.counts += np.stack([pairs.sum(0), np.bincount(number, sure, BINS), pairs[1]])

    @property
    def ece(self) -> float | None:
        """The expected calibration error, see `ece_of`; None without pixels."""
        error = float(ece_of(self.counts))
        return None if np.isnan(error) else error

    @property
    def fractions(self) -> list[float]:
        """The fraction of all pixels in each bin; zeros without pixels."""
        return (self.counts[0] / max(self.counts[0].sum(), 1)).tolist()

    @property
    def confidence(self) -> list[float | None]:
        """The mean probability in each bin; None in one without pixels."""
        return self._mean(1)

    @property
    def accuracy(self) -> list[float | None]:
        """The fraction of pixels in each bin that are right; None in one without pixels."""
        return self._mean(2)

    def _mean(self, row: int) -> list[float | None]:
        return [
            float(part / pixels) if pixels else None
            for part, pixels in zip(self.counts[row], self.counts[0], strict=True)
        ]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        pixels = [int(count) for count in self.counts[0]]
        return {"ece": self.ece, "pixels": pixels, "confidence": self.confidence, "accuracy": self.accuracy}


def ece_of(counts: np.ndarray) -> np.ndarray:
    """The expected calibration error [...] of counts [..., 3, BINS]: the mean over all pixels of the distance between
    accuracy and mean probability of their bin. NaN without pixels."""
    pixels = counts[..., 0, :].sum(-1)
    distance = np.abs(counts[..., 1, :] - counts[..., 2, :]).sum(-1)
    return np.divide(distance, pixels, out=np.full(np.shape(pixels), np.nan), where=np.asarray(pixels) > 0)
