"""Every operation on NumPy arrays gives what it gives on tensors, at many shapes."""

import numpy as np
import pytest
import torch

from crisscross.config import PreprocessConfig
from crisscross.data.samples.opencv_resize import is_tensor, resize
from crisscross.data.samples.preprocess import normalize
from crisscross.inference import arrays
from crisscross.inference.resize import bands, line

SHAPES = [(1, 1, 1), (3, 5, 4), (2, 33, 7), (19, 8, 40), (255, 3, 2)]
RNG = np.random.default_rng(0)


def both(function, *given, **named):
    """What a function makes of arrays and of the same as tensors; each is of the kind that was given."""
    tensors = [torch.from_numpy(one) if isinstance(one, np.ndarray) else one for one in given]
    made, made_of_tensors = function(*given, **named), function(*tensors, **named)
    assert isinstance(made, np.ndarray) and is_tensor(made_of_tensors)
    assert str(made_of_tensors.dtype) == f"torch.{made.dtype}"
    return made, made_of_tensors.numpy()


def values(shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_moves_are_equal(shape):
    x = values(shape)
    for function in (lambda x: arrays.pad(x, 2, 3), arrays.flip, arrays.float32, arrays.argmax):
        assert np.array_equal(*both(function, x))
    padded = arrays.pad(x, 2, 3)
    assert padded.shape == (shape[0], shape[1] + 2, shape[2] + 3) and np.array_equal(
        padded[:, : shape[1], : shape[2]], x
    )
    assert not padded[:, shape[1] :].any() and not padded[..., shape[2] :].any()
    assert np.array_equal(arrays.flip(x)[..., 0], x[..., -1]) and arrays.flip(x).flags.c_contiguous
    assert np.array_equal(arrays.argmax(x), x.argmax(0))
    for axis in range(3):
        assert np.array_equal(*both(lambda a, b, axis=axis: arrays.join([a, b], axis), x, x[::-1].copy()))
    assert arrays.float32(x.astype(np.float64)).dtype == np.float32


def test_equal_values_go_to_the_first_class():
    x = np.array([[0, 1], [2, 1], [2, 0]], np.float32)
    assert np.array_equal(*both(arrays.argmax, x)) and arrays.argmax(x).tolist() == [1, 0]


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(shape):
    found, expected = both(arrays.softmax, values(shape) * 30)
    assert np.abs(found - expected).max() < 1e-6 and np.abs(found.sum(0) - 1).max() < 1e-5


@pytest.mark.parametrize("where", [None, np.nan, np.inf])
def test_finite(where):
    parts = [values((2, 3, 4)), values((2, 5, 6))]
    if where is not None:
        parts[1][1, 2, 3] = where
    assert arrays.finite(parts) == arrays.finite([torch.from_numpy(part) for part in parts]) == (where is None)


@pytest.mark.parametrize("old", [(9, 13), (1, 30), (64, 48)])
@pytest.mark.parametrize("new", [(9, 13), (20, 7), (32, 24), (1, 1)])
def test_images_are_resized_alike(old, new):
    image = RNG.integers(0, 256, (3, *old), np.uint8)
    found, expected = both(resize, image, new)
    assert found.shape == (3, *new) and np.array_equal(found, expected)
    batch = resize(image[None], new)
    assert np.array_equal(batch[0], found)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_resized_alike(shape, align_corners):
    x = values(shape)
    rows, columns = line(shape[1], 41, align_corners), line(shape[2], 29, align_corners)
    full = torch.nn.functional.interpolate(
        torch.from_numpy(x)[None].double(), (41, 29), mode="bilinear", align_corners=align_corners
    )[0].numpy()
    for device in (None, torch.device("cpu")):
        down, across = bands(rows, 16, device), bands(columns, 10, device)
        given = x if device is None else torch.from_numpy(x)
        found = arrays.join(
            [arrays.join([arrays.resize_logits(given, row, column) for column in across], 2) for row in down], 1
        )
        assert is_tensor(found) == (device is not None)
        assert np.abs(arrays.to_numpy(found) - full).max() < 1e-4


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_normalized_alike(order):
    config = PreprocessConfig(order=order)
    for shape in ((3, 5, 7), (2, 3, 5, 7)):
        assert np.array_equal(*both(normalize, RNG.integers(0, 256, shape, np.uint8), config))


def test_new_arrays_are_beside_the_old():
    for like in (values((2, 3)), torch.zeros(2, 3)):
        made = arrays.empty((4, 5), "uint8", like)
        assert type(made) is type(like) and made.shape == (4, 5) and "uint8" in str(made.dtype)
        assert arrays.to_numpy(made).shape == (4, 5)
    assert arrays.device_of(values(1)) is None and arrays.device_of(torch.zeros(1)) == torch.device("cpu")
