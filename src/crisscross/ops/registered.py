"""`eager` and `fused` as operators that torch knows: `torch.ops.crisscross.attention` and `torch.ops.crisscross.block`.

Their argument `fused` says whether the Triton kernels compute, or PyTorch some lines at a time. Each has a fake kernel
(shapes without values, for torch.compile) and an autograd formula whose own derivative is that of the plain expression
in composite.py. Transforms of torch.func do not reach them: the dispatcher says so.
All tensors are channels-last in their shape: [B, H, W, channels]. A clip is a map of `frames` frames below each other.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from crisscross.ops import composite, lines, slopes
from crisscross.ops.block import Kept, LayerFunction, Weights, mean_gain
from crisscross.ops.lines import Reach, without_autocast

# --- attention(q, k, v) ---


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
        if fused:
            from crisscross.ops import fused as kernels

            return kernels.forward(_unit_stride(q), _unit_stride(k), _unit_stride(v), axis, frames)
        reach = Reach(axis, row_bias, column_bias, frames)
        return lines.forward(_unit_stride(q), _unit_stride(k), _unit_stride(v), reach)


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
        grad, q, k, v = (_unit_stride(x) for x in (grad, q, k, v))
        grads = [torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v)]
        if fused:
            from crisscross.ops import fused as kernels

            return [*kernels.backward(grad, q, k, v, stats, mean_gain(grad, out), axis, grads[2], frames), grads[2]]
        reach = Reach(axis, row_bias, column_bias, frames)
        biases = slopes.backward(grad, q, k, v, stats, reach, grads[0], grads[1], grads[2])
        return grads + [bias for bias in biases if bias is not None]


@attention_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, row_bias: Any, column_bias: Any, *rest: Any) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in (q, k, v, row_bias, column_bias) if x is not None]


def _save_attention(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.axis, ctx.frames, ctx.fused = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _attention_gradients(ctx: Any, grad: Tensor | None, _: None) -> tuple[Any, ...]:
    *inputs, out, stats = ctx.saved_tensors
    if grad is None:
        return (None,) * 8
    if torch.is_grad_enabled():
        found = _differentiable(
            lambda *x: composite.attention(x[0], x[1], x[2], Reach(ctx.axis, x[3], x[4], ctx.frames)), inputs, grad
        )
    else:
        found = _spread(attention_backward(grad, *inputs, out, stats, ctx.axis, ctx.frames, ctx.fused), inputs)
    return *found, None, None, None


attention.register_autograd(_attention_gradients, setup_context=_save_attention)


# --- block(x, weights) ---


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
    """The layer's output [B, H, W, C]; with `keep` q and k and attention's result, else empty tensors; statistics."""
    with without_autocast(x):
        weights = Weights(qk_weight, qk_bias, value_weight, value_bias)
        reach = Reach(axis, row_bias, column_bias, frames)
        y, kept = LayerFunction(weights, reach, residual).forward(x, keep, fused)
        # An operator cannot return None.
        qk, attended = (x.new_empty(0) if tensor is None else tensor for tensor in kept[:2])
        return y, qk, attended, kept.stats


@block.register_fake
def _(
    x: Tensor,
    qk_weight: Tensor,
    qk_bias: Tensor,
    value_weight: Tensor,
    value_bias: Tensor,
    row_bias: Any,
    column_bias: Any,
    axis: str,
    frames: int,
    residual: bool,
    keep: bool,
    fused: bool,
) -> tuple[Tensor, ...]:
    _check_devices(x, qk_weight, qk_bias, value_weight, value_bias, row_bias, column_bias)
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
        return [grad_x, *grads, *(bias for bias in biases if bias is not None)]


@block_backward.register_fake
def _(grad: Tensor, *inputs: Any) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in inputs[:7] if x is not None]


def _save_block(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.axis, ctx.frames, ctx.residual, ctx.keep, ctx.fused = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _block_gradients(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Any, ...]:
    # Read once: under checkpointing a second reading is an error.
    saved = ctx.saved_tensors
    inputs, kept = saved[:7], saved[7:]
    if grad is None:
        return (None,) * 12
    if torch.is_grad_enabled():

        def plain(*tensors: Any) -> Tensor:
            reach = Reach(ctx.axis, tensors[5], tensors[6], ctx.frames)
            return composite.block(tensors[0], Weights(*tensors[1:5]), reach, ctx.residual)

        found = _differentiable(plain, inputs, grad)
    else:
        grads = block_backward(grad, *inputs, *kept, ctx.axis, ctx.frames, ctx.residual, ctx.keep, ctx.fused)
        found = _spread(grads, inputs)
    return *found, None, None, None, None, None


block.register_autograd(_block_gradients, setup_context=_save_block)


# --- what torch.utils.flop_counter counts: the operations needed, not those done again ---


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
def _(q: Any, k: Any, v: Any, row_bias: Any, column_bias: Any, axis: str, frames: int, *_: Any, **__: Any) -> int:
    return _attention_flops(v, q[-1], axis, frames)


@register_flop_formula(torch.ops.crisscross.attention_backward)
def _(grad: Any, q: Any, k: Any, v: Any, *rest: Any, **_: Any) -> int:
    return 2 * _attention_flops(v, q[-1], *rest[4:6])


@register_flop_formula(torch.ops.crisscross.block)
def _(x: Any, qk_weight: Any, *rest: Any, **_: Any) -> int:
    return _block_flops(x, qk_weight, *rest[5:7])


@register_flop_formula(torch.ops.crisscross.block_backward)
def _(grad: Any, x: Any, qk_weight: Any, *rest: Any, **_: Any) -> int:
    return 2 * _block_flops(x, qk_weight, *rest[8:10])


# --- what both need ---


def _check_devices(*tensors: Tensor | None) -> None:
    """One tensor on `meta` is enough for torch to take the fake kernel: its result would be memory without values."""
    devices = {str(x.device) for x in tensors if x is not None}
    if len(devices) > 1:
        raise ValueError(f"all tensors must be on one device, got {' and '.join(sorted(devices))}")


def _fake_statistics(v: Tensor, fused: bool) -> Tensor:
    """The largest logit and the sum of exponentials, or their log-sum-exp from the fused kernels."""
    return v.new_empty(v.shape[:3], dtype=torch.float32) if fused else lines.empty_statistics(v)


def _unit_stride(x: Tensor) -> Tensor:
    """Channels beside each other in memory: q and k cut from one projection pass as they are, NCHW is copied."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _spread(grads: list[Tensor], inputs: Any) -> list[Tensor | None]:
    """Gradients of the tensors among the inputs, None for the others."""
    found = iter(grads)
    return [None if x is None else next(found) for x in inputs]


def _differentiable(function: Callable[..., Tensor], inputs: Any, grad: Tensor) -> list[Tensor | None]:
    """Gradients that can be differentiated again: those of the plain expression, computed anew."""
    wanted = [x for x in inputs if x is not None and x.requires_grad]
    found = torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True)
    rest = iter(found)
    return [next(rest) if x is not None and x.requires_grad else None for x in inputs]
