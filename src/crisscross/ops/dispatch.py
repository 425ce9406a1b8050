"""One door to every way of computing criss-cross attention."""

from collections.abc import Callable

import torch
from torch import Tensor

from crisscross.ops import eager, reference

WhyNot = Callable[[Tensor, Tensor, Tensor], str | None]
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

# Name -> (reason it cannot run, function), best first; `auto` takes the first without a reason.
BACKENDS: dict[str, tuple[WhyNot, Attention]] = {
    "eager": (eager.why_not, eager.criss_cross_attention_eager),
    "reference": (lambda q, k, v: None, reference.criss_cross_attention_reference),
}


def criss_cross_attention(q: Tensor, k: Tensor, v: Tensor, backend: str = "auto") -> Tensor:
    """Each position attends to its own row and column (paper, section 3.2): H + W - 1 positions, itself once.

    Args:
        q: queries [B, D, H, W], floating point.
        k: keys [B, D, H, W], same dtype and device.
        v: values [B, C, H, W], same dtype and device.
        backend: `auto` (the best that can run; never fails), `eager` or `reference`.

    Returns:
        [B, C, H, W] in the dtype of the inputs. There is no 1/sqrt(D) scale, as published. Under autocast the inputs
        are brought to the autocast dtype; logits and softmax are float32 then.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or `backend` is unknown or cannot run (the reason is named).
    """
    # Meta tensors know no autocast.
    if q.device.type != "meta" and torch.is_autocast_enabled(q.device.type) and q.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    _check(q, k, v)
    if backend != "auto":
        if backend not in BACKENDS:
            raise ValueError(f"unknown backend {backend!r}; known: auto, {', '.join(BACKENDS)}")
        why_not, function = BACKENDS[backend]
        if reason := why_not(q, k, v):
            raise ValueError(f"backend {backend!r} cannot run here: {reason}")
        return function(q, k, v)
    for why_not, function in BACKENDS.values():
        if why_not(q, k, v) is None:
            return function(q, k, v)
    raise AssertionError("the eager backend always runs")


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    if q.dim() != 4 or v.dim() != 4:
        raise ValueError(
            f"q, k and v must be [B, channels, H, W], got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    if q.shape != k.shape:
        raise ValueError(f"q and k must have one shape, got {tuple(q.shape)} and {tuple(k.shape)}")
    if q.shape[0] != v.shape[0] or q.shape[2:] != v.shape[2:]:
        raise ValueError(f"v must share batch, height and width with q, got {tuple(v.shape)} and {tuple(q.shape)}")
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(f"q, k and v must share one floating dtype, got {q.dtype}, {k.dtype} and {v.dtype}")
    if not q.device == k.device == v.device:
        raise ValueError(f"q, k and v must be on one device, got {q.device}, {k.device} and {v.device}")
