"""An image too large for one pass, cut into overlapping blocks of which each one's inside is kept."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from crisscross.errors import CrissCrossError
from crisscross.inference.passes import SMALLEST

BLOCK, OVERLAP = 1024, 256


@runtime_checkable
class BigImage(Protocol):
    """An image uint8 [H, W, 3] or [H, W] of which parts are read: an array, or what reads them from a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, part: tuple[slice, slice], /) -> np.ndarray: ...


class BigLabels(Protocol):
    """Labels uint8 [H, W] that are written part by part."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __setitem__(self, part: tuple[slice, slice], labels: np.ndarray, /) -> None: ...


class Block(NamedTuple):
    """What is shown to the network (`read`, rows and columns of the image), and which part of the image its labels
    are kept for (`keep`; the same part counted from the block's own corner is `inside`)."""

    read: tuple[slice, slice]
    keep: tuple[slice, slice]
    inside: tuple[slice, slice]


class _Span(NamedTuple):
    read: slice
    keep: slice
    inside: slice


def blocks(height: int, width: int, block: int, overlap: int, align_corners: bool) -> list[Block]:
    """Blocks whose kept parts cover the image exactly once, row by row.

    Two neighbors share at least `overlap` pixels and are parted in the middle of what they share, so that a label
    knows at least overlap / 2 pixels around it, except at the image's edge. Blocks begin at multiples of the largest
    output stride, 32, and `block` and `overlap` are rounded up to such (one pixel more for a network that aligns
    corners): the network's grid lies in every block where it lies in the whole image. The last block of a row or
    column is up to 31 pixels longer.

    Raises:
        CrissCrossError: overlap is negative or not below block.
    """
    if not 0 <= overlap < block:
        raise CrissCrossError(f"overlap must be at least 0 and below block ({block}), got {overlap}")
    side, shared = _round_up(block), _round_up(overlap)
    # Rounding up may have made them equal.
    side = max(side, shared + SMALLEST)
    down, across = (_spans(length, side + align_corners, side - shared) for length in (height, width))
    return [
        Block((row.read, column.read), (row.keep, column.keep), (row.inside, column.inside))
        for row in down
        for column in across
    ]


def _round_up(length: int) -> int:
    return -(-length // SMALLEST) * SMALLEST


def _spans(length: int, side: int, step: int) -> list[_Span]:
    last = max(length - side, 0) // SMALLEST * SMALLEST
    starts = [*range(0, last, step), last]
    stops = [*(start + side for start in starts[:-1]), length]
    cuts = [0, *((stop + start) // 2 for stop, start in zip(stops[:-1], starts[1:], strict=True)), length]
    return [
        _Span(slice(start, stop), slice(low, high), slice(low - start, high - start))
        for start, stop, low, high in zip(starts, stops, cuts[:-1], cuts[1:], strict=True)
    ]
