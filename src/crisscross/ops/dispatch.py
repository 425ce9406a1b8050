"""The backends of criss-cross attention, for q, k and v and for a whole layer, and the choice among them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.ops import composite, reference
from crisscross.ops.block import Weights
from crisscross.ops.lines import Reach

WhyNot = Callable[[Tensor, Tensor, Tensor, Reach], str | None]
Attention = Callable[[Tensor, Tensor, Tensor, Reach], Tensor]
LayerBlock = Callable[[Tensor, Weights, Reach, bool, str], Tensor]
# Types of devices on which `auto` prefers the kernels.
WITH_KERNELS = ("cuda",)


class Backend(NamedTuple):
    """A way to compute criss-cross attention: a row of `BACKENDS`, which the operators and the layers share.

    Tensors are [B, channels, H, W], or [B, channels, T, H, W] where `reach.frames` is T; their strides may be any.

    Attributes:
        why_not: (q, k, v, reach) -> the reason why it cannot run on tensors of these shapes, dtypes and devices, or
            None. Values do not matter: a layer calls it before it projects, with tensors of the right shapes.
        attention: (q, k, v, reach) -> the attended values, with the shape and dtype of v.
        block: (x, weights, reach, residual, memory) -> a whole layer, as in `criss_cross_block`; without `residual` the
            first term is left out. None: the layer projects x to q, k and v and calls `attention`; `memory` has no
            effect then.
    """

    why_not: WhyNot
    attention: Attention
    block: LayerBlock | None = None

    def layer(self, x: Tensor, weights: Weights, reach: Reach, residual: bool, memory: str) -> Tensor:
        """The whole layer by `block`; without one, x is projected for `attention`."""
        if self.block is not None:
            return self.block(x, weights, reach, residual, memory)
        (x_BHWC,) = _channels_last(x)
        q_BHWD, k_BHWD = functional.linear(x_BHWC, weights.qk, weights.qk_bias).chunk(2, -1)
        # The gate is in the value projection.
        v_BHWC = functional.linear(x_BHWC, weights.value, weights.value_bias)
        q, k, v = map(_channels_first, (q_BHWD, k_BHWD, v_BHWC))
        attended = self.attention(q, k, v, reach)
        return x + attended if residual else attended


def _why_not_registered(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str | None:
    if transforms_active():
        return "torch.func transforms and forward-mode differentiation need backend='composite'"
    return None


def transforms_active() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is active; torch has no public name for it."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def exporting() -> bool:
    """Whether torch.export is at work.

    torch.compile of PyTorch 2.11 takes `torch.compiler.is_exporting()` for true, but not the flag that it returns.
    """
    return torch.compiler._is_exporting_flag


def _why_not_fused(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str | None:
    if reason := _why_not_registered(q, k, v, reach):
        return reason
    if reach.row_bias is not None or reach.column_bias is not None:
        return "it has no position bias"
    if q.device.type != "cuda" and q.device.type != "cpu":
        return f"it runs on CUDA devices, not on {q.device.type}"
    # Triton is imported for a GPU, or if it was asked for by name.
    from crisscross.ops import fused

    return fused.why_not(*_channels_last(q, v))


def _channels_last(*tensors: Tensor) -> list[Tensor]:
    """[B, channels, (T,) H, W] -> [B, (T,) H, W, channels], no copies."""
    return [x.permute(0, *range(2, x.dim()), 1) for x in tensors]


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, -1, *range(1, x.dim() - 1))


def _as_map(x: Tensor) -> Tensor:
    """A clip [B, T, H, W, channels] as a map [B, T H, W, channels]; a map as it is."""
    return x.flatten(1, 2) if x.dim() == 5 else x


def _registered(why_not: WhyNot, fused: bool) -> Backend:
    """The operators of registered.py: with the Triton kernels, or some lines at a time."""

    def attention(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
        from crisscross.ops import registered

        q_BHWD, k_BHWD, v_BHWC = map(_as_map, _channels_last(q, k, v))
        axis, *biases, frames = reach
        out_BHWC, _ = registered.attention(q_BHWD, k_BHWD, v_BHWC, *biases, axis, frames, fused)
        return _channels_first(out_BHWC if v.dim() == 4 else out_BHWC.unflatten(1, v.shape[2:4]))

    def block(x: Tensor, weights: Weights, reach: Reach, residual: bool, memory: str) -> Tensor:
        from crisscross.ops import registered

        keep = memory != "lean" and torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights))
        axis, *biases, frames = reach
        (x_BHWC,) = map(_as_map, _channels_last(x))
        y_BHWC = registered.block(x_BHWC, *weights, *biases, axis, frames, residual, keep, fused)[0]
        return _channels_first(y_BHWC if x.dim() == 4 else y_BHWC.unflatten(1, x.shape[2:4]))

    return Backend(why_not, attention, block)


def _composite(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
    q_BHWD, k_BHWD, v_BHWC = _channels_last(q, k, v)
    return _channels_first(composite.attention(q_BHWD, k_BHWD, v_BHWC, reach))


def _composite_block(x: Tensor, weights: Weights, reach: Reach, residual: bool, memory: str) -> Tensor:
    (x_BHWC,) = _channels_last(x)
    return _channels_first(composite.block(x_BHWC, weights, reach, residual))


def _reference(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
    if v.dim() == 5:
        return reference.criss_cross_attention_3d_reference(q, k, v)
    biases = (None if bias is None else bias.to(q.dtype) for bias in (reach.row_bias, reach.column_bias))
    return reference.criss_cross_attention_reference(q, k, v, reach.axis, *biases)


def _always(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str | None:
    return None


BACKENDS: dict[str, Backend] = {
    "fused": _registered(_why_not_fused, fused=True),
    "eager": _registered(_why_not_registered, fused=False),
    "composite": Backend(_always, _composite, _composite_block),
    "reference": Backend(_always, _reference),
}


def check_backend(backend: str) -> None:
    """Raises ValueError for a name that is neither `auto` nor a row of `BACKENDS`."""
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; known: auto, {', '.join(BACKENDS)}")


def choose(backend: str, q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str:
    """The name of the backend to use. Raises ValueError for one that is unknown or cannot run."""
    check_backend(backend)
    if backend == "auto":
        return _best(q, k, v, reach)
    if reason := BACKENDS[backend].why_not(q, k, v, reach):
        raise ValueError(f"backend {backend!r} cannot run here: {reason}")
    return backend


def _best(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str:
    """The backend that `auto` selects."""
    # An exported graph holds plain operations only, so that it runs where this package is not.
    tracing = exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if tracing or _why_not_registered(q, k, v, reach):
        return "composite"
    if v.device.type not in WITH_KERNELS or BACKENDS["fused"].why_not(q, k, v, reach):
        return "eager"
    from crisscross.ops import trial

    # They can run; they also have to pass a trial on this device.
    return "fused" if trial.passed(v.device, v.dtype, q.shape[1], v.shape[1]) else "eager"
