"""Passes over an image, whole or by windows: what the network is shown, and how pixels follow from its coarse logits.

The results are those of the published systems: logits are resized to the network's input size (that of the window),
those of overlapping windows averaged, and all resized once more to the image's own size, bilinear each time.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from crisscross.config import InferenceConfig
from crisscross.data.files.big import free_memory
from crisscross.data.samples.preprocess import fit_size
from crisscross.errors import CrissCrossError
from crisscross.inference import arrays
from crisscross.inference.arrays import Array
from crisscross.inference.resize import KEPT, Axis, line, merge

# The largest output stride there is.
SMALLEST = 32
# Memory of small networks for each pixel of their input (`camvid-light` takes 0.25 kB), and what is taken unasked.
BYTES_A_PIXEL, SAFE_BYTES = 200, 2**30


class View(NamedTuple):
    """What one pass shows to the network: the image at a size (height, width), or its mirror image, cut into windows
    of `window` (height, width) that begin at `tops` and `lefts`, row by row."""

    size: tuple[int, int]
    mirrored: bool
    window: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    def windows(self, x: Array, least: tuple[int, int]) -> Iterator[Array]:
        """The windows of a normalized image [1, 3, H, W] of this size.

        What is missing to `least` (height, width), and to the largest output stride, is filled with the mean color at
        the right and at the bottom.
        """
        shown = arrays.flip(x) if self.mirrored else x
        height, width = self.window
        bottom, right = (_filled(length, floor) - length for length, floor in zip(self.window, least, strict=True))
        for top in self.tops:
            for left in self.lefts:
                part = shown[..., top : top + height, left : left + width]
                yield arrays.pad(part, bottom, right) if bottom or right else part


class Pass(NamedTuple):
    """Logits at the image's own size are ROWS @ coarse[k] @ COLUMNS^T for every class k.

    `coarse` float32 [K, h, w]; of windows, all maps side by side.
    """

    coarse: Array
    rows: Axis
    columns: Axis

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        return self.rows.outputs, self.columns.outputs


def views(
    size: tuple[int, int], config: InferenceConfig, scale: tuple[int, int] | None = None, tta: bool = False
) -> list[View]:
    """All passes over an image of `size` (height, width).

    Args:
        size: of the image before it is resized.
        config: `mode`, for windows `window` and `stride`, for `tta` `ratios` and `flip`.
        scale: (width, height) that the image is resized to fit; its own size where there is none.
        tta: multi-scale + flip: one pass for every ratio of the scale, and one for its mirror image.
    """
    base, found = scale or (size[1], size[0]), []
    for ratio in config.ratios if tta else (1.0,):
        shown = fit_size(*size, (max(int(base[0] * ratio), 1), max(int(base[1] * ratio), 1)))
        window = tuple(map(min, config.window, shown)) if config.mode == "slide" else shown
        tops, lefts = (tuple(window_starts(*side)) for side in zip(shown, window, config.stride, strict=True))
        for mirrored in (False, True) if tta and config.flip else (False,):
            found.append(View(shown, mirrored, (window[0], window[1]), tops, lefts))
    return found


class TooLarge(CrissCrossError):
    """An image takes more memory than is free; others may not."""


def check_memory(found: Sequence[View], image: Array) -> None:
    """Refuse what would end the process: parts of an image on the CPU that take more memory than is free.

    Raises:
        TooLarge: the network is to be shown such a part.
    """
    if str(getattr(image, "device", "cpu")) != "cpu":
        return
    height, width = max((view.window for view in found), key=lambda window: window[0] * window[1])
    needed = height * width * BYTES_A_PIXEL
    if needed > SAFE_BYTES and (free := free_memory()) is not None and needed > free:
        raise TooLarge(
            f"{width} x {height} pixels at once take the network about {needed / 2**30:.0f} GiB, "
            f"{free / 2**30:.1f} are free; label the image block by block: --big (in Python `predict_big`)"
        )


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one axis: every `stride`, the last one moved inwards; window <= length."""
    count = -(-(length - window) // stride) + 1
    return [min(index * stride, length - window) for index in range(count)]


def joined(
    view: View,
    maps: Sequence[Array],
    size: tuple[int, int],
    align_corners: bool,
    least: tuple[int, int] = (SMALLEST, SMALLEST),
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> Pass:
    """The pass of a view whose windows have the coarse logits `maps`, each [K, h, w].

    Args:
        view: from `views`.
        maps: in the order of `View.windows`.
        size: (height, width) of the image before its resize.
        align_corners: as the network was trained.
        least: as in `View.windows`.
        flip_pairs: classes that change places when an image is mirrored.
    """
    small, count = maps[0].shape[-2:], len(view.lefts)
    maps = [arrays.float32(one) for one in maps]
    coarse = arrays.join([arrays.join(maps[n : n + count], 2) for n in range(0, len(maps), count)], 1)
    sides = zip(small, view.window, least, (view.tops, view.lefts), view.size, size, strict=True)
    rows, columns = (
        _axis(*side, align_corners, mirrored) for side, mirrored in zip(sides, (False, view.mirrored), strict=True)
    )
    return Pass(_swapped(coarse, flip_pairs) if view.mirrored else coarse, rows, columns)


@lru_cache(KEPT)
def _axis(
    small: int,
    window: int,
    least: int,
    starts: tuple[int, ...],
    length: int,
    size: int,
    align_corners: bool,
    mirrored: bool,
) -> Axis:
    """From the coarse maps of all windows to the image's own size, by way of the `length` that the network saw."""
    axis = _windows(small, window, least, starts, length, align_corners).then(line(length, size, align_corners))
    return axis.mirrored() if mirrored else axis


def _filled(length: int, least: int) -> int:
    return max(length, least, SMALLEST)


def _windows(small: int, window: int, least: int, starts: Sequence[int], length: int, align_corners: bool) -> Axis:
    """From the coarse maps of all windows, one behind the other, to the mean over the windows at each of `length`."""
    one = line(small, _filled(window, least), align_corners).first(window)
    if len(starts) == 1:
        return one
    visits = np.zeros(length, np.int64)
    for start in starts:
        visits[start : start + window] += 1
    index = np.zeros((length, visits.max(), one.source.shape[1]), np.int64)
    weight = np.zeros(index.shape)
    filled = np.zeros(length, np.int64)
    for number, start in enumerate(starts):
        here = np.arange(start, start + window)
        slot = filled[here]
        # The first window at a position stands in for those that do not reach it.
        index[here[slot == 0]] = (one.source[slot == 0] + number * small)[:, None]
        index[here, slot] = one.source + number * small
        weight[here, slot] = one.weight / visits[here, None]
        filled[here] += 1
    return Axis(*merge(index.reshape(length, -1), weight.reshape(length, -1)), small * len(starts))


def _swapped(coarse: Array, pairs: Sequence[tuple[int, int]]) -> Array:
    if not pairs:
        return coarse
    order = list(range(len(coarse)))
    for one, other in pairs:
        order[one], order[other] = other, one
    return arrays.join([coarse[number : number + 1] for number in order], 0)
