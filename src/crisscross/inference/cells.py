"""Exact labels of one pass with little arithmetic: most of a picture lies inside its segments.

Bilinear interpolation gives means with weights of at least 0 that sum to 1. Where one class has the largest logit at
all coarse positions that a cell of pixels rests on, it has the largest one at every pixel of the cell. Elsewhere a
class whose largest logit there is below the best class's smallest can win nowhere; few are left, and only they are
interpolated.
"""

import torch
from torch import Tensor

from crisscross.inference.passes import Pass
from crisscross.inference.resize import Cells, cells

# Values looked at at once.
CHUNK = 2**20
# With more of its cells undecided than this, a picture is cheaper to compute in full.
WORTHWHILE = 0.6
# Candidates are interpolated together: cells with up to 2 of them, with up to 4, with up to 8, with more.
CANDIDATES = (2, 4, 8)


def cell_labels(one: Pass) -> Tensor | None:
    """Labels uint8 [H, W] of one pass on a CPU, or None where its logits change too wildly for this to pay."""
    rows, columns = cells(one.rows), cells(one.columns)
    winner = one.coarse.max(0).indices.to(torch.uint8)
    # [G, S, w] -> [G, w] -> [G, w, T] -> [G, g]
    low = winner[rows.support].amin(1)[:, columns.support].amin(2)
    high = winner[rows.support].amax(1)[:, columns.support].amax(2)
    down, across = (low != high).nonzero(as_tuple=True)
    if len(down) > WORTHWHILE * low.numel():
        return None
    blocks = low[:, None, :, None].repeat(1, rows.valid.shape[1], 1, columns.valid.shape[1])
    positions = len(rows.support[0]) * len(columns.support[0])
    step = max(CHUNK // (positions * len(one.coarse)), 1)
    for start in range(0, len(down), step):
        here = down[start : start + step], across[start : start + step]
        _decide(one.coarse, rows, columns, *here, blocks)
    flat = blocks.flatten(2, 3).flatten(0, 1)
    return _keep(_keep(flat, rows.valid, 0), columns.valid, 1)


def _keep(picture: Tensor, valid: Tensor, dim: int) -> Tensor:
    """The valid lines, copied in as few pieces as there are gaps: much faster than one by one."""
    if bool(valid.all()):
        return picture
    flags, lengths = valid.flatten().unique_consecutive(return_counts=True)
    pieces = picture.split(lengths.tolist(), dim)
    return torch.cat([piece for piece, flag in zip(pieces, flags.tolist(), strict=True) if flag], dim)


def _decide(coarse: Tensor, rows: Cells, columns: Cells, down: Tensor, across: Tensor, blocks: Tensor) -> None:
    """Fill in the labels of some cells of `blocks` [G, M, g, m]; cell n is row cell down[n], column cell across[n]."""
    place = rows.support[down][:, :, None] * coarse.shape[2] + columns.support[across][:, None, :]
    corners = coarse.flatten(1).index_select(1, place.flatten()).view(len(coarse), *place.shape)
    largest = corners.flatten(2).amax(2)
    possible = largest >= corners.flatten(2).amin(2).amax(0)
    count = possible.sum(0)
    done = 0
    for most in sorted({min(number, len(coarse)) for number in (*CANDIDATES, len(coarse))}):
        some = ((count > done) & (count <= most)).nonzero()[:, 0]
        done = most
        if len(some):
            # In rising order, so that the first of equals wins as everywhere.
            candidates = largest[:, some].topk(most, 0).indices.sort(0).values
            index = candidates[:, :, None, None].expand(-1, -1, *corners.shape[2:])
            values = corners[:, some].gather(0, index)
            place_of_best = _interpolate(values, rows.weight[down[some]], columns.weight[across[some]]).max(0).indices
            best = candidates.T.gather(1, place_of_best.flatten(1)).view(place_of_best.shape)
            blocks[down[some], :, across[some], :] = best.to(torch.uint8)


def _interpolate(corners: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Corners [C, N, S, T] by weights [N, M, S] and [N, m, T] -> [C, N, M, m]."""
    wide = sum(corners[..., t, None] * columns[:, None, :, t] for t in range(corners.shape[3]))
    assert isinstance(wide, Tensor)
    out = sum(wide[:, :, s, None, :] * rows[:, :, s, None] for s in range(corners.shape[2]))
    assert isinstance(out, Tensor)
    return out
