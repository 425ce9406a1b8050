"""Bilinear resizing as banded matrices, one for each axis, so that consecutive resizes become one and rows can be made
a few at a time.

What follows from sizes alone is kept for the next images, which mostly have the same ones.

A resize of a map is linear and works on each axis by itself: result = ROWS @ map @ COLUMNS^T. So is one resize after
another, the mean over overlapping windows, cutting off a filling, and mirroring. An `Axis` is such a matrix with few
entries a line.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

# Axes that are kept: those of multi-scale + flip at a few sizes.
KEPT = 64


@dataclass(frozen=True, eq=False)
class Axis:
    """Output n is the sum over s of weight[n, s] * input[source[n, s]].

    `source` int64 and `weight` float64 are both [outputs, S]; the weights of an output are at least 0 and sum to 1.
    `inputs` is the number of inputs. Two are equal where they are one.
    """

    source: np.ndarray
    weight: np.ndarray
    inputs: int

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return len(self.source)

    def first(self, count: int) -> "Axis":
        """The first `count` outputs alone."""
        return Axis(self.source[:count], self.weight[:count], self.inputs)

    def mirrored(self) -> "Axis":
        """The outputs in reverse order."""
        return Axis(self.source[::-1], self.weight[::-1], self.inputs)

    def then(self, second: "Axis") -> "Axis":
        """This resize followed by another: the product of the two matrices."""
        index = self.source[second.source].reshape(second.outputs, -1)
        weight = (self.weight[second.source] * second.weight[..., None]).reshape(second.outputs, -1)
        return Axis(*merge(index, weight), self.inputs)


def line(old: int, new: int, align_corners: bool) -> Axis:
    """What `torch.nn.functional.interpolate(mode="bilinear")` does along one axis, in float32 as it computes there."""
    places = np.arange(new, dtype=np.float32)
    if old == new:
        return Axis(np.arange(new)[:, None], np.ones((new, 1)), old)
    if align_corners:
        places = places * np.float32((old - 1) / (new - 1) if new > 1 else 0)
    else:
        half = np.float32(0.5)
        places = ((places + half) * np.float32(old / new) - half).clip(0)
    low = places.astype(np.int64).clip(max=old - 1)
    upper = (places - low.astype(np.float32)).clip(0, 1).astype(np.float64)
    index = np.stack([low, (low + 1).clip(max=old - 1)], 1)
    return Axis(*merge(index, np.stack([1 - upper, upper], 1)), old)


def merge(index: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each input once a line, in rising order, in as few columns as fit; what a line does not need has weight 0 and
    repeats the line's first input."""
    order = index.argsort(1, kind="stable")
    index, weight = np.take_along_axis(index, order, 1), np.take_along_axis(weight, order, 1)
    slot = np.zeros_like(index)
    slot[:, 1:] = (index[:, 1:] != index[:, :-1]).cumsum(1)
    merged = index[:, :1].repeat(int(slot.max(initial=0)) + 1, 1)
    np.put_along_axis(merged, slot, index, 1)
    return merged, _scattered(slot, weight, merged.shape[1])


def _scattered(place: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """float64 [N, count]: the weights [N, S] added up at their places [N, S]."""
    flat = (np.arange(len(place))[:, None] * count + place).ravel()
    return np.bincount(flat, weight.ravel(), len(place) * count).reshape(len(place), count)


class Band(NamedTuple):
    """Outputs start..stop of an axis on the inputs `source` [n].

    Output m is the sum over s of weight[m, s] * source[place[m, s]]; on a CPU the same is a small dense `matrix`
    [stop - start, n]. Arrays, or tensors on the device of the logits.
    """

    start: int
    stop: int
    source: Any
    place: Any
    weight: Any
    matrix: Any


@lru_cache(KEPT)
def bands(axis: Axis, length: int, device: "torch.device | None") -> list[Band]:
    """The axis cut into bands of `length` outputs, as tensors on `device`, or as arrays without one."""
    found = []
    for start in range(0, axis.outputs, length):
        part, weight = axis.source[start : start + length], axis.weight[start : start + length]
        index, place = np.unique(part, return_inverse=True)
        place = place.reshape(part.shape)
        matrix = _scattered(place, weight, len(index)).astype(np.float32)
        arrays = (index, place, weight.astype(np.float32), matrix)
        found.append(Band(start, start + len(part), *(arrays if device is None else _tensors(arrays, device))))
    return found


def _tensors(arrays: tuple[np.ndarray, ...], device: "torch.device") -> list["torch.Tensor | None"]:
    """The arrays of a band on a device; the matrix only on a CPU. They are kept, so they must also serve gradients."""
    import torch

    with torch.inference_mode(False):
        tensors: list[torch.Tensor | None] = [torch.from_numpy(array).to(device) for array in arrays]
    return tensors if device.type == "cpu" else [*tensors[:3], None]


class Cells(NamedTuple):
    """An axis cut into cells: runs of outputs that rest on the same few inputs.

    `support` int64 [G, S] are a cell's inputs (repeated where there are fewer), `weight` float32 [G, M, S] makes its
    outputs of them, `valid` bool [G, M] tells which of the M outputs there are; the valid ones in a row are the axis.
    """

    support: np.ndarray
    weight: np.ndarray
    valid: np.ndarray


@lru_cache(KEPT)
def cells(axis: Axis) -> Cells:
    """Cut where the lowest input changes, and where a cell would be much longer than most."""
    starts, lengths = _runs(axis.source[:, 0])
    place = np.arange(lengths.max())
    valid = place < lengths[:, None]
    # Outputs that are not there repeat the cell's first, so that they add nothing to its support.
    output = np.where(valid, starts[:, None] + place, starts[:, None])
    index = axis.source[output]
    flat = index.reshape(len(starts), -1)
    support, _ = merge(flat, np.ones(flat.shape))
    first_match = (index[..., None] == support[:, None, None, :]).argmax(-1)
    flat_match, flat_weight = (a.reshape(-1, index.shape[-1]) for a in (first_match, axis.weight[output]))
    weight = _scattered(flat_match, flat_weight, support.shape[1]).reshape(*output.shape, -1)
    return Cells(support, weight.astype(np.float32), valid)


def _runs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of runs of equal values; the longest tenth is cut to the length of the others."""
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    lengths = np.diff(cuts, prepend=0, append=len(values))
    limit = int(np.sort(lengths)[int(0.9 * (len(lengths) - 1))])
    pieces = [piece for length in lengths.tolist() for piece in _pieces(length, limit)]
    cut = np.array(pieces)
    return cut.cumsum() - cut, cut


def _pieces(length: int, limit: int) -> list[int]:
    return [limit] * (length // limit) + [length % limit] * bool(length % limit)
