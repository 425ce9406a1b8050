"""The operations that differ between NumPy arrays and torch tensors; torch is imported for tensors alone.

Everything else in this package is written once: indexing, slicing and in-place arithmetic are the same for both. Each
function takes either kind and returns the kind that it was given, on the same device.
"""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from crisscross.data.samples.opencv_resize import is_tensor
from crisscross.inference.resize import Band

if TYPE_CHECKING:
    import torch

# A NumPy array or a torch tensor.
Array = Any


def pad(x: Array, bottom: int, right: int) -> Array:
    """Zeros below and to the right of [..., H, W]."""
    if is_tensor(x):
        return _torch().nn.functional.pad(x, [0, right, 0, bottom])
    return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, bottom), (0, right)])


def flip(x: Array) -> Array:
    """[..., W] in reverse order."""
    return x.flip(-1) if is_tensor(x) else np.ascontiguousarray(x[..., ::-1])


def join(parts: Sequence[Array], axis: int) -> Array:
    """The parts one behind the other along an axis."""
    if len(parts) == 1:
        return parts[0]
    return _torch().cat(list(parts), axis) if is_tensor(parts[0]) else np.concatenate(parts, axis)


def resize_logits(coarse: Array, rows: Band, columns: Band) -> Array:
    """The part [K, rows, columns] of the resized map that two bands make of `coarse` [K, h, w], in full float32.

    Products of matrices are the fastest on a CPU. On a GPU they may be of TensorFloat-32, which rounds the logits to
    ten bits, so there each output is summed up by itself.
    """
    if not is_tensor(coarse):
        wide = coarse[:, rows.source][:, :, columns.source] @ columns.matrix.T
        return rows.matrix @ wide
    from crisscross.layers.precision import float32_products

    inputs = coarse.index_select(1, rows.source).index_select(2, columns.source)
    if rows.matrix is None or columns.matrix is None:
        return _summed(_summed(inputs, columns, 2), rows, 1)
    with _without_autocast(coarse.device.type), float32_products(tf32=False):
        wide = inputs.flatten(0, 1) @ columns.matrix.T
        return rows.matrix @ wide.view(len(coarse), len(rows.source), -1)


def _without_autocast(device: str) -> AbstractContextManager[object]:
    """Half precision, where the caller asked for it, is for the network."""
    torch = _torch()
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _summed(inputs: "torch.Tensor", band: Band, axis: int) -> "torch.Tensor":
    weight = band.weight if axis == 2 else band.weight[..., None]
    total = inputs.index_select(axis, band.place[:, 0]) * weight[:, 0]
    for s in range(1, band.place.shape[1]):
        total.addcmul_(inputs.index_select(axis, band.place[:, s]), weight[:, s])
    return total


def softmax(values: Array) -> Array:
    """Probabilities of logits float32 [K, ...] along the first axis."""
    if is_tensor(values):
        return values.softmax(0)
    powers = np.exp(values - values.max(0))
    return powers / powers.sum(0)


def largest(values: Array) -> Array:
    """The largest of values [K, ...] along the first axis."""
    return values.amax(0) if is_tensor(values) else values.max(0)


def largest_softmax(values: Array) -> Array:
    """The largest of `softmax(values)` along the first axis: the others are not divided."""
    top = largest(values)
    powers = (values - top).exp_() if is_tensor(values) else np.exp(values - top)
    return 1 / powers.sum(0)


def argmax(values: Array) -> Array:
    """Labels uint8 [...] of values [K, ...]: the first of the largest along the first axis."""
    if is_tensor(values):
        # Much faster than argmax on a CPU, and the same.
        return values.max(0).indices.to(_torch().uint8)
    best, labels = values[0], np.zeros(values.shape[1:], np.uint8)
    # The axis is short: much faster than argmax there.
    for index in range(1, len(values)):
        labels[values[index] > best] = index
        best = np.maximum(best, values[index])
    return labels


def finite(parts: Sequence[Array]) -> bool:
    """Whether all values of all parts are neither NaN nor infinite; a GPU is waited for once."""
    if is_tensor(parts[0]):
        return bool(_torch().stack([part.isfinite().all() for part in parts]).all())
    return all(bool(np.isfinite(part).all()) for part in parts)


def float32(x: Array) -> Array:
    """The same values as contiguous float32."""
    return x.float().contiguous() if is_tensor(x) else np.ascontiguousarray(x, np.float32)


def empty(shape: Sequence[int], kind: str, like: Array) -> Array:
    """An array of `kind` (`uint8`, `float32`) without content, beside `like`."""
    if is_tensor(like):
        return like.new_empty(shape, dtype=getattr(_torch(), kind))
    return np.empty(shape, kind)


def device_of(x: Array) -> "torch.device | None":
    """The device of a tensor, None for a NumPy array."""
    return x.device if is_tensor(x) else None


def to_numpy(x: Array) -> np.ndarray:
    """The same as a NumPy array."""
    return x.cpu().numpy() if is_tensor(x) else x


def _torch() -> Any:
    return sys.modules["torch"]
