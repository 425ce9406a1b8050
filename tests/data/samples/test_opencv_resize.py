"""Resizing by OpenCV's rule for bytes, against what OpenCV itself once made of drawn images."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from make_opencv_resizes import FILE, SIZES, draw
from small_data import write_folder
from torchvision.tv_tensors import Image, Mask

from crisscross.config import AugmentConfig, Experiment, override
from crisscross.data import open_folder
from crisscross.data.samples import opencv_resize
from crisscross.data.samples.loader import TrainingSamples, training_batches
from crisscross.data.samples.opencv_resize import (
    agreeing_opencv,
    linear,
    linear_on_device,
    nearest,
    nearest_on_device,
    resize,
)
from crisscross.data.samples.transforms import random_resize

STORED = np.load(FILE)
CASES = [(old, new) for old, sizes in SIZES.items() for new in sizes]


@pytest.fixture
def no_build_known():
    """Ask again which build of OpenCV agrees, before and after."""
    agreeing_opencv.cache_clear()
    yield
    agreeing_opencv.cache_clear()


def stored(old, new):
    """Image [3, H, W], mask [H, W], and what OpenCV made of them."""
    image, name = draw(*old).transpose(2, 0, 1), f"{old[0]}x{old[1]} to {new[0]}x{new[1]}"
    return image, image[2], STORED[f"linear {name}"].transpose(2, 0, 1), STORED[f"nearest {name}"]


def assert_resize_is_the_stored_one():
    for old, new in CASES:
        image, mask, made, made_mask = stored(old, new)
        assert np.array_equal(resize(torch.from_numpy(image), new).numpy(), made), (old, new)
        assert np.array_equal(resize(torch.from_numpy(mask), new, mask=True).numpy(), made_mask), (old, new)


@pytest.mark.parametrize(("old", "new"), CASES, ids=str)
def test_the_definition_and_its_torch_version_are_opencvs(old, new):
    image, mask, made, made_mask = stored(old, new)
    assert np.array_equal(linear(image, new), made)
    assert np.array_equal(nearest(mask, new), made_mask)
    assert np.array_equal(linear_on_device(torch.from_numpy(image), new).numpy(), made)
    assert np.array_equal(nearest_on_device(torch.from_numpy(mask), new).numpy(), made_mask)


def test_by_hand():
    # The exact half is the mean of four, rounded: 0 + 1 + 0 + 1 + 2 >> 2.
    assert linear(np.array([[0, 1], [0, 1]], np.uint8), (1, 1)).tolist() == [[1]]
    # Three of two: weights 2048 | 1024, 1024 | 2048; (10 + 13) / 2 * 128 is 1472, 1472 * 2048 >> 16 is 46, 48 >> 2.
    assert linear(np.array([[10, 13]], np.uint8), (1, 3)).tolist() == [[10, 12, 13]]
    # 5 of 3: 0, 0.6, 1.2, 1.8, 2.4 cut off.
    assert nearest(np.array([[7, 8, 9]], np.uint8), (1, 5)).tolist() == [[7, 7, 8, 8, 9]]


def test_resize_is_opencvs_whatever_the_layout():
    assert_resize_is_the_stored_one()
    images = np.stack([draw(24, 36), draw(48, 36)[24:]])
    expected = np.stack([cv2.resize(image, (50, 31), interpolation=cv2.INTER_LINEAR) for image in images])
    side_by_side = torch.from_numpy(images).permute(0, 3, 1, 2)
    for given in (side_by_side, side_by_side.contiguous(), side_by_side.reshape(1, 2, 3, 24, 36)):
        found = resize(given, (31, 50))
        assert found.shape == (*given.shape[:-2], 31, 50)
        assert np.array_equal(found.numpy().reshape(2, 3, 31, 50), expected.transpose(0, 3, 1, 2))
        assert torch.equal(linear_on_device(given, (31, 50)), found)
    masks = torch.from_numpy(images[..., 2].copy())
    expected = np.stack([cv2.resize(mask, (50, 31), interpolation=cv2.INTER_NEAREST) for mask in masks.numpy()])
    assert np.array_equal(resize(masks, (31, 50), mask=True).numpy(), expected)


def some_sizes(count, largest, seed):
    draws = np.random.default_rng(seed)
    for _ in range(count):
        old, new = draws.integers(1, largest, 2), draws.integers(1, largest, 2)
        chance = draws.random()
        if chance < 0.15:
            old = 2 * new
        elif chance < 0.3:
            old[0] = new[0] * (1 + (chance < 0.2))
        yield tuple(old.tolist()), tuple(new.tolist())


def assert_opencv_agrees(count, largest, seed):
    for old, new in some_sizes(count, largest, seed):
        image = draw(*old)
        for how, rule, on_device in (
            (cv2.INTER_LINEAR, linear, linear_on_device),
            (cv2.INTER_NEAREST, nearest, nearest_on_device),
        ):
            made = cv2.resize(image, new[::-1], interpolation=how).reshape(*new, 3).transpose(2, 0, 1)
            planes = image.transpose(2, 0, 1)
            assert np.array_equal(rule(planes, new), made), (old, new)
            assert np.array_equal(on_device(torch.from_numpy(planes), new).numpy(), made), (old, new)


def test_opencv_agrees_at_sizes_drawn_at_random():
    assert_opencv_agrees(60, 160, 0)


@pytest.mark.slow
def test_opencv_agrees_at_thousands_of_sizes():
    assert_opencv_agrees(2000, 160, 1)
    assert_opencv_agrees(60, 1500, 2)


def test_a_build_of_opencv_that_rounds_otherwise_is_not_used(no_build_known, monkeypatch):
    calls = []

    def exact(image, size, out, interpolation):
        """What many libraries do: the exact value, rounded."""
        calls.append(size)
        planes = torch.from_numpy(image).reshape(*image.shape[:2], -1).permute(2, 0, 1)[None].float()
        made = torch.nn.functional.interpolate(planes, size[::-1], mode="bilinear")[0].round().byte()
        out[:] = made.permute(1, 2, 0).numpy().reshape(out.shape)
        return out

    other = SimpleNamespace(resize=exact, INTER_LINEAR=1, INTER_NEAREST=0, setNumThreads=lambda count: None)
    monkeypatch.setitem(sys.modules, "cv2", other)
    assert agreeing_opencv() is None and calls
    calls.clear()
    assert_resize_is_the_stored_one()
    assert not calls


def test_without_opencv_the_definition_is_used(no_build_known, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert agreeing_opencv() is None
    assert_resize_is_the_stored_one()


def test_opencv_is_asked_once_and_works_in_one_thread(no_build_known, monkeypatch):
    threads, calls = cv2.getNumThreads(), []
    definition = linear
    monkeypatch.setattr(opencv_resize, "linear", lambda *given: calls.append(given) or definition(*given))
    try:
        cv2.setNumThreads(2)
        for _ in range(2):
            resize(torch.zeros(3, 8, 9, dtype=torch.uint8), (5, 5))
        assert cv2.getNumThreads() == 1
        assert len(calls) == len(opencv_resize.CHECKED)
    finally:
        cv2.setNumThreads(threads)


def test_processes_that_read_do_so_in_one_thread_beside_a_program_that_uses_opencv(no_build_known, tmp_path):
    """The value of every pixel is the number of OpenCV's threads in the process that reads."""

    def read(pair, dataset):
        return np.full((40, 56, 3), cv2.getNumThreads(), np.uint8), np.zeros((40, 56), np.uint8)

    words = ("train.batch=2", "train.iterations=2", "augment.crop=[20, 28]", "augment.distortion=false")
    plain = ("preprocess.mean=[0, 0, 0]", "preprocess.std=[1, 1, 1]")
    dataset = open_folder(write_folder(tmp_path / "small", {"train": 2}))
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        # Large enough for OpenCV to start its threads.
        cv2.resize(np.zeros((1000, 1000, 3), np.uint8), (2000, 2000))
        samples = TrainingSamples(dataset, dataset.split("train"), override(Experiment(), (*words, *plain)), read)
        seen = [batch.images.unique().tolist() for batch in training_batches(samples, 0, workers=1)]
    finally:
        cv2.setNumThreads(threads)
    assert seen == [[1.0], [1.0]]


