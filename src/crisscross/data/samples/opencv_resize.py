"""Resizing of bytes as OpenCV does it, in whole numbers, which is what the published systems show their networks.

`linear` and `nearest` are the definition. `resize` gives the same values faster: by OpenCV itself, where the installed
build is found to agree, and in torch for tensors on a GPU. Torch is imported for tensors alone.
"""

import multiprocessing
import sys
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Weights are whole numbers of 1 / 2048.
ONE = 2048
# Sizes of the one drawn image (height, width) at which a build of OpenCV has to agree: the exact half, odd sizes, one
# side alone, single rows and columns, much larger, much smaller.
DRAWN = (66, 140)
CHECKED = ((33, 70), (66, 70), (33, 140), (50, 105), (99, 210), (1, 140), (66, 1), (1, 1), (131, 277), (7, 9))


class Taps(NamedTuple):
    """Output n is (first_weight[n] * input[first[n]] + second_weight[n] * input[second[n]]) / 2048.

    All int64 or int32 [outputs]; `second` is `first` or the input after it.
    """

    first: np.ndarray
    second: np.ndarray
    first_weight: np.ndarray
    second_weight: np.ndarray


def taps(old: int, new: int, clamp: bool) -> Taps:
    """Where the outputs of one axis lie among its inputs; OpenCV computes the places in float64 and keeps float32.

    With `clamp` an output outside the centers of the inputs has the weight 2048 on the outermost one; without, it has
    two weights on it, which are cut off one by one.
    """
    place = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    upper = place - first.astype(np.float32)
    if clamp:
        upper[(first < 0) | (first >= old - 1)] = 0
    # `rint` rounds halves to the even number, as OpenCV does.
    weights = (np.rint(part * np.float32(ONE)).astype(np.int32) for part in (np.float32(1) - upper, upper))
    return Taps(first.clip(0, old - 1), (first + 1).clip(0, old - 1), *weights)


def is_half(old: tuple[int, int], new: tuple[int, int]) -> bool:
    """Whether both sides shrink to exactly one half, for which OpenCV takes the mean of four."""
    return old[0] == 2 * new[0] and old[1] == 2 * new[1]


def linear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [..., H, W] -> uint8 [..., *size]: what `cv2.resize` makes with `INTER_LINEAR`."""
    if image.shape[-2:] == tuple(size):
        return image.copy()
    wide = image.astype(np.int32)
    if is_half(image.shape[-2:], size):
        pairs = wide[..., 0::2, :] + wide[..., 1::2, :]
        return ((pairs[..., 0::2] + pairs[..., 1::2] + 2) >> 2).astype(np.uint8)
    x, y = taps(image.shape[-1], size[1], clamp=True), taps(image.shape[-2], size[0], clamp=False)
    wide = (wide[..., x.first] * x.first_weight + wide[..., x.second] * x.second_weight) >> 4
    upper = (wide[..., y.first, :] * y.first_weight[:, None]) >> 16
    lower = (wide[..., y.second, :] * y.second_weight[:, None]) >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def nearest_places(old: int, new: int) -> np.ndarray:
    """The input that each output of an axis repeats, int64 [new]."""
    return np.floor(np.arange(new) * (1 / (new / old))).astype(np.int64).clip(max=old - 1)


def nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [..., H, W] -> uint8 [..., *size]: what `cv2.resize` makes with `INTER_NEAREST`."""
    rows, columns = nearest_places(mask.shape[-2], size[0]), nearest_places(mask.shape[-1], size[1])
    return mask[..., rows, :][..., columns]


