"""Boundary IoU: B. Cheng, R. Girshick, P. Dollár, A. C. Berg, A. Kirillov: Boundary IoU: Improving Object-Centric
Image Segmentation Evaluation, CVPR 2021."""

import math

import numpy as np

# Width of the band along the boundaries, as a fraction of the image's diagonal: the paper's.
RATIO = 0.02
# No class: the label of ignored pixels here.
VOID = 255


def band_width(height: int, width: int, ratio: float = RATIO) -> int:
    """Pixels between a boundary and the inner edge of its band, at least 1."""
    return max(1, round(ratio * math.hypot(height, width)))


def boundary_counts(
    prediction: np.ndarray, truth: np.ndarray, classes: int, ignore: int = 255, ratio: float = RATIO
) -> np.ndarray:
    """Pixels in the bands of an image by class, int64 [3, K] as `crisscross.metrics.overlap` has them.

    The band of a class are its pixels with one of another class, an ignored one or the image's edge within
    `band_width` rows and columns: the class less its erosion by a 3 x 3 square, repeated, as in the authors' code.
    Ignored pixels are first taken out of both.

    Args:
        prediction: uint8 [H, W], 0..K-1.
        truth: uint8 [H, W], 0..K-1 or `ignore`.
        classes: K, at most 255.
        ignore: label value that is left out.
        ratio: width of the band as a fraction of the image's diagonal.
    """
    ignored, width = truth == ignore, band_width(truth.shape[0], truth.shape[1], ratio)
    truth, prediction = (np.where(ignored, np.uint8(VOID), labels) for labels in (truth, prediction))
    of_truth, of_prediction = (_band(labels, width) for labels in (truth, prediction))
    both = of_truth & of_prediction & (truth == prediction)
    chosen = truth[both], truth[of_truth], prediction[of_prediction]
    return np.stack([np.bincount(labels, minlength=classes) for labels in chosen])


def _band(labels: np.ndarray, width: int) -> np.ndarray:
    """Where a class is not alone in the window around a pixel, bool [H, W]: one pass for all classes."""
    import cv2

    window = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    # Beyond the edge lies what no class equals. Where it is in the window, it is the largest label and not the least.
    largest = cv2.dilate(labels, window, borderType=cv2.BORDER_CONSTANT, borderValue=VOID)
    return (cv2.erode(labels, window) != largest) & (labels != VOID)
