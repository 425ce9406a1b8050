"""Exact labels of one pass with little arithmetic: most of an image lies inside its segments.

Bilinear interpolation gives means with weights of at least 0 that sum to 1. Where one class has the largest logit at
all coarse positions that a cell of pixels rests on, it has the largest one at every pixel of the cell. Elsewhere a
class whose largest logit there is below the best class's smallest can win nowhere; few are left, and only they are
interpolated.

The work is many small steps; NumPy takes them in one thread, which costs less than waking several for each.
"""

import numpy as np

from crisscross.inference import arrays
from crisscross.inference.passes import Pass
from crisscross.inference.resize import Cells, cells

# Values looked at at once.
CHUNK = 2**18
# With more of its cells undecided than this, an image is cheaper to compute in full.
WORTHWHILE = 0.6
# Candidates are interpolated together: cells with up to 2 of them, with up to 4, with up to 8, with more.
CANDIDATES = (2, 4, 8)


def cell_labels(one: Pass) -> np.ndarray | None:
    """Labels uint8 [H, W] of one pass on a CPU, or None where its logits change too wildly for this to pay."""
    rows, columns = cells(one.rows), cells(one.columns)
    winner = arrays.to_numpy(arrays.argmax(one.coarse))
    # [G, S, w] -> [G, w] -> [G, g, T] -> [G, g]
    low = winner[rows.support].min(1)[:, columns.support].min(2)
    high = winner[rows.support].max(1)[:, columns.support].max(2)
    down, across = (low != high).nonzero()
    if len(down) > WORTHWHILE * low.size:
        return None
    blocks = np.empty((len(low), rows.valid.shape[1], low.shape[1], columns.valid.shape[1]), np.uint8)
    blocks[:] = low[:, None, :, None]
    coarse = arrays.to_numpy(one.coarse)
    positions = rows.support.shape[1] * columns.support.shape[1]
    step = max(CHUNK // (positions * len(coarse)), 1)
    for start in range(0, len(down), step):
        _decide(coarse, rows, columns, down[start : start + step], across[start : start + step], blocks)
    flat = blocks.reshape(blocks.shape[0] * blocks.shape[1], -1)
    return _keep(_keep(flat, rows.valid, 0), columns.valid, 1)


def _keep(image: np.ndarray, valid: np.ndarray, axis: int) -> np.ndarray:
    """The valid lines, copied in as few pieces as there are gaps: much faster than one by one."""
    flags = valid.ravel()
    if flags.all():
        return image
    cuts = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    # Every cell begins with a valid line, so every second piece is one to keep.
    return np.concatenate(np.split(image, cuts, axis)[::2], axis)


def _decide(
    coarse: np.ndarray, rows: Cells, columns: Cells, down: np.ndarray, across: np.ndarray, blocks: np.ndarray
) -> None:
    """Fill in the labels of some cells of `blocks` [G, M, g, m]; cell n is row cell down[n], column cell across[n]."""
    place = rows.support[down][:, :, None] * coarse.shape[2] + columns.support[across][:, None, :]
    # [K, N, S, T]
    corners = coarse.reshape(len(coarse), -1).take(place, axis=1)
    flat = corners.reshape(*corners.shape[:2], -1)
    largest = flat.max(2)
    count = (largest >= flat.min(2).max(0)).sum(0)
    done = -1
    for most in sorted({min(number, len(coarse)) for number in (*CANDIDATES, len(coarse))}):
        some = np.flatnonzero((count > done) & (count <= most))
        done = most
        if len(some):
            # In rising order, so that the first of equals wins as everywhere.
            candidates = np.sort(np.argpartition(-largest[:, some], most - 1, axis=0)[:most], axis=0)
            values = corners[candidates, some]
            best = arrays.argmax(_interpolate(values, rows.weight[down[some]], columns.weight[across[some]]))
            label = np.take_along_axis(candidates.T.astype(np.uint8), best.reshape(len(some), -1), 1)
            blocks[down[some], :, across[some], :] = label.reshape(best.shape)


def _interpolate(corners: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Corners [C, N, S, T] by weights [N, M, S] and [N, m, T] -> [C, N, M, m]."""
    wide = corners[..., :1] * columns[:, None, :, 0]
    for t in range(1, corners.shape[3]):
        wide += corners[..., t, None] * columns[:, None, :, t]
    out = wide[:, :, 0, None, :] * rows[:, :, 0, None]
    for s in range(1, corners.shape[2]):
        out += wide[:, :, s, None, :] * rows[:, :, s, None]
    return out
