"""Boundary IoU against its definition, pixel by pixel, and against the authors' repeated erosion."""

import math

import numpy as np
import pytest

from crisscross.metrics import boundary_counts
from crisscross.metrics.boundary import band_width
from crisscross.metrics.overlap import iou_of


def band(mask, width):
    """Pixels of a mask with a pixel outside of it, or beyond the image, within `width` rows and columns."""
    height, length = mask.shape
    found = np.zeros_like(mask)
    for y, x in zip(*mask.nonzero(), strict=True):
        around = [
            0 <= v < height and 0 <= u < length and mask[v, u]
            for v in range(y - width, y + width + 1)
            for u in range(x - width, x + width + 1)
        ]
        found[y, x] = not all(around)
    return found


def draw(seed, height=23, width=37, classes=4):
    """Truth with blobs of classes 0 to 2 and ignored pixels, and a prediction that errs: class 3 is predicted alone."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, classes - 1, (-(-height // 6), -(-width // 8))).astype(np.uint8)
    truth = np.kron(blocks, np.ones((6, 8), np.uint8))[:height, :width].copy()
    prediction = np.roll(truth, (1, 2), (0, 1))
    prediction[5:9, 20:30] = 3
    truth[generator.random(truth.shape) < 0.01] = 255
    truth[14:18, 3:12] = 255
    return prediction, truth


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("ratio", [0.02, 0.07])
def test_counts_are_those_of_the_definition(seed, ratio):
    prediction, truth = draw(seed)
    width = max(1, round(ratio * math.hypot(*truth.shape)))
    valid, expected = truth != 255, []
    for number in range(4):
        of_truth = band((truth == number) & valid, width)
        of_prediction = band((prediction == number) & valid, width)
        expected.append([(of_truth & of_prediction).sum(), of_truth.sum(), of_prediction.sum()])
    assert boundary_counts(prediction, truth, 4, 255, ratio).T.tolist() == expected


def test_bands_are_those_of_repeated_erosion():
    # As in the authors' code: a border of zeros around the mask, then a 3 x 3 erosion `width` times.
    cv2 = pytest.importorskip("cv2")
    prediction, truth = draw(3, 60, 90)
    width = band_width(*truth.shape)
    assert width == 2

    def authors(mask):
        padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
        return mask & (eroded[1:-1, 1:-1] == 0)

    valid = truth != 255
    for number, (_, of_truth, of_prediction) in enumerate(boundary_counts(prediction, truth, 4).T.tolist()):
        assert of_truth == authors((truth == number) & valid).sum()
        assert of_prediction == authors((prediction == number) & valid).sum()


def test_one_square_by_hand():
    # A square of 6 x 6 and one that is a column to the right; with a width of 1 their bands are rings of 20 pixels.
    truth, prediction = np.zeros((2, 20, 20), np.uint8)
    truth[5:11, 5:11] = prediction[5:11, 6:12] = 1
    common, of_truth, of_prediction = boundary_counts(prediction, truth, 2, ratio=1 / 28.3)[:, 1].tolist()
    # Top and bottom rows share 5 pixels each; of the sides, none of the columns coincide.
    assert (common, of_truth, of_prediction) == (10, 20, 20)
    assert iou_of(boundary_counts(prediction, truth, 2, ratio=1 / 28.3))[1] == 10 / 30
    # A perfect prediction.
    assert iou_of(boundary_counts(truth, truth, 2)).tolist() == [1, 1]


def test_a_class_that_never_occurs_and_an_image_that_is_ignored():
    truth = np.zeros((8, 9), np.uint8)
    found = iou_of(boundary_counts(truth, truth, 3))
    assert found[0] == 1 and np.isnan(found[1:]).all()
    assert not boundary_counts(truth, np.full_like(truth, 255), 3).any()
    # Another value that is ignored.
    assert not boundary_counts(truth, np.full_like(truth, 7), 3, ignore=7).any()


@pytest.mark.parametrize(("height", "width", "pixels"), [(1024, 2048, 46), (360, 480, 12), (10, 10, 1)])
def test_the_width_is_a_fraction_of_the_diagonal(height, width, pixels):
    assert band_width(height, width) == pixels
