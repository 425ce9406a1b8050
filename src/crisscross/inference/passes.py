"""One pass over an image, whole or by windows: the network's coarse logits, and how rows and columns come of them."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.config import InferenceConfig
from crisscross.inference.resize import KEPT, Axis, line, merge

# From a normalized image [1, 3, H, W] to logits [1, K, h, w] of any resolution.
CoarseOf = Callable[[Tensor], Tensor]

# The largest output stride there is.
SMALLEST = 32


class Pass(NamedTuple):
    """Logits at the image's own size are ROWS @ coarse[k] @ COLUMNS^T for every class k.

    `coarse` float32 [K, h, w]; of windows, all maps side by side.
    """

    coarse: Tensor
    rows: Axis
    columns: Axis

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return self.rows.outputs, self.columns.outputs


def run_pass(
    coarse_of: CoarseOf,
    x: Tensor,
    size: tuple[int, int],
    config: InferenceConfig,
    align_corners: bool,
    mirrored: bool = False,
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> Pass:
    """Run the network once over the whole image, or once for each window.

    The result is that of the published systems: logits are resized to the network's input size (that of the window),
    those of overlapping windows averaged, and all resized once more to the image's own size, bilinear each time.

    Args:
        coarse_of: the network, up to its coarse logits.
        x: normalized image [1, 3, H, W], at the size that the network shall see.
        size: (height, width) of the image before its resize.
        config: `mode`, for windows `window` and `stride`, and `pad_to`.
        align_corners: as the network was trained.
        mirrored: show the mirror image and mirror the result back.
        flip_pairs: classes that change places when an image is mirrored.
    """
    height, width = x.shape[-2:]
    shown = x.flip(-1) if mirrored else x
    slide = config.mode == "slide"
    tall, wide = (min(config.window[0], height), min(config.window[1], width)) if slide else (height, width)
    tops = window_starts(height, tall, config.stride[0]) if slide else [0]
    lefts = window_starts(width, wide, config.stride[1]) if slide else [0]
    least = config.pad_to or (SMALLEST, SMALLEST)
    maps = [
        [_coarse(coarse_of, least, shown[..., top : top + tall, left : left + wide]) for left in lefts] for top in tops
    ]
    coarse = torch.cat([torch.cat(row, 2) for row in maps], 1) if slide else maps[0][0]
    small = maps[0][0].shape[-2:]
    rows = _axis(small[0], tall, least[0], tuple(tops), height, size[0], align_corners)
    columns = _axis(small[1], wide, least[1], tuple(lefts), width, size[1], align_corners, mirrored)
    return Pass(_swapped(coarse, flip_pairs) if mirrored else coarse, rows, columns)


@lru_cache(KEPT)
@torch.inference_mode(False)
def _axis(
    small: int,
    window: int,
    least: int,
    starts: tuple[int, ...],
    length: int,
    size: int,
    align_corners: bool,
    mirrored: bool = False,
) -> Axis:
    """From the coarse maps of all windows to the image's own size, by way of the `length` that the network saw."""
    axis = _windows(small, window, least, starts, length, align_corners).then(line(length, size, align_corners))
    return axis.mirrored() if mirrored else axis


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one axis: every `stride`, the last one moved inwards; window <= length."""
    count = -(-(length - window) // stride) + 1
    return [min(index * stride, length - window) for index in range(count)]


def _coarse(coarse_of: CoarseOf, least: tuple[int, int], x: Tensor) -> Tensor:
    """Coarse logits float32 [K, h, w]. What lacks of `least` (height, width), and of the stride that deep networks
    cannot take less than, is filled with mean color at the right and at the bottom, and cut off in `_windows`."""
    missing = [_filled(length, floor) - length for length, floor in zip(x.shape[-2:], least, strict=True)]
    return coarse_of(functional.pad(x, [0, missing[1], 0, missing[0]]) if any(missing) else x)[0].float().contiguous()


def _filled(length: int, least: int) -> int:
    return max(length, least, SMALLEST)


def _windows(small: int, window: int, least: int, starts: Sequence[int], length: int, align_corners: bool) -> Axis:
    """From the coarse maps of all windows, one behind the other, to the mean over the windows at each of `length`."""
    one = line(small, _filled(window, least), align_corners).first(window)
    if len(starts) == 1:
        return one
    visits = torch.zeros(length, dtype=torch.int64)
    for start in starts:
        visits[start : start + window] += 1
    index = torch.zeros(length, int(visits.max()), one.source.shape[1], dtype=torch.int64)
    weight = torch.zeros(index.shape, dtype=torch.float64)
    filled = torch.zeros(length, dtype=torch.int64)
    for number, start in enumerate(starts):
        here = torch.arange(start, start + window)
        slot = filled[here]
        # The first window that comes stands in for those that do not.
        index[here[slot == 0]] = (one.source[slot == 0] + number * small)[:, None]
        index[here, slot] = one.source + number * small
        weight[here, slot] = one.weight / visits[here, None]
        filled[here] += 1
    return Axis(*merge(index.flatten(1), weight.flatten(1)), small * len(starts))


def _swapped(coarse: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    swapped = coarse.clone() if pairs else coarse
    for one, other in pairs:
        swapped[one], swapped[other] = coarse[other], coarse[one]
    return swapped
