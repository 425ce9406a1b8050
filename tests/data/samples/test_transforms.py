"""Chance in training: every draw has the published range and moves image and mask together."""

import colorsys
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torchvision.tv_tensors import Image, Mask

from crisscross.config import AugmentConfig
from crisscross.data.samples import distortion, transforms
from crisscross.data.samples.distortion import photometric_distortion, scale_saturation, turn_hue
from crisscross.data.samples.draws import chance, uniform, whole_number
from crisscross.data.samples.preprocess import fit_size
from crisscross.data.samples.transforms import (
    augment,
    pad,
    random_crop,
    random_flip,
    random_resize,
)


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def is_share(hits: int, draws: int, probability: float) -> bool:
    """Within five standard deviations of a binomial count."""
    return abs(hits - draws * probability) < 5 * math.sqrt(draws * probability * (1 - probability))


def marked(height: int, width: int) -> tuple[Image, Mask]:
    """An image whose first channel is its mask, so that it shows whether the two moved together."""
    mask = (torch.arange(height * width) % 251).to(torch.uint8).reshape(height, width)
    return Image(torch.stack([mask, mask // 2, mask // 3])), Mask(mask)


def test_chance_a_quarter_means_a_quarter() -> None:
    generator = seeded()
    assert is_share(sum(chance(0.25, generator) for _ in range(10000)), 10000, 0.25)
    assert not any(chance(0, generator) for _ in range(100))
    assert all(chance(1, generator) for _ in range(100))


def test_uniform_and_whole_numbers_fill_their_ranges() -> None:
    generator = seeded()
    drawn = [uniform(-2, 3, generator) for _ in range(4000)]
    assert -2 <= min(drawn) < -1.98
    assert 2.98 < max(drawn) < 3
    assert abs(sum(drawn) / 4000 - 0.5) < 5 * (5 / math.sqrt(12)) / math.sqrt(4000)
    counts = np.bincount([whole_number(5, generator) for _ in range(5000)])
    assert len(counts) == 5
    assert all(is_share(int(count), 5000, 0.2) for count in counts)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        # The short side limits: 1024 / 360; 480 * 1024 / 360 + 0.5 = 1365.8.
        ((360, 480), (2048, 1024), (1024, 1365)),
        ((480, 360), (2048, 1024), (1365, 1024)),
        ((360, 480), (1024, 2048), (1024, 1365)),
        # 500 / 3 = 166.7 is rounded to the nearest.
        ((500, 300), (200, 100), (167, 100)),
        ((300, 500), (200, 100), (100, 167)),
        # The long side limits: 2048 / 2000; 500 * 1.024 + 0.5 = 512.5.
        ((500, 2000), (2048, 1024), (512, 2048)),
        ((1024, 2048), (2048, 1024), (1024, 2048)),
        # 3 / 7 * 2 + 0.5 = 1.36; never below one pixel.
        ((2, 7), (3, 3), (1, 3)),
        ((1, 100), (10, 10), (1, 10)),
    ],
)
def test_fit_size_by_hand(size: tuple[int, int], scale: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit_size(*size, scale) == expected


def test_resize_ratios_fill_their_range() -> None:
    image, mask = marked(100, 160)
    generator = seeded()
    heights = []
    for _ in range(400):
        resized, labels = random_resize(image, mask, AugmentConfig(), generator)
        assert resized.shape[-2:] == labels.shape
        assert abs(labels.shape[1] - labels.shape[0] * 1.6) <= 2
        heights.append(labels.shape[0])
    assert 50 <= min(heights) < 53
    assert 197 < max(heights) <= 200
    # Uniform in the ratio, so a third of the draws lies below 1.
    assert is_share(sum(height < 100 for height in heights), 400, 1 / 3)


def test_the_scaled_target_is_cut_to_whole_numbers_not_rounded() -> None:
    # 10 * 0.37 = 3.7 counts as 3.
    resized, _ = random_resize(*marked(10, 10), AugmentConfig(ratio=(0.37, 0.37)), seeded())
    assert resized.shape[-2:] == (3, 3)
    # (40 * 0.58, 20 * 0.58) = (23.2, 11.6) counts as (23, 11): factor min(23 / 20, 11 / 10) = 1.1.
    resized, _ = random_resize(*marked(10, 20), AugmentConfig(scale=(40, 20), ratio=(0.58, 0.58)), seeded())
    assert resized.shape[-2:] == (11, 22)


def test_resizing_interpolates_images_and_not_masks() -> None:
    mask = Mask(torch.zeros(20, 20, dtype=torch.uint8))
    mask[:, 10:] = 200
    image = Image(mask.as_subclass(Tensor).expand(3, 20, 20).contiguous())
    resized, labels = random_resize(image, mask, AugmentConfig(ratio=(1.7, 1.7)), seeded())
    assert set(labels.unique().tolist()) == {0, 200}
    assert len(resized.unique()) > 2


def test_crop_offsets_are_uniform_over_the_whole_margin() -> None:
    image, mask = marked(9, 13)
    config = AugmentConfig(crop=(5, 10), max_fraction=1.0)
    generator, counts = seeded(), np.zeros((5, 4), int)
    for _ in range(4000):
        cropped, labels = random_crop(image, mask, config, 255, generator)
        assert labels.shape == (5, 10)
        assert torch.equal(cropped[0].as_subclass(Tensor), labels.as_subclass(Tensor))
        top, left = divmod(int(labels[0, 0]), 13)
        counts[top, left] += 1
    # 19 degrees of freedom: above 60 with chance 4e-6.
    assert float(((counts - 200) ** 2 / 200).sum()) < 60


def test_a_image_smaller_than_the_crop_stays_whole() -> None:
    image, mask = marked(4, 20)
    cropped, labels = random_crop(image, mask, AugmentConfig(crop=(8, 6), max_fraction=1.0), 255, seeded())
    assert labels.shape == (4, 6)
    assert cropped.shape == (3, 4, 6)


@pytest.fixture
def tops(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces the draws of a crop by 0, 1, 2 ... for the top and 0 for the left; the list tells the tops drawn."""
    drawn: list[int] = []

    def draw(count: int, generator: Generator) -> int:
        if count == 1:
            return 0
        drawn.append(len(drawn))
        return drawn[-1]

    monkeypatch.setattr(transforms, "whole_number", draw)
    return drawn


def crop_of(labels: Tensor, max_fraction: float = 0.75) -> Mask:
    """A crop of 4 rows and the full width."""
    image = Image(labels.expand(3, *labels.shape).contiguous())
    config = AugmentConfig(crop=(4, labels.shape[1]), max_fraction=max_fraction)
    return random_crop(image, Mask(labels), config, 255, seeded())[1]


def test_one_class_alone_is_drawn_again_ten_times_and_the_last_draw_is_kept(tops: list[int]) -> None:
    labels = torch.full((40, 5), 3, dtype=torch.uint8)
    # Ignored rows tell where the crop was taken and count for no class.
    labels[13] = 255
    crop = crop_of(labels)
    assert tops == list(range(11))
    assert (crop[:, 0] == 255).nonzero().tolist() == [[13 - 10]]


@pytest.mark.parametrize(("of_sixteen", "draws"), [(11, 1), (12, 11), (13, 11), (4, 11), (5, 1)])
def test_a_crop_is_kept_when_the_largest_class_is_below_the_share(tops: list[int], of_sixteen: int, draws: int) -> None:
    labels = torch.zeros(40, 4, dtype=torch.uint8)
    # The pattern repeats every four rows, so that the counts are the same whatever the top.
    labels.view(-1, 16)[:, :of_sixteen] = 1
    assert {int((labels[top : top + 4] == 1).sum()) for top in range(12)} == {of_sixteen}
    crop_of(labels)
    assert len(tops) == draws


def test_the_first_good_draw_ends_the_search(tops: list[int]) -> None:
    labels = torch.zeros(40, 4, dtype=torch.uint8)
    labels[8:] = 1
    # Rows 5..8 are the first to hold a second class, 3 to 1 (the share itself is too much); rows 6..9 hold 2 to 2.
    crop = crop_of(labels)
    assert tops == list(range(7))
    assert crop[:, 0].tolist() == [0, 0, 1, 1]


def test_ignored_pixels_do_not_count(tops: list[int]) -> None:
    labels = torch.full((40, 4), 255, dtype=torch.uint8)
    # Half the crop is one class, half is ignored: one class alone.
    labels[:, :2] = 1
    crop_of(labels)
    assert len(tops) == 11
    tops.clear()
    labels[:, 1] = 2
    crop_of(labels)
    assert len(tops) == 1


def test_share_one_switches_the_rule_off(tops: list[int]) -> None:
    crop_of(torch.zeros(40, 4, dtype=torch.uint8), max_fraction=1.0)
    assert len(tops) == 1


def test_flip_moves_both_or_neither() -> None:
    image, mask = marked(3, 5)
    generator, flipped = seeded(), 0
    for _ in range(2000):
        turned, labels = random_flip(image, mask, 0.25, generator)
        assert torch.equal(turned[0].as_subclass(Tensor), labels.as_subclass(Tensor))
        assert labels.tolist() in (mask.tolist(), mask.flip(-1).tolist())
        flipped += labels.tolist() != mask.tolist()
    assert is_share(flipped, 2000, 0.25)


def test_a_mirrored_mask_exchanges_both_classes_of_each_pair() -> None:
    # The greater number first in one pair, as either may be; 3 and 255 are in none.
    rows = [[1, 1, 2, 4, 6, 3], [255, 6, 6, 0, 4, 2]]
    mask = Mask(torch.tensor(rows, dtype=torch.uint8))
    image = Image(mask.as_subclass(Tensor).expand(3, 2, 6).contiguous())
    turned, labels = random_flip(image, mask, 1.0, seeded(), ((1, 2), (6, 4)))
    assert labels.tolist() == [[3, 4, 6, 1, 2, 2], [1, 6, 0, 4, 4, 255]]
    assert labels.dtype == torch.uint8
    assert turned.tolist() == [[row[::-1] for row in rows]] * 3
    # An image that is not mirrored keeps its classes.
    assert random_flip(image, mask, 0.0, seeded(), ((1, 2), (6, 4)))[1].tolist() == rows


def test_padding_is_right_and_below() -> None:
    image, mask = torch.randn(3, 4, 5), torch.ones(4, 5, dtype=torch.uint8)
    padded, labels = pad(image, mask, (6, 9), 77)
    assert torch.equal(padded[:, :4, :5], image)
    assert torch.equal(labels[:4, :5], mask)
    assert (padded.abs().sum().item(), labels.shape) == (pytest.approx(image.abs().sum().item()), (6, 9))
    assert labels.long().sum() == 20 + 77 * (54 - 20)
    assert type(padded) is Tensor
    assert type(labels) is Tensor
    same, _ = pad(image, mask, (3, 5), 77)
    assert torch.equal(same, image)


def test_a_sample_follows_from_its_seed() -> None:
    image, mask = (part.as_subclass(Tensor) for part in marked(40, 60))
    config = AugmentConfig(crop=(16, 24))
    before = image.clone()
    samples = [augment(image, mask, config, 255, seeded(seed)) for seed in (5, 5, 6)]
    assert torch.equal(samples[0][0], samples[1][0])
    assert torch.equal(samples[0][1], samples[1][1])
    assert not torch.equal(samples[0][1], samples[2][1])
    assert torch.equal(image, before)
    assert (samples[0][0].dtype, samples[0][1].dtype) == (torch.uint8, torch.uint8)


def test_switches_of_the_configuration() -> None:
    image, mask = (part.as_subclass(Tensor) for part in marked(16, 24))
    config = AugmentConfig(ratio=(1, 1), crop=(16, 24), flip=0, distortion=False)
    for seed in range(5):
        plain, labels = augment(image, mask, config, 255, seeded(seed))
        assert torch.equal(plain, image)
        assert torch.equal(labels, mask)


def colors() -> Tensor:
    """float32 [3, 1, N] in 0..255: random ones, grays, and the corners and edges of the color cube."""
    values = torch.tensor([0.0, 1.0, 127.0, 254.0, 255.0])
    grid = torch.cartesian_prod(values, values, values)
    return torch.cat([grid, torch.rand(300, 3, generator=seeded()) * 255]).T[:, None].contiguous()


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.2, 1.5])
def test_saturation_against_colorsys(factor: float) -> None:
    before, after = colors(), scale_saturation(colors(), factor)
    for pixel, found in zip(before[:, 0].T.tolist(), after[:, 0].T.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in pixel))
        expected = colorsys.hsv_to_rgb(hue, min(saturation * factor, 1), value)
        assert found == pytest.approx([255 * channel for channel in expected], abs=1e-2), pixel


@pytest.mark.parametrize("degrees", [-36, -2, 0, 10, 34, 180])
def test_hue_against_colorsys(degrees: float) -> None:
    before, after = colors(), turn_hue(colors(), degrees)
    for pixel, found in zip(before[:, 0].T.tolist(), after[:, 0].T.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in pixel))
        expected = colorsys.hsv_to_rgb((hue + degrees / 360) % 1, saturation, value)
        assert found == pytest.approx([255 * channel for channel in expected], abs=1e-2), pixel


def with_coins(monkeypatch: pytest.MonkeyPatch, *coins: bool) -> None:
    """Fix the coins of every distortion: brightness, early or not, [contrast], saturation, hue, [contrast]."""
    thrown: Iterator[bool] = iter(coins * 10000)
    monkeypatch.setattr(distortion, "chance", lambda probability, generator: next(thrown))


BRIGHTNESS_ONLY = (True, True, False, False, False)
EARLY_CONTRAST_ONLY = (False, True, True, False, False)
LATE_CONTRAST_ONLY = (False, False, False, False, True)


@pytest.mark.parametrize(
    ("coins", "low", "high"),
    [(BRIGHTNESS_ONLY, 68, 132), (EARLY_CONTRAST_ONLY, 50, 150), (LATE_CONTRAST_ONLY, 50, 150)],
)
def test_ranges_of_brightness_and_contrast(
    monkeypatch: pytest.MonkeyPatch, coins: tuple[bool, ...], low: int, high: int
) -> None:
    with_coins(monkeypatch, *coins)
    generator, gray = seeded(), torch.full((3, 1, 1), 100, dtype=torch.uint8)
    found = torch.stack([photometric_distortion(gray, generator)[:, 0, 0] for _ in range(1500)]).int()
    assert torch.equal(found[:, 0], found[:, 2])
    assert low <= found.min() <= low + 1
    assert high - 1 <= found.max() <= high
    assert abs(found.float().mean() - 100) < 5 * (high - low) / math.sqrt(12 * 1500)


def test_values_are_clipped_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    with_coins(monkeypatch, True, True, True, False, False)
    monkeypatch.setattr(distortion, "uniform", lambda low, high, generator: {-32.0: 32.0, 0.5: 0.5}[low])
    image = torch.tensor([250, 100, 0], dtype=torch.uint8).view(3, 1, 1)
    # min(250 + 32, 255) / 2 = 127.5, rounded to the even neighbor; without the clip it would be 141.
    assert photometric_distortion(image, seeded()).flatten().tolist() == [128, 66, 16]
    monkeypatch.setattr(distortion, "uniform", lambda low, high, generator: {-32.0: -32.0, 0.5: 1.5}[low])
    assert photometric_distortion(image, seeded()).flatten().tolist() == [255, 102, 0]


def test_every_operation_has_chance_one_half_and_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, float]] = []
    real = distortion.uniform

    def spied(low: float, high: float, generator: Generator) -> float:
        drawn = real(low, high, generator)
        name = {-32.0: "brightness", 0.5: "contrast"}.get(low)
        if name:
            events.append((name, drawn))
        return drawn

    def saturation(x: Tensor, factor: float) -> Tensor:
        # The draw just before this call was the saturation's, not a contrast.
        events[-1] = ("saturation", factor)
        return x

    def hue(x: Tensor, degrees: float) -> Tensor:
        events.append(("hue", degrees))
        return x

    monkeypatch.setattr(distortion, "uniform", spied)
    monkeypatch.setattr(distortion, "scale_saturation", saturation)
    monkeypatch.setattr(distortion, "turn_hue", hue)
    generator, image = seeded(), torch.zeros(3, 1, 1, dtype=torch.uint8)
    runs = []
    for _ in range(3000):
        events.clear()
        photometric_distortion(image, generator)
        runs.append(dict(events))
        assert [name for name, _ in events if name != "contrast"] == [
            name for name in ("brightness", "saturation", "hue") if name in runs[-1]
        ]
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert is_share(sum(name in run for run in runs), 3000, 0.5), name
    both = [list(run) for run in runs if {"contrast", "saturation"} <= set(run)]
    early = sum(names.index("contrast") < names.index("saturation") for names in both)
    assert is_share(early, len(both), 0.5)
    # The same coin decides neither two operations nor an operation and the order.
    assert is_share(len(both), 3000, 0.25)
    saturations = [run["saturation"] for run in runs if "saturation" in run]
    assert 0.5 <= min(saturations) < 0.505
    assert 1.495 < max(saturations) < 1.5
    assert {run["hue"] for run in runs if "hue" in run} == {2.0 * step for step in range(-18, 18)}


# --- rotation ---


def turned_by_hand(mask: np.ndarray, degrees: float, ignore: int, tall: int, wide: int) -> np.ndarray:
    """Nearest label at each pixel of a frame [tall, wide] round the turned image, by the inverse rotation."""
    height, width = mask.shape
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # The frame holds all of it, with at most two pixels to spare.
    assert 0 <= tall - (abs(width * s) + abs(height * c)) + 1e-6 < 3
    assert 0 <= wide - (abs(width * c) + abs(height * s)) + 1e-6 < 3
    found = np.full((tall, wide), ignore, np.uint8)
    for y, x in np.ndindex(tall, wide):
        right, down = x + 0.5 - wide / 2, y + 0.5 - tall / 2
        # Counter-clockwise on a screen whose y points down.
        column, row = c * right - s * down + width / 2 - 0.5, s * right + c * down + height / 2 - 0.5
        if -0.5 < column < width - 0.5 and -0.5 < row < height - 0.5:
            found[y, x] = mask[round(row), round(column)]
    return found


ROTATION = AugmentConfig(rotation=30.0, rotation_chance=1.0)


def drawn_angle(seed: int) -> float:
    """What the generator gives after the draw of the chance."""
    generator = seeded(seed)
    uniform(0, 1, generator)
    return uniform(-30, 30, generator)


@pytest.mark.parametrize("seed", range(4))
def test_rotation_turns_image_and_mask_together(seed: int) -> None:
    labels = np.zeros((40, 24), np.uint8)
    labels[5:20, 3:9], labels[22:38, 12:22] = 7, 19
    mask = Mask(torch.from_numpy(labels))
    image = Image(mask.as_subclass(Tensor).expand(3, 40, 24) * 10)
    shown, turned = transforms.random_rotation(image, mask, ROTATION, 255, seeded(seed), (123.675, 116.28, 103.53))
    expected = turned_by_hand(labels, drawn_angle(seed), 255, *turned.shape)
    # Where the nearest pixel is a matter of rounding, another one may be taken.
    assert shown.shape == (3, *expected.shape)
    assert (turned.numpy() == expected).mean() > 0.99
    assert set(turned.unique().tolist()) == {0, 7, 19, 255}
    # All of the image is still there, and nothing more has a label.
    assert abs(int((turned != 255).sum()) - 40 * 24) < 40
    assert turned[0, 0] == 255 and shown[:, 0, 0].tolist() == [124, 116, 104]
    # Away from borders of labels the image shows its own label's color.
    same = np.ones(expected.shape, bool)
    for dy, dx in np.ndindex(5, 5):
        same &= np.roll(turned.numpy(), (dy - 2, dx - 2), (0, 1)) == turned.numpy()
    inside = same & (turned.numpy() != 255)
    assert inside.sum() > 200
    assert (shown[0].numpy()[inside] == turned.numpy()[inside] * 10).all()


def test_angles_fill_their_range_with_their_chance() -> None:
    """The size of the result tells the angle's size, the place of a corner its direction."""
    mask = Mask(torch.ones(100, 100, dtype=torch.uint8))
    image = Image(mask.as_subclass(Tensor).expand(3, 100, 100).contiguous())
    config, generator = AugmentConfig(rotation=30.0, rotation_chance=0.6), seeded(3)
    sizes, left = [], 0
    for _ in range(300):
        _, turned = transforms.random_rotation(image, mask, config, 255, generator)
        sizes.append(turned.shape[0])
        # Turned to the left, the highest corner is the one that was right.
        columns = (turned[: turned.shape[0] // 20] == 1).any(0).nonzero().flatten().float()
        left += turned.shape[0] > 105 and bool(columns.mean() > turned.shape[1] / 2)
    turned_count = sum(size > 100 for size in sizes)
    # 100 (cos 30 + sin 30) = 136.6, and a pixel on either side.
    assert 134 < max(sizes) <= 139
    assert is_share(turned_count, 300, 0.6)
    assert is_share(left, sum(size > 105 for size in sizes), 0.5)


def test_without_rotation_nothing_is_drawn() -> None:
    image, mask = marked(10, 12)
    generator = seeded()
    same, labels = transforms.random_rotation(image, mask, AugmentConfig(), 255, generator)
    assert same is image and labels is mask
    assert uniform(0, 1, generator) == uniform(0, 1, seeded())


def test_rotated_samples_keep_their_kinds_and_size() -> None:
    image, mask = marked(60, 50)
    config = AugmentConfig(ratio=(1, 1), crop=(64, 64), rotation=30.0, rotation_chance=1.0, max_fraction=1.0)
    shown, labels = augment(image.as_subclass(Tensor), mask.as_subclass(Tensor), config, 255, seeded(1))
    assert (shown.dtype, labels.dtype) == (torch.uint8, torch.uint8)
    assert max(labels.shape) <= 64 and shown.shape[-2:] == labels.shape
    assert type(shown) is Tensor and type(labels) is Tensor