def test_images_before_the_network_are_opencvs():
    image = draw(45, 60)
    given = torch.from_numpy(image).permute(2, 0, 1)
    expected = cv2.resize(image, (89, 67), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    assert np.array_equal(resize(given, (67, 89)).numpy(), expected)
    batch = resize(torch.stack([given, given.flip(-1)]), (67, 89))
    assert np.array_equal(batch[0].numpy(), expected) and batch.shape == (2, 3, 67, 89)


@pytest.mark.parametrize("frames", [0, 2])
def test_training_resizes_images_and_masks_as_opencv(frames):
    drawn = draw(45, 60)
    image = torch.from_numpy(drawn).permute(2, 0, 1)
    mask = image[2]
    if frames:
        image, mask = torch.stack([image, image.flip(0)]), torch.stack([mask, 255 - mask])
    given = Image(image), Mask(mask)
    # 60 * 0.87 and 45 * 0.87 count as 52 and 39.
    config = AugmentConfig(ratio=(0.87, 0.87))
    resized, labels = random_resize(*given, config, torch.Generator())
    assert isinstance(resized, Image) and isinstance(labels, Mask)
    expected = cv2.resize(drawn, (52, 39), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    expected_mask = cv2.resize(drawn[..., 2], (52, 39), interpolation=cv2.INTER_NEAREST)
    first = (resized[0], labels[0]) if frames else (resized, labels)
    assert np.array_equal(first[0].numpy(), expected) and np.array_equal(first[1].numpy(), expected_mask)
    if frames:
        assert np.array_equal(resized[1].numpy(), expected[::-1])
        assert np.array_equal(labels[1].numpy(), 255 - expected_mask)