def is_tensor(x: object) -> bool:
    """Whether this is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def resize(image: Any, size: tuple[int, int], mask: bool = False) -> Any:
    """uint8 [..., H, W] -> uint8 [..., *size], equal to `linear`, of a `mask` to `nearest`; on a CPU in one thread.

    A NumPy array gives an array, a tensor a tensor on the same device.
    """
    if not is_tensor(image):
        opencv = agreeing_opencv()
        if opencv is None:
            return (nearest if mask else linear)(image, size)
        return _by_opencv(opencv, image, size, mask)
    if image.device.type != "cpu":
        return (nearest_on_device if mask else linear_on_device)(image, size)
    return sys.modules["torch"].from_numpy(resize(image.numpy(), size, mask))


def linear_on_device(image: "Tensor", size: tuple[int, int]) -> "Tensor":
    """`linear` in torch, for any device."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image.clone()
    if is_half((image.shape[-2], image.shape[-1]), size):
        pairs = image[..., 0::2, :].int() + image[..., 1::2, :].int()
        return ((pairs[..., 0::2] + pairs[..., 1::2] + 2) >> 2).to(image.dtype)
    first, second, first_weight, second_weight = _on_device(image.shape[-1], size[1], True, image.device)
    wide = image.index_select(-1, first) * first_weight + image.index_select(-1, second) * second_weight
    wide >>= 4
    first, second, first_weight, second_weight = _on_device(image.shape[-2], size[0], False, image.device)
    upper = (wide.index_select(-2, first) * first_weight[:, None]) >> 16
    lower = (wide.index_select(-2, second) * second_weight[:, None]) >> 16
    return ((upper + lower + 2) >> 2).to(image.dtype)


def nearest_on_device(mask: "Tensor", size: tuple[int, int]) -> "Tensor":
    """`nearest` in torch, for any device."""
    import torch

    rows, columns = (torch.from_numpy(nearest_places(*sides)) for sides in zip(mask.shape[-2:], size, strict=True))
    return mask.index_select(-2, rows.to(mask.device)).index_select(-1, columns.to(mask.device))


@lru_cache(64)
def _on_device(old: int, new: int, clamp: bool, device: "torch.device") -> "tuple[Tensor, ...]":
    import torch

    # Kept for the next image, which may be under way with gradients or without.
    with torch.inference_mode(False):
        return tuple(torch.from_numpy(part).to(device) for part in taps(old, new, clamp))


@cache
def agreeing_opencv() -> ModuleType | None:
    """OpenCV, where its build follows the definition on a drawn image, else None; tried once a process.

    It then works in one thread in this process: processes that read images share the processor, and a pool of threads
    does not survive the fork that starts them. So ask before such processes start.
    """
    imported = "cv2" in sys.modules
    try:
        import cv2
    except ImportError:
        return None
    # A forked process that ends the threads of its parent's pool, which it does not have, crashes.
    if not imported or multiprocessing.parent_process() is None:
        cv2.setNumThreads(1)
    rows, columns = np.ogrid[: DRAWN[0], : DRAWN[1]]
    image = np.stack([(rows * rows * part + columns * 31 + rows * columns * 7) % 256 for part in (3, 5, 11)])
    image = image.astype(np.uint8)
    for size in CHECKED:
        for mask, rule in ((False, linear), (True, nearest)):
            if not np.array_equal(_by_opencv(cv2, image, size, mask), rule(image, size)):
                return None
    return cv2


def _by_opencv(opencv: ModuleType, image: np.ndarray, size: tuple[int, int], mask: bool) -> np.ndarray:
    how = opencv.INTER_NEAREST if mask else opencv.INTER_LINEAR
    # Three channels side by side are OpenCV's own layout and that of decoded images; all else goes plane by plane.
    channels = 3 if image.ndim > 2 and image.shape[-3] == 3 else 1
    stack = image.reshape(-1, channels, *image.shape[-2:])
    out = np.empty((len(stack), *size, channels), np.uint8)
    for given, made in zip(stack, out, strict=True):
        interleaved = np.ascontiguousarray(given.transpose(1, 2, 0))
        # One channel has no axis in OpenCV.
        opencv.resize(interleaved, (size[1], size[0]), made if channels == 3 else made[..., 0], interpolation=how)
    return out.transpose(0, 3, 1, 2).reshape(*image.shape[:-2], *size)
