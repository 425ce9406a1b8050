"""What meets an image before the network and its logits after it, against values worked out apart from the package."""

import numpy as np
import pytest
import torch
from coarse_networks import run_pass, small_segmenter

from crisscross.config import InferenceConfig, PreprocessConfig
from crisscross.data.samples.opencv_resize import resize
from crisscross.data.samples.preprocess import fit_size, normalize
from crisscross.inference import pixels
from crisscross.layers.modes import evaluating


def line(old, new, align_corners):
    """Bilinear interpolation of one axis as a matrix [new, old]."""
    matrix = np.zeros((new, old))
    for row in range(new):
        if align_corners:
            place = row * (old - 1) / (new - 1) if new > 1 else 0.0
        else:
            place = min(max((row + 0.5) * old / new - 0.5, 0.0), old - 1.0)
        low = int(place)
        high = min(low + 1, old - 1)
        matrix[row, low] += 1 - (place - low)
        matrix[row, high] += place - low
    return matrix


def stretch(values, size, align_corners=False):
    """Bilinear resize of [..., H, W], without antialiasing, in float64."""
    values = np.asarray(values, np.float64)
    return line(values.shape[-2], size[0], align_corners) @ values @ line(values.shape[-1], size[1], align_corners).T


# --- sizes ---


@pytest.mark.parametrize(
    ("height", "width", "scale", "expected"),
    [
        (1024, 2048, (2049, 1025), (1025, 2049)),  # 2049 / 2048 is the smaller factor: 1024.5 rounds up
        (1024, 2048, (2048, 1024), (1024, 2048)),
        (375, 500, (2048, 512), (512, 683)),  # the short side decides: 512 / 375 = 1.365333
        (500, 375, (2048, 512), (683, 512)),  # a standing image: long and short, not width and height
        (500, 375, (512, 2048), (683, 512)),
        (100, 1000, (2048, 512), (205, 2048)),  # the long side decides: 204.8 rounds up
        (360, 480, (720, 540), (540, 720)),
        (1, 1000, (100, 100), (1, 100)),  # 0.1 would round to nothing
    ],
)
def test_sizes_that_fit_a_scale(height, width, scale, expected):
    assert fit_size(height, width, scale) == expected


def test_resize_is_bilinear_without_antialiasing_and_stays_uint8():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 9, 13), np.uint8))
    for scale in ((26, 18), (6, 5)):
        size = fit_size(9, 13, scale)
        resized = resize(image, size)
        assert resized.dtype == torch.uint8 and tuple(resized.shape) == (3, *size)
        # OpenCV's whole numbers: never a whole value away from the exact one.
        assert np.abs(resized.numpy() - stretch(image.numpy(), size)).max() < 1


# --- values ---


def test_normalise_by_hand():
    image = torch.tensor([[[10, 20]], [[30, 40]], [[50, 60]]], dtype=torch.uint8)
    config = PreprocessConfig(mean=(10, 20, 30), std=(2, 4, 5))
    found = normalize(image, config)
    assert found.dtype == torch.float32 and found.shape == (1, 3, 1, 2)
    assert found.tolist() == [[[[0, 5]], [[2.5, 5]], [[4, 6]]]]


def test_bgr_turns_the_channels_before_the_mean():
    image = torch.tensor([[[10]], [[30]], [[50]]], dtype=torch.uint8)
    config = PreprocessConfig(mean=(10, 20, 30), std=(2, 4, 5), order="bgr")
    # blue 50, green 30, red 10 meet the first, second and third mean.
    assert normalize(image, config).flatten().tolist() == [20, 2.5, -4]


def test_normalise_takes_a_batch():
    batch = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).view(2, 3, 2, 2)
    found = normalize(batch, PreprocessConfig(mean=(100, 100, 100), std=(2, 2, 2)))
    assert torch.equal(found, (batch.double() - 100).div(2).float())


def test_published_mean_and_std_are_the_default():
    image = torch.full((3, 1, 1), 255, dtype=torch.uint8)
    expected = [(255 - 123.675) / 58.395, (255 - 116.28) / 57.12, (255 - 103.53) / 57.375]
    assert normalize(image, PreprocessConfig()).flatten().tolist() == pytest.approx(expected, rel=1e-6)


# --- whole ---


