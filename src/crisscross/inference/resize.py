"""Bilinear resizing as banded matrices, one for each axis, so that resizes in a row become one and rows can be made
a few at a time.

What follows from sizes alone is kept for the next images, which mostly have the same ones.

A resize of a map is linear and works on each axis by itself: result = ROWS @ map @ COLUMNS^T. So is one resize after
another, the mean over overlapping windows, cutting off a filling, and mirroring. An `Axis` is such a matrix with few
entries a line.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from crisscross.layers.precision import float32_products

# Axes that are kept: those of multi-scale + flip at a few sizes.
KEPT = 64


@dataclass(frozen=True, eq=False)
class Axis:
    """Output n is the sum over s of weight[n, s] * input[source[n, s]].

    `source` int64 and `weight` float64 are both [outputs, S]; the weights of an output are at least 0 and sum to 1.
    `inputs` is the number of inputs. Two are equal where they are one.
    """

    source: Tensor
    weight: Tensor
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
        return Axis(self.source.flip(0), self.weight.flip(0), self.inputs)

    def then(self, second: "Axis") -> "Axis":
        """This resize followed by another: the product of the two matrices."""
        index = self.source[second.source].flatten(1)
        weight = (self.weight[second.source] * second.weight[..., None]).flatten(1)
        return Axis(*merge(index, weight), self.inputs)


def line(old: int, new: int, align_corners: bool) -> Axis:
    """What `torch.nn.functional.interpolate(mode="bilinear")` does along one axis, places in float32 as it has them."""
    places = torch.arange(new, dtype=torch.float32)
    if old == new:
        return Axis(places.long()[:, None], torch.ones(new, 1, dtype=torch.float64), old)
    if align_corners:
        step = torch.tensor((old - 1) / (new - 1) if new > 1 else 0.0, dtype=torch.float32)
        places = places * step
    else:
        step = torch.tensor(old / new, dtype=torch.float32)
        places = ((places + 0.5) * step - 0.5).clamp_(min=0)
    low = places.long().clamp_(max=old - 1)
    share = (places - low).clamp_(0, 1).double()
    index = torch.stack([low, (low + 1).clamp_(max=old - 1)], 1)
    return Axis(*merge(index, torch.stack([1 - share, share], 1)), old)


def merge(index: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Each input once a line, in rising order, in as few columns as fit; what a line does not need has weight 0 and
    repeats the line's first input."""
    index, order = index.sort(1)
    weight = weight.gather(1, order)
    slot = torch.zeros_like(index)
    slot[:, 1:] = (index[:, 1:] != index[:, :-1]).cumsum(1)
    needed = int(slot.max()) + 1 if len(slot) else 1
    merged_index = index[:, :1].repeat(1, needed).scatter_(1, slot, index)
    return merged_index, weight.new_zeros(len(index), needed).scatter_add_(1, slot, weight)


class Band(NamedTuple):
    """Outputs start..stop of an axis on the inputs `source` [n].

    Output m is the sum over s of weight[m, s] * source[place[m, s]]; on a CPU the same is a small dense `matrix`
    [stop - start, n].
    """

    start: int
    stop: int
    source: Tensor
    place: Tensor
    weight: Tensor
    matrix: Tensor | None


@lru_cache(KEPT)
@torch.inference_mode(False)
def bands(axis: Axis, length: int, device: torch.device) -> list[Band]:
    """The axis cut into bands of `length` outputs."""
    found = []
    for start in range(0, axis.outputs, length):
        part, weight = axis.source[start : start + length], axis.weight[start : start + length]
        index, place = part.unique(return_inverse=True)
        matrix = torch.zeros(len(part), len(index), dtype=torch.float64).scatter_add_(1, place, weight).float()
        source, place, weight = (tensor.to(device) for tensor in (index, place, weight.float()))
        on_cpu = device.type == "cpu"
        found.append(Band(start, start + len(part), source, place, weight, matrix if on_cpu else None))
    return found


def apply(coarse: Tensor, rows: Band, columns: Band) -> Tensor:
    """The part [K, rows, columns] of the resized map that two bands make of `coarse` [K, h, w], in full float32.

    Products of matrices are the fastest on a CPU. On a GPU they may be of TensorFloat-32, which rounds the logits to
    ten bits, so there each output is summed up by itself.
    """
    inputs = coarse.index_select(1, rows.source).index_select(2, columns.source)
    if rows.matrix is None or columns.matrix is None:
        return _summed(_summed(inputs, columns, 2), rows, 1)
    with float32_products(tf32=False):
        wide = inputs.flatten(0, 1) @ columns.matrix.T
        return rows.matrix @ wide.view(len(coarse), len(rows.source), -1)


def _summed(inputs: Tensor, band: Band, axis: int) -> Tensor:
    weight = band.weight if axis == 2 else band.weight[..., None]
    total = inputs.index_select(axis, band.place[:, 0]) * weight[:, 0]
    for s in range(1, band.place.shape[1]):
        total.addcmul_(inputs.index_select(axis, band.place[:, s]), weight[:, s])
    return total


class Cells(NamedTuple):
    """An axis cut into cells: runs of outputs that rest on the same few inputs.

    `support` int64 [G, S] are a cell's inputs (repeated where there are fewer), `weight` float32 [G, M, S] makes its
    outputs of them, `valid` bool [G, M] tells which of the M outputs there are; the valid ones in a row are the axis.
    """

    support: Tensor
    weight: Tensor
    valid: Tensor


@lru_cache(KEPT)
@torch.inference_mode(False)
def cells(axis: Axis) -> Cells:
    """Cut where the lowest input changes, and where a cell would be much longer than most."""
    starts, lengths = _runs(axis.source[:, 0])
    count, longest = len(starts), int(lengths.max())
    place = torch.arange(longest)
    valid = place < lengths[:, None]
    output = (starts[:, None] + place).clamp_(max=axis.outputs - 1)
    # Outputs that are not there repeat the cell's first, so that they add nothing to its support.
    output = torch.where(valid, output, starts[:, None])
    index = axis.source[output]
    flat = index.flatten(1)
    support, _ = merge(flat, torch.ones_like(flat, dtype=torch.float64))
    weight = torch.zeros(count, longest, support.shape[1], dtype=torch.float64)
    first_match = (index[..., None] == support[:, None, None, :]).to(torch.uint8).argmax(-1)
    weight.scatter_add_(2, first_match, axis.weight[output])
    return Cells(support, weight.float(), valid)


def _runs(values: Tensor) -> tuple[Tensor, Tensor]:
    """Starts and lengths of runs of equal values; the longest tenth is cut to the length of the others."""
    _, lengths = values.unique_consecutive(return_counts=True)
    limit = int(lengths.sort().values[int(0.9 * (len(lengths) - 1))])
    pieces = [piece for length in lengths.tolist() for piece in _pieces(length, limit)]
    cut = torch.tensor(pieces)
    return cut.cumsum(0) - cut, cut


def _pieces(length: int, limit: int) -> list[int]:
    return [limit] * (length // limit) + [length % limit] * bool(length % limit)
