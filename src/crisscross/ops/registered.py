"""`eager` and `fused` as operators of torch: `torch.ops.crisscross.attention` and `torch.ops.crisscross.block`.

Their argument `fused` selects the Triton kernels, else PyTorch computes some lines at a time. Each has a fake kernel
(shapes without values, for torch.compile) and an autograd formula whose own derivative is that of the plain expression
in composite.py. Transforms of torch.func are not supported; dispatch.py raises an error for them.
All tensors are channels-last in their shape: [B, H, W, channels]. A clip is a map of `frames` frames below each other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from crisscross.ops import composite, lines, slopes
from crisscross.ops.block import Kept, LayerFunction, Weights
from crisscross.ops.lines import Reach, without_autocast

# Options follow the tensors in every operator, so that the autograd formula can tell them apart.


def _autograd(
    operator: Any,
    gradients: Callable[..., list[Tensor]],
    plain: Callable[..., Tensor],
    tensors: int,
    keeps_output: bool,
) -> None:
    """Give an operator its derivative, and that one a derivative of its own.

    Args:
        operator: takes `tensors` tensors (some may be None), then options; its first output is the result, the others
            are for backward.
        gradients: (gradient of the result, tensors, what is kept, options) -> gradients of the tensors that are given.
        plain: (tensors, options) -> the result as a plain expression, whose derivatives torch finds.
        tensors: how many there are.
        keeps_output: `gradients` needs the result, too.
    """

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.options = inputs[tensors:]
        ctx.save_for_backward(*inputs[:tensors], *output[0 if keeps_output else 1 :])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        # Read once: under checkpointing a second reading is an error.
        saved = ctx.saved_tensors
        inputs, kept = saved[:tensors], saved[tensors:]
        # In a second derivative only those that need a gradient; in an ordinary backward pass all at once.
        wanted = [x is not None and (x.requires_grad or not torch.is_grad_enabled()) for x in inputs]
        if grad is None:
            return (None,) * (tensors + len(ctx.options))
        if torch.is_grad_enabled():
            sources = [x for x, needed in zip(inputs, wanted, strict=True) if needed]
            found = iter(torch.autograd.grad(plain(*inputs, *ctx.options), sources, grad, create_graph=True))
        else:
            found = iter(gradients(grad, *inputs, *kept, *ctx.options))
        return *(next(found) if needed else None for needed in wanted), *(None for _ in ctx.options)

    operator.register_autograd(backward, setup_context=save)


@torch.library.custom_op("crisscross::attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
    axis: str,
    frames: int,
    fused: bool,
) -> tuple[Tensor, Tensor]:
    """The attended values [B, H, W, C] and the statistics of their softmax."""
    with without_autocast(q):
        q, k, v = map(_unit_stride, (q, k, v))
        if fused:
            from crisscross.ops import fused as kernels

            return kernels.forward(q, k, v, axis, frames)
        return lines.forward(q, k, v, Reach(axis, row_bias, column_bias, frames))


@attention.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, row_bias: Any, column_bias: Any, axis: str, frames: int, fused: bool
) -> tuple[Tensor, ...]:
    _check_devices(q, k, v, row_bias, column_bias)
    return v.new_empty(v.shape), _fake_statistics(v, fused)


@torch.library.custom_op("crisscross::attention_backward", mutates_args=())
def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
    out: Tensor,
    stats: Tensor,
    axis: str,
    frames: int,
    fused: bool,
) -> list[Tensor]:
    """Gradients of q, k, v and of those biases that are given."""
    with without_autocast(q):
        grad, q, k, v = map(_unit_stride, (grad, q, k, v))
        grad_v = torch.zeros(v.shape, dtype=v.dtype, device=v.device)
        if fused:
            from crisscross.ops import fused as kernels

            return [*kernels.backward(grad, q, k, v, out, stats, axis, grad_v, frames), grad_v]
        reach = Reach(axis, row_bias, column_bias, frames)
        grad_q, grad_k = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
        biases = slopes.zero_biases(reach, stats.dtype)
        slopes.backward(grad, q, k, v, stats, reach, slopes.Grads(grad_q, grad_k, grad_v, *biases))
        return _given(grad_q, grad_k, grad_v, *slopes.cast_biases(biases, reach))


@attention_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in _given(*inputs[:5])]


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, row: Any, column: Any, axis: str, frames: int, _: bool) -> Tensor:
    return composite.attention(q, k, v, Reach(axis, row, column, frames))


_autograd(attention, attention_backward, _plain_attention, tensors=5, keeps_output=True)


@torch.library.custom_op("crisscross::block", mutates_args=())
def block(
    x: Tensor,
    qk_weight: Tensor,
    qk_bias: Tensor,
    value_weight: Tensor,
    value_bias: Tensor,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
    axis: str,
    frames: int,
    residual: bool,
    keep: bool,
    fused: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The layer's output [B, H, W, C]; with `keep` q and k and the attended values, else empty tensors; statistics."""
    with without_autocast(x):
        weights = Weights(qk_weight, qk_bias, value_weight, value_bias)
        reach = Reach(axis, row_bias, column_bias, frames)
        y, kept = LayerFunction(weights, reach, residual).forward(x, keep, fused)
        # An operator cannot return None.
        qk, attended = (x.new_empty(0) if tensor is None else tensor for tensor in kept[:2])
        return y, qk, attended, kept.stats