@pytest.mark.parametrize("align_corners", [False, True])
def test_whole_resizes_once_more_to_the_images_own_size(align_corners):
    coarse = torch.randn(1, 4, 36, 37, generator=torch.Generator().manual_seed(0))
    seen = []

    def coarse_of(x):
        seen.append(x)
        return coarse

    def logits(size):
        return pixels.logits(run_pass(coarse_of, x, size, InferenceConfig(), align_corners))

    x = torch.zeros(1, 3, 36, 37)
    found = logits((51, 33))
    assert len(seen) == 1 and torch.equal(seen[0], x)
    assert np.abs(found - stretch(coarse[0].numpy(), (51, 33), align_corners)).max() < 1e-5
    # The other way of aligning would be noticed.
    assert np.abs(found - stretch(coarse[0].numpy(), (51, 33), not align_corners)).max() > 0.1
    assert np.array_equal(logits((36, 37)), coarse[0].numpy())


def test_a_image_smaller_than_the_largest_stride_is_filled_up_and_cut_back():
    x = torch.rand(1, 3, 5, 40, generator=torch.Generator().manual_seed(0)) + 1

    def coarse_of(given):
        assert given.shape == (1, 3, 32, 40)
        assert torch.equal(given[..., :5, :], x) and not given[..., 5:, :].any()
        return given * 2

    one = run_pass(coarse_of, x, (5, 40), InferenceConfig(), False)
    assert np.array_equal(pixels.logits(one), x[0].numpy() * 2)


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_go_to_network_input_size_first_and_then_to_the_images_own(align_corners):
    segmenter = small_segmenter(align_corners, scale=(60, 44))
    image = np.random.default_rng(1).integers(0, 256, (33, 45, 3), np.uint8)
    given = torch.from_numpy(image).permute(2, 0, 1)
    x = segmenter.preprocess(given)
    assert tuple(x.shape) == (1, 3, 44, 60)
    with torch.inference_mode():
        coarse = segmenter.coarse(x).main[0].numpy()
    twice = stretch(stretch(coarse, (44, 60), align_corners), (33, 45), align_corners)
    once = stretch(coarse, (33, 45), align_corners)
    found = segmenter.predictor.logits(given)
    near = 1e-4 * np.abs(twice).max()
    assert np.abs(found - twice).max() < near
    # One resize is something else: this test can tell.
    assert np.abs(found - once).max() > 10 * near

    prediction = segmenter.predict(image, probabilities=True)
    assert prediction.labels.dtype == np.uint8 and prediction.labels.shape == (33, 45)
    assert len(np.unique(prediction.labels)) > 1
    assert (prediction.labels == twice.argmax(0)).mean() > 0.999
    odds = np.exp(twice) / np.exp(twice).sum(0)
    assert np.abs(prediction.probabilities - odds).max() < 1e-3
    assert segmenter.predict(image).probabilities is None


def test_predict_works_in_evaluation_mode_and_gives_the_former_mode_back():
    segmenter = small_segmenter().train()
    image = np.random.default_rng(2).integers(0, 256, (24, 32, 3), np.uint8)
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    first, second = segmenter.predict(image), segmenter.predict(image)
    assert (first.labels == second.labels).all()
    assert segmenter.training and segmenter.backbone.training
    assert all(torch.equal(value, before[key]) for key, value in segmenter.state_dict().items())
    assert (segmenter.eval().predict(image).labels == first.labels).all()
    assert not segmenter.training


def test_predict_gives_every_module_its_own_mode_back():
    """A norm that somebody keeps in evaluation mode while the rest trains, and the other way round."""
    segmenter = small_segmenter().train()
    segmenter.backbone.net.bn1.eval()
    segmenter.head.eval()
    segmenter.head.dropout.train()
    before = {name: module.training for name, module in segmenter.named_modules()}
    image = np.random.default_rng(2).integers(0, 256, (24, 32, 3), np.uint8)

    def label_frames(image):
        return list(segmenter.predictor.label_frames([image]))

    for label in (segmenter.predict, segmenter.predict_big, segmenter.predictor.logits, label_frames):
        label(image)
        assert {name: module.training for name, module in segmenter.named_modules()} == before
    assert len(set(before.values())) == 2


class Merging(torch.nn.Module):
    """Does something when its mode changes, as layers do that merge weights for evaluation."""

    def __init__(self):
        super().__init__()
        self.part, self.merged = torch.nn.Linear(1, 1), False

    def train(self, mode=True):
        self.merged = not mode
        return super().train(mode)


@pytest.mark.parametrize("outer", [False, True])
def test_modes_come_back_through_train_and_after_errors(outer):
    inner = Merging().train()
    network = torch.nn.ModuleDict({"a": inner, "b": torch.nn.ModuleDict({"again": inner.part})})
    network.training = outer
    network["b"].eval()
    inner.part.training = not outer
    with evaluating(network):
        assert inner.merged and not any(module.training for module in network.modules())
    with pytest.raises(ZeroDivisionError), evaluating(network):
        1 / 0  # noqa: B018
    assert not inner.merged and inner.training and inner.part.training is not outer
    assert network.training is outer and not network["b"].training
