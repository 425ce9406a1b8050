"""Label maps as colors, checked by hand."""

import numpy as np
import pytest

from crisscross.data.color import colorise, overlay
from crisscross.data.palette import default_palette

PALETTE = [(255, 0, 0), (0, 100, 200)]


def test_every_label_gets_its_color_and_the_rest_the_ignore_color():
    painted = colorise(np.array([[0, 1], [2, 255]], np.uint8), PALETTE, ignore_color=(9, 8, 7))
    assert painted.dtype == np.uint8
    assert painted.tolist() == [[[255, 0, 0], [0, 100, 200]], [[9, 8, 7], [9, 8, 7]]]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_negative_labels_are_ignored_and_do_not_count_from_the_end(dtype):
    assert colorise(np.array([[-1, 1]], dtype), PALETTE).tolist() == [[[0, 0, 0], [0, 100, 200]]]


def test_a_palette_of_256_colors_uses_them_all():
    palette = [(index, 255 - index, 3) for index in range(256)]
    assert colorise(np.array([[0, 255]], np.uint8), palette).tolist() == [[[0, 255, 3], [255, 0, 3]]]


def test_scores_are_not_labels():
    with pytest.raises(TypeError, match="float32"):
        colorise(np.zeros((2, 2), np.float32), PALETTE)


def test_overlay_mixes_by_alpha_and_leaves_ignored_pixels():
    image = np.full((1, 3, 3), 100, np.uint8)
    labels = np.array([[0, 1, 255]])
    assert overlay(image, labels, PALETTE, 0.25).tolist() == [[[139, 75, 75], [75, 100, 125], [100, 100, 100]]]
    assert overlay(image, labels, PALETTE, 0).tolist() == image.tolist()
    assert overlay(image, labels, PALETTE, 1).tolist() == [[[255, 0, 0], [0, 100, 200], [100, 100, 100]]]


def test_overlay_of_every_value_is_its_rounded_mean_with_the_color():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2) ^ np.array([0, 85, 170], np.uint8)
    palette = [(255, 0, 13), (1, 128, 77)]
    for alpha in (0.5, 0.3):
        for label, color in enumerate(palette):
            found = overlay(image, np.full((16, 16), label), palette, alpha)
            assert np.abs(found - (image * (1 - alpha) + np.array(color) * alpha)).max() <= 0.5


def test_overlay_leaves_black_classes_as_they_are():
    image = np.full((1, 2, 3), 100, np.uint8)
    palette = default_palette(["background", "cell"])
    assert overlay(image, np.array([[0, 1]]), palette).tolist() == [[[100, 100, 100], [114, 50, 50]]]


@pytest.mark.parametrize(
    ("names", "colors"),
    [
        (["road", "car"], [(128, 0, 0), (0, 128, 0)]),
        (["background", "cell"], [(0, 0, 0), (128, 0, 0)]),
        (["cell", "_Background_", "wall"], [(128, 0, 0), (0, 0, 0), (0, 128, 0)]),
    ],
)
def test_a_background_is_black_by_default(names, colors):
    assert default_palette(names) == tuple(colors)


def test_overlay_refuses_what_cannot_be_laid_over():
    with pytest.raises(ValueError, match="one size"):
        overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), int), PALETTE)
    with pytest.raises(ValueError, match="alpha"):
        overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), int), PALETTE, 1.5)