@block.register_fake
def _(x: Tensor, qk_weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    keep, fused = rest[-2:]
    _check_devices(x, qk_weight, *rest[:5])
    y, stats = x.new_empty(x.shape), _fake_statistics(x, fused)
    if not keep:
        return y, x.new_empty(0), x.new_empty(0), stats
    return y, x.new_empty((*x.shape[:3], qk_weight.shape[0])), x.new_empty(x.shape), stats


@torch.library.custom_op("crisscross::block_backward", mutates_args=())
def block_backward(
    grad: Tensor,
    x: Tensor,
    qk_weight: Tensor,
    qk_bias: Tensor,
    value_weight: Tensor,
    value_bias: Tensor,
    row_bias: Tensor | None,
    column_bias: Tensor | None,
    qk: Tensor,
    attended: Tensor,
    stats: Tensor,
    axis: str,
    frames: int,
    residual: bool,
    keep: bool,
    fused: bool,
) -> list[Tensor]:
    """Gradients of x, of the four weights and of those biases that are given."""
    with without_autocast(x):
        weights = Weights(qk_weight, qk_bias, value_weight, value_bias)
        kept = Kept(qk, attended, stats) if keep else Kept(None, None, stats)
        layer = LayerFunction(weights, Reach(axis, row_bias, column_bias, frames), residual)
        grad_x, grads, *biases = layer.backward(grad, x, kept, fused)
        return _given(grad_x, *grads, *biases)


@block_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in _given(*inputs[:7])]


def _plain_block(x: Tensor, *rest: Any) -> Tensor:
    *weights, row_bias, column_bias, axis, frames, residual, _, _ = rest
    return composite.block(x, Weights(*weights), Reach(axis, row_bias, column_bias, frames), residual)


_autograd(block, block_backward, _plain_block, tensors=7, keeps_output=False)


# For torch.utils.flop_counter: the operations that are needed, without those done a second time.


def _attention_flops(v_shape: Sequence[int], inner: int, axis: str, frames: int) -> int:
    batch, rows, width, channels = v_shape
    height = rows // max(1, frames)
    reach = {"both": height + width + (frames if frames > 1 else 0), "row": width, "column": height}[axis]
    return 2 * batch * rows * width * reach * (inner + channels)


def _block_flops(x_shape: Sequence[int], qk_shape: Sequence[int], axis: str, frames: int) -> int:
    batch, rows, width, channels = x_shape
    projections = 2 * batch * rows * width * channels * (qk_shape[0] + channels)
    return projections + _attention_flops(x_shape, qk_shape[0] // 2, axis, frames)


@register_flop_formula(torch.ops.crisscross.attention)
def _(q: Any, k: Any, v: Any, *rest: Any, **_: Any) -> int:
    return _attention_flops(v, q[-1], *rest[2:4])


@register_flop_formula(torch.ops.crisscross.attention_backward)
def _(grad: Any, q: Any, k: Any, v: Any, *rest: Any, **_: Any) -> int:
    return 2 * _attention_flops(v, q[-1], *rest[4:6])


@register_flop_formula(torch.ops.crisscross.block)
def _(x: Any, qk_weight: Any, *rest: Any, **_: Any) -> int:
    return _block_flops(x, qk_weight, *rest[5:7])


@register_flop_formula(torch.ops.crisscross.block_backward)
def _(grad: Any, x: Any, qk_weight: Any, *rest: Any, **_: Any) -> int:
    return 2 * _block_flops(x, qk_weight, *rest[8:10])


def _check_devices(*tensors: Tensor | None) -> None:
    """One tensor on `meta` is enough for torch to take the fake kernel: its result would be memory without values."""
    devices = {str(x.device) for x in _given(*tensors)}
    if len(devices) > 1:
        raise ValueError(f"all tensors must be on one device, got {' and '.join(sorted(devices))}")


def _fake_statistics(v: Tensor, fused: bool) -> Tensor:
    """The largest logit and the sum of exponentials, or their log-sum-exp from the fused kernels."""
    return v.new_empty(v.shape[:3], dtype=torch.float32) if fused else lines.empty_statistics(v)


def _unit_stride(x: Tensor) -> Tensor:
    """Channels next to each other in memory: q and k cut from one projection pass as they are, NCHW is copied."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _given(*tensors: Tensor | None) -> list[Tensor]:
    return [x for x in tensors if x is not None]
