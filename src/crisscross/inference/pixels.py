"""From passes to labels, logits or probabilities at the image's own size, a few megabytes at a time."""

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from crisscross.errors import CrissCrossError
from crisscross.inference import arrays
from crisscross.inference.arrays import Array
from crisscross.inference.cells import cell_labels
from crisscross.inference.passes import Pass
from crisscross.inference.resize import bands

# Rows computed at once, and values (rows x columns x classes) computed at once: on a CPU, for each thread, as many as
# stay in the cache; on a GPU, where few large calls are better than many small ones, more.
ROWS = 32
VALUES_CPU, VALUES = 2**20, 2**25


def labels(passes: Sequence[Pass]) -> np.ndarray:
    """The label uint8 [H, W] of every pixel: the largest logit of one pass, the largest mean probability of several.

    Raises:
        CrissCrossError: a coarse logit is NaN or infinite.
    """
    _check_finite(passes)
    only = passes[0]
    if len(passes) == 1 and _on_cpu(only.coarse) and (found := cell_labels(only)) is not None:
        return found
    out = arrays.empty(only.size, "uint8", only.coarse)
    for rows, columns, values in _tiles(passes, softmax=len(passes) > 1):
        out[rows, columns] = arrays.argmax(values)
    return arrays.to_numpy(out)


def logits(one: Pass) -> np.ndarray:
    """Logits float32 [K, H, W] of one pass.

    Raises:
        CrissCrossError: a coarse logit is NaN or infinite.
    """
    return _whole([one], softmax=False)


def probabilities(passes: Sequence[Pass]) -> np.ndarray:
    """Mean over the passes of the softmax, float32 [K, H, W].

    Raises:
        CrissCrossError: a coarse logit is NaN or infinite.
    """
    return _whole(passes, softmax=True)


def confidences(passes: Sequence[Pass]) -> np.ndarray:
    """The probability float32 [H, W] of the label of every pixel: the largest of those of `probabilities`.

    Raises:
        CrissCrossError: a coarse logit is NaN or infinite.
    """
    _check_finite(passes)
    out = arrays.empty(passes[0].size, "float32", passes[0].coarse)
    for rows, columns, values in _tiles(passes, softmax=len(passes) > 1):
        out[rows, columns] = arrays.largest(values) if len(passes) > 1 else arrays.largest_softmax(values)
    return arrays.to_numpy(out)


def _check_finite(passes: Sequence[Pass]) -> None:
    # Otherwise the largest of them would be an arbitrary class.
    if not arrays.finite([one.coarse for one in passes]):
        raise CrissCrossError(
            "the network gives NaN or infinity where class logits should be: its numbers overflow; "
            "run it in bf16 or fp32, or use other weights"
        )


def _on_cpu(coarse: Array) -> bool:
    device = arrays.device_of(coarse)
    return device is None or device.type == "cpu"


def _whole(passes: Sequence[Pass], softmax: bool) -> np.ndarray:
    _check_finite(passes)
    coarse = passes[0].coarse
    out = arrays.empty((len(coarse), *passes[0].size), "float32", coarse)
    for rows, columns, values in _tiles(passes, softmax):
        out[:, rows, columns] = values
    return arrays.to_numpy(out)


def _tiles(passes: Sequence[Pass], softmax: bool) -> Iterator[tuple[slice, slice, Array]]:
    """Rows, columns and their values [K, rows, columns]: logits, or the mean of the probabilities."""
    coarse, on_cpu = passes[0].coarse, _on_cpu(passes[0].coarse)
    device = arrays.device_of(coarse)
    threads = 1 if device is None else sys.modules["torch"].get_num_threads()
    budget = (VALUES_CPU * threads if on_cpu else VALUES) // len(coarse)
    height = ROWS if on_cpu else max(ROWS, budget // passes[0].size[1])
    width = max(budget // height, 1)
    down = [bands(one.rows, height, device) for one in passes]
    across = [bands(one.columns, width, device) for one in passes]
    for rows in zip(*down, strict=True):
        for columns in zip(*across, strict=True):
            total: Array = 0
            for one, row_band, column_band in zip(passes, rows, columns, strict=True):
                values = arrays.resize_logits(one.coarse, row_band, column_band)
                total += arrays.softmax(values) if softmax else values
            if len(passes) > 1:
                total /= len(passes)
            yield slice(rows[0].start, rows[0].stop), slice(columns[0].start, columns[0].stop), total
