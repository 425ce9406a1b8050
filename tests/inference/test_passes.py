"""Sliding windows, multi-scale + flip and their labels: against `literal_inference.py`, and counts by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coarse_networks import (
    CLASSES,
    MEAN,
    STD,
    coarse_of,
    expected_logits,
    image_of,
    run_pass,
    small_segmenter,
    with_coarse,
)
from literal_inference import RATIOS, multi_scale_flip, resize

import crisscross
from crisscross.config import InferenceConfig
from crisscross.inference import arrays, pixels
from crisscross.inference import passes as views_and_passes
from crisscross.inference.cells import cell_labels
from crisscross.inference.passes import Pass, window_starts
from crisscross.measurement.memory import peak_memory


def check_labels(labels, values):
    """Labels are the largest of values [K, H, W], but for ties."""
    values = torch.as_tensor(values)
    best = values.max(0).values
    chosen = values.gather(0, torch.from_numpy(labels).long()[None])[0]
    assert (best - chosen).max() <= 2e-5 * values.abs().max()
    assert len(np.unique(labels)) > 1


# --- windows ---


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [
        (1025, 769, 513, [0, 256]),
        (2049, 769, 513, [0, 513, 1026, 1280]),
        (2048, 769, 513, [0, 513, 1026, 1279]),
        (769, 769, 513, [0]),
        (1282, 769, 513, [0, 513]),
        (1283, 769, 513, [0, 513, 514]),
        (10, 4, 4, [0, 4, 6]),
        (7, 3, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_window_grids_by_hand(length, window, stride, expected):
    assert window_starts(length, window, stride) == expected


def test_cityscapes_is_eight_windows_at_the_published_size():
    seen = []

    def spy(x):
        seen.append(tuple(x.shape))
        return torch.zeros(1, 2, 2, 2)

    config = InferenceConfig("slide", (769, 769), (513, 513))
    run_pass(spy, torch.zeros(1, 3, 1025, 2049), (1024, 2048), config, True)
    assert seen == [(1, 3, 769, 769)] * 8


SIZES = [(75, 101), (64, 96), (50, 40), (20, 130), (1, 90), (90, 1), (33, 7)]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("scale", [None, (100, 70)])
@pytest.mark.parametrize(
    ("mode", "window", "stride"),
    [("whole", (1, 1), (1, 1)), ("slide", (41, 57), (26, 33)), ("slide", (20, 50), (20, 17))],
)
def test_logits_and_labels_are_the_literal_ones(mode, window, stride, scale, align_corners):
    segmenter = with_coarse(coarse_of, align_corners, scale, mode=mode, window=window, stride=stride)
    for height, width in SIZES:
        image = image_of(height, width)
        expected = expected_logits(segmenter, image)
        found = torch.from_numpy(segmenter.predictor.logits(image))
        assert found.shape == expected.shape == (CLASSES, height, width)
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
        prediction = segmenter.predict(image, probabilities=True)
        check_labels(prediction.labels, expected)
        assert np.abs(prediction.probabilities - expected.softmax(0).numpy()).max() < 2e-4
        if mode == "slide" and min(height, width) > 60:
            whole = with_coarse(coarse_of, align_corners, scale)
            assert (expected_logits(whole, image) - expected).abs().max() > 0.05


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mode", ["whole", "slide"])
@pytest.mark.parametrize(("height", "width", "scale"), [(75, 101, None), (66, 90, (128, 96)), (1, 40, (80, 64))])
def test_multi_scale_flip_is_the_literal_one(mode, align_corners, height, width, scale):
    segmenter = with_coarse(coarse_of, align_corners, scale, mode=mode, window=(57, 65), stride=(38, 40))
    config, image = segmenter.experiment.inference, image_of(height, width)
    assert (config.ratios, config.flip) == (RATIOS, True)
    pairs = ((0, 3), (1, 2))
    expected = multi_scale_flip(coarse_of, image, scale, config, MEAN, STD, align_corners, pairs)
    found = segmenter.predict(image, probabilities=True, tta=True)
    assert np.abs(found.probabilities - expected).max() < 5e-4
    check_labels(found.labels, found.probabilities)
    # Left and right arms not swapped, corners aligned otherwise, or one scale alone: something else.
    unswapped = multi_scale_flip(coarse_of, image, scale, config, MEAN, STD, align_corners)
    assert np.abs(unswapped - expected).max() > 0.02
    if height > 1:
        other = multi_scale_flip(coarse_of, image, scale, config, MEAN, STD, not align_corners, pairs)
        assert np.abs(other - expected).max() > 0.01
    assert np.abs(segmenter.predict(image, True).probabilities - expected).max() > 0.02


def test_ratios_are_those_of_the_test_scale_not_of_the_image():
    seen = []

    def spy(x):
        seen.append(tuple(x.shape[-2:]))
        return coarse_of(x)

    # 64 x 48 around an image of 90 x 66: 64 / 90 = 0.711 decides; 66 * 0.711 = 46.9. And 224 / 90 = 2.489.
    segmenter = with_coarse(spy, scale=(128, 96), ratios=(0.5, 1.75), flip=False)
    segmenter.predict(image_of(66, 90), tta=True)
    assert seen == [(47, 64), (164, 224)]
    # Without a test scale the image's own size is the base.
    seen.clear()
    segmenter = with_coarse(spy, ratios=(0.75, 1.0, 1.25), flip=True)
    segmenter.predict(image_of(67, 90), tta=True)
    # int(67.5) = 67 and int(50.25) = 50; 67 / 90 = 0.744 < 50 / 67: 49.9 rows. int(112.5) and int(83.75).
    assert seen == [(50, 67)] * 2 + [(67, 90)] * 2 + [(83, 111)] * 2


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    """200 bytes a pixel: 2400 x 2500 take 1.2 GB, whole; windows of 512 x 512 take 0.05."""
    monkeypatch.setattr(views_and_passes, "free_memory", lambda: 1_100_000_000)
    check, image = views_and_passes.check_memory, np.zeros((3, 1, 1), np.uint8)
    whole, slide = InferenceConfig(), InferenceConfig(mode="slide", window=(512, 512), stride=(341, 341))
    with pytest.raises(views_and_passes.TooLarge, match=r"2500 x 2400 pixels .* about 1 GiB, 1.0 are free; .* --big"):
        check(views_and_passes.views((2400, 2500), whole), image)
    check(views_and_passes.views((2400, 2500), slide), image)
    check(views_and_passes.views((2300, 2300), whole), image)
    # Resized for the network, it fits.
    check(views_and_passes.views((2400, 2500), whole, (1024, 1024)), image)
    # On a GPU memory is another.
    check(views_and_passes.views((2400, 2500), whole), torch.zeros((3, 1, 1), device="meta"))


def test_windows_stay_the_same_at_every_ratio():
    seen = []

    def spy(x):
        seen.append(tuple(x.shape[-2:]))
        return coarse_of(x)

    segmenter = with_coarse(spy, mode="slide", window=(48, 56), stride=(40, 40), ratios=(0.5, 2.0), flip=False)
    segmenter.predict(image_of(64, 96), tta=True)
    # 32 x 48 is smaller than a window; 128 x 192 is 3 x 5 of them.
    assert seen == [(32, 48)] + [(48, 56)] * 15


def test_the_mean_is_over_probabilities_not_logits():
    def steep(x):
        return coarse_of(x) * 3

    segmenter = with_coarse(steep, ratios=(0.5, 1.0))
    image = image_of(66, 90)
    found = segmenter.predict(image, probabilities=True, tta=True).probabilities
    passes = segmenter.predictor._passes_over(image.transpose(2, 0, 1), tta=True)
    mean_of_logits = arrays.softmax(np.mean([pixels.logits(one) for one in passes], 0))
    assert np.abs(found - mean_of_logits).max() > 0.2
    assert (found.argmax(0) != mean_of_logits.argmax(0)).any()


# --- how labels are made ---


def smooth(height, width, classes=19, seed=0, per=6):
    """Coarse logits of segments about `per` positions wide with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(1, classes, height // per + 2, width // per + 2, generator=generator)
    noise = torch.randn(classes, height, width, generator=generator)
    return F.interpolate(field, (height, width), mode="bicubic")[0] * 5 + 0.1 * noise


def by_full_tensors(coarse, middle, size, align_corners):
    return resize(resize(coarse[None], middle, align_corners), size, align_corners)[0]


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("small", "middle", "size"),
    [
        ((32, 40), (256, 320), (256, 320)),
        ((33, 41), (257, 321), (256, 320)),
        ((32, 43), (256, 342), (188, 251)),
        ((16, 21), (250, 333), (500, 777)),
        ((48, 64), (384, 512), (40, 50)),
        ((1, 30), (8, 240), (11, 301)),
    ],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_cells_and_tiles_are_the_two_step_interpolation_up_to_ties(small, middle, size, align_corners, mirrored):
    coarse = smooth(*small, per=16)
    x = torch.zeros(1, 3, *middle)
    one = run_pass(lambda _: coarse[None], x, size, InferenceConfig(), align_corners, mirrored)
    expected = by_full_tensors(coarse, middle, size, align_corners)
    expected = expected.flip(-1) if mirrored else expected
    assert (torch.from_numpy(pixels.logits(one)) - expected).abs().max() < 3e-5
    by_cells = cell_labels(one)
    if min(small) > 16 and size[0] > 100:
        assert by_cells is not None
    for labels in (by_cells, pixels.labels([one]), pixels.labels([one, one])):
        if labels is not None:
            assert labels.dtype == np.uint8
            check_labels(labels, expected)


def test_a_class_that_wins_between_corners_without_winning_at_one():
    # At the corners a wins by 1, in the middle c: (10 + 0) / 2 < 9.
    coarse = torch.tensor([[[10.0, 0.0]], [[0.0, 10.0]], [[9.0, 9.0]], [[-1.0, -1.0]]])
    coarse = torch.cat([coarse, *[coarse[..., 1:]] * 8], 2)
    one = run_pass(lambda _: coarse[None], torch.zeros(1, 3, 8, 80), (8, 80), InferenceConfig(), False)
    labels = cell_labels(Pass(coarse, one.rows, one.columns))
    assert labels is not None
    # The third class holds where 10 (1 - s) < 9 and 10 s < 9: fractions s of 0.1 to 0.9, pixels 4.3 to 10.7.
    assert labels[0].tolist() == [0] * 5 + [2] * 6 + [1] * 69
    assert (labels == labels[0]).all()


def test_noise_is_left_to_tiles_and_equal_logits_go_to_the_first_class():
    noise = torch.randn(7, 20, 30, generator=torch.Generator().manual_seed(0))
    x = torch.zeros(1, 3, 160, 240)
    one = run_pass(lambda _: noise[None], x, (160, 240), InferenceConfig(), False)
    assert cell_labels(one) is None
    check_labels(pixels.labels([one]), by_full_tensors(noise, (160, 240), (160, 240), False))
    flat = torch.zeros(7, 20, 30)
    flat[3:] = 1
    one = run_pass(lambda _: flat[None], x, (160, 240), InferenceConfig(), False)
    for labels in (pixels.labels([one]), pixels.labels([one, one])):
        assert np.unique(labels).tolist() == [3]


@pytest.mark.parametrize(("height", "width"), [(8, 10500), (10500, 8)])
def test_images_of_more_than_ten_thousand_pixels_a_side(height, width):
    segmenter = with_coarse(coarse_of)
    image = image_of(height, width)
    check_labels(segmenter.predict(image).labels, expected_logits(segmenter, image))


@pytest.mark.parametrize("classes", [1, 2, 255])
def test_any_number_of_classes(classes):
    coarse = smooth(8, 9, classes, per=3)
    x = torch.zeros(1, 3, 64, 72)
    one = run_pass(lambda _: coarse[None], x, (50, 60), InferenceConfig(), False)
    expected = by_full_tensors(coarse, (64, 72), (50, 60), False)
    for labels in (pixels.labels([one]), pixels.labels([one, one])):
        chosen = expected.gather(0, torch.from_numpy(labels).long()[None])[0]
        assert (expected.max(0).values - chosen).max() < 1e-4


def peak_of_labels(classes, height, width, ratios, per_stride=8):
    """Peak bytes of labeling, coarse logits made before it, and of the coarse logits themselves."""
    passes = []
    for ratio in ratios:
        x = torch.zeros(1, 3, int(height * ratio), int(width * ratio))
        small = -(-x.shape[2] // per_stride), -(-x.shape[3] // per_stride)
        coarse = smooth(*small, classes=classes, seed=len(passes))
        for mirrored in (False, True):
            passes.append(
                run_pass(lambda _, c=coarse: c[None].clone(), x, (height, width), InferenceConfig(), False, mirrored)
            )
    kept = sum(one.coarse.nbytes for one in passes)
    return peak_memory(lambda: pixels.labels(passes), torch.device("cpu")).peak, kept


@pytest.mark.usefixtures("one_thread")  # each thread may hold a tile
def test_full_logits_are_never_held():
    classes, height, width = 150, 256, 512
    full = classes * height * width * 4
    peak, kept = peak_of_labels(classes, height, width, (0.5, 1.0))
    assert peak < full / 3 and kept < full / 10
    coarse = smooth(32, 64, classes)
    one = run_pass(lambda _: coarse[None], torch.zeros(1, 3, height, width), (height, width), InferenceConfig(), False)
    assert peak_memory(lambda: pixels.labels([one]), torch.device("cpu")).peak < full / 2


@pytest.mark.slow
def test_multi_scale_flip_of_150_classes_at_1024_x_2048_stays_below_2_gb():
    peak, kept = peak_of_labels(150, 1024, 2048, RATIOS)
    # Full probabilities of one pass alone are 1.26 GB, and plain code holds three such tensors.
    assert peak + kept < 0.6e9


def test_tiles_cover_every_pixel_once(monkeypatch):
    coarse = smooth(12, 20, 5)
    one = run_pass(lambda _: coarse[None], torch.zeros(1, 3, 96, 160), (97, 163), InferenceConfig(), False)
    expected = by_full_tensors(coarse, (96, 160), (97, 163), False)
    for values in (1, 1000, 7777, 10**9):
        monkeypatch.setattr(pixels, "VALUES_CPU", values)
        if values > 1 or len(expected) == 5:
            assert (torch.from_numpy(pixels.logits(one)) - expected).abs().max() < 1e-5


# --- the rewritten network ---


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_an_optimized_network_works_in_every_mode(mode):
    from dataclasses import replace

    segmenter = small_segmenter()
    config = InferenceConfig(mode, (64, 64), (48, 48), ratios=(0.75, 1.0))
    segmenter.experiment = replace(segmenter.experiment, inference=config)
    fast, image = crisscross.optimize(segmenter), image_of(90, 120)
    assert fast.experiment == segmenter.experiment
    for found, expected in (
        (fast.predict(image).labels, segmenter.predict(image).labels),
        (fast.predict(image, tta=True).labels, segmenter.predict(image, tta=True).labels),
        (fast.predict_big(image, 64, 32), segmenter.predict_big(image, 64, 32)),
    ):
        assert (found == expected).mean() > 0.995 and len(np.unique(expected)) > 1
