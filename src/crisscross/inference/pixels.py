"""From passes to labels, logits or probabilities at the image's own size, a few megabytes at a time."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from crisscross.errors import CrissCrossError
from crisscross.inference.cells import cell_labels
from crisscross.inference.passes import Pass
from crisscross.inference.resize import Band, apply, bands

# Rows made at once, and values (rows x columns x classes) made at once on a CPU, by each thread, where they shall stay
# in the cache, and elsewhere, where few large calls are better than many small ones.
ROWS = 32
VALUES_CPU, VALUES = 2**20, 2**25


def labels(passes: Sequence[Pass]) -> Tensor:
    """The label uint8 [H, W] of every pixel: the largest logit of one pass, the largest mean probability of several.

    Raises:
        CrissCrossError: a coarse logit is NaN or infinite.
    """
    _check_finite(passes)
    only = passes[0]
    device = only.coarse.device
    if len(passes) == 1 and device.type == "cpu" and (found := cell_labels(only)) is not None:
        return found
    out = torch.empty(only.size, dtype=torch.uint8, device=device)
    for rows, columns, values in _tiles(passes, softmax=len(passes) > 1):
        # Much faster than argmax on a CPU, and the same: the first of equals.
        out[rows, columns] = values.max(0).indices.to(torch.uint8)
    return out


def logits(one: Pass) -> Tensor:
    """Logits float32 [K, H, W] of one pass.

    Raises:
        CrissCrossError: a coarse logit is NaN or infinite.
    """
    _check_finite([one])
    return _whole([one], softmax=False)


def probabilities(passes: Sequence[Pass]) -> Tensor:
    """Mean over the passes of the softmax, float32 [K, H, W].

    Raises:
        CrissCrossError: a coarse logit is NaN or infinite.
    """
    _check_finite(passes)
    return _whole(passes, softmax=True)


def _check_finite(passes: Sequence[Pass]) -> None:
    # Else the largest of them would be some class or other.
    if not torch.stack([one.coarse.isfinite().all() for one in passes]).all():
        raise CrissCrossError(
            "the network gives NaN or infinity where class logits should be: its numbers overflow; "
            "run it in bf16 or fp32, or use other weights"
        )


def _whole(passes: Sequence[Pass], softmax: bool) -> Tensor:
    coarse = passes[0].coarse
    out = torch.empty(len(coarse), *passes[0].size, device=coarse.device)
    for rows, columns, values in _tiles(passes, softmax):
        out[:, rows, columns] = values
    return out


def _tiles(passes: Sequence[Pass], softmax: bool) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows, columns and their values [K, rows, columns]: logits, or the mean of the probabilities."""
    coarse = passes[0].coarse
    budget = (VALUES_CPU * torch.get_num_threads() if coarse.device.type == "cpu" else VALUES) // len(coarse)
    height = ROWS if coarse.device.type == "cpu" else max(ROWS, budget // passes[0].size[1])
    width = max(budget // height, 1)
    down = [bands(one.rows, height, coarse.device) for one in passes]
    across = [bands(one.columns, width, coarse.device) for one in passes]
    for rows in zip(*down, strict=True):
        for columns in zip(*across, strict=True):
            # Half precision, where the caller asked for it, is for the network.
            with torch.autocast(coarse.device.type, enabled=False):
                values = _tile(passes, rows, columns, softmax)
            yield slice(rows[0].start, rows[0].stop), slice(columns[0].start, columns[0].stop), values


def _tile(passes: Sequence[Pass], rows: Sequence[Band], columns: Sequence[Band], softmax: bool) -> Tensor:
    total: Tensor | None = None
    for one, row_band, column_band in zip(passes, rows, columns, strict=True):
        values = apply(one.coarse, row_band, column_band)
        if softmax:
            values = values.softmax(0)
        total = values if total is None else total.add_(values)
    assert total is not None
    return total.div_(len(passes)) if len(passes) > 1 else total
