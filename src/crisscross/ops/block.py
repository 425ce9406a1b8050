"""A whole layer around the operator, x + W attention(q(x), k(x), x) + b, with as little stored as possible.

The value projection comes after the attention instead of before it: the weights of a position sum to 1, so
attention(x W') = attention(x) W', bias included, at the same cost. The input is then its own value, there is no v to
store, and gate and value projection become one matrix. Backward needs x and, to be faster, what attention gave.

Shape suffixes: as in lines.py; P positions (H x W of one or more pictures), E the 2 D channels of q and k together.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.ops import lines
from crisscross.ops.lines import Reach

# Rows of a matrix product that pass through the cache together.
POSITIONS = 512


class Weights(NamedTuple):
    """q and k projections [2 D, C] and [2 D]; value projection times gate [C, C] and [C]."""

    qk: Tensor
    qk_bias: Tensor
    value: Tensor
    value_bias: Tensor


class Kept(NamedTuple):
    """What a forward pass leaves for the backward one: projections [B, H, W, 2 D], attention's result, statistics."""

    qk: Tensor
    attended: Tensor
    stats: Tensor


def forward(
    x_BHWC: Tensor, weights: Weights, reach: Reach, residual: bool, keep: bool, fused: bool
) -> tuple[Tensor, Kept | None]:
    """The layer's output [B, H, W, C] and, with `keep`, what makes backward faster."""
    x_BHWC = x_BHWC.contiguous()
    if fused:
        return _forward_fused(x_BHWC, weights, reach, residual, keep)
    y_BHWC = torch.empty_like(x_BHWC)
    kept = _room(x_BHWC, weights) if keep else None
    for i, (x_HWC, y_HWC) in enumerate(zip(x_BHWC, y_BHWC, strict=True)):
        if kept is None:
            qk_HWE = _project(x_HWC, weights)
            stats_SHW = lines.empty_statistics(x_HWC[None])[0]
            # The output's own memory holds the columns' share until its rows are written.
            store_HWC = y_HWC
        else:
            qk_HWE, store_HWC, stats_SHW = kept.qk[i], kept.attended[i], kept.stats[i]
            qk_HWE.copy_(_project(x_HWC, weights))
        q_HWD, k_HWD = qk_HWE.chunk(2, -1)
        for rows, attended_NWC in lines.attended_rows(q_HWD, k_HWD, x_HWC, store_HWC, stats_SHW, reach, in_place=keep):
            _finish(attended_NWC, x_HWC[rows] if residual else None, weights, y_HWC[rows])
    return y_BHWC, kept


def _finish(attended_NWC: Tensor, x_NWC: Tensor | None, weights: Weights, y_NWC: Tensor) -> None:
    """y = x + attended W + b, written into y."""
    if x_NWC is None:
        y_NWC.copy_(weights.value_bias)
    else:
        torch.add(x_NWC, weights.value_bias, out=y_NWC)
    y_NWC.flatten(0, 1).addmm_(attended_NWC.flatten(0, 1), weights.value.t())


def _forward_fused(
    x_BHWC: Tensor, weights: Weights, reach: Reach, residual: bool, keep: bool
) -> tuple[Tensor, Kept | None]:
    from crisscross.ops import fused

    qk_BHWE = _project(x_BHWC, weights)
    q_BHWD, k_BHWD = qk_BHWE.chunk(2, -1)
    attended_BHWC, stats = fused.forward(q_BHWD, k_BHWD, x_BHWC, reach.axis)
    y_BHWC = functional.linear(attended_BHWC, weights.value, weights.value_bias)
    if residual:
        y_BHWC += x_BHWC
    return y_BHWC, Kept(qk_BHWE, attended_BHWC, stats) if keep else None


def backward(
    grad_BHWC: Tensor,
    x_BHWC: Tensor,
    weights: Weights,
    reach: Reach,
    residual: bool,
    kept: Kept | None,
    fused: bool,
) -> tuple[Tensor, Weights, Tensor | None, Tensor | None]:
    """Gradients of x, of the weights and of the row and column bias; without `kept`, attention is computed again."""
    grad_BHWC, x_BHWC = grad_BHWC.contiguous(), x_BHWC.contiguous()
    dtype = lines.statistics_dtype(x_BHWC.dtype)
    grad_x_BHWC = torch.empty_like(x_BHWC)
    totals = Weights(*(torch.zeros_like(weight, dtype=dtype) for weight in weights))
    biases = [None if bias is None else torch.zeros_like(bias) for bias in (reach.row_bias, reach.column_bias)]
    # One picture after the other bounds the memory; a GPU takes all at once.
    batch = x_BHWC.shape[0]
    for part in [slice(0, batch)] if fused else [slice(i, i + 1) for i in range(batch)]:
        kept_part = None if kept is None else Kept(*(x[part] for x in kept))
        found = _backward_part(
            grad_BHWC[part], x_BHWC[part], weights, reach, residual, kept_part, grad_x_BHWC[part], totals, fused
        )
        for total, bias in zip(biases, found, strict=True):
            if total is not None and bias is not None:
                total += bias
    grads = Weights(*(total.to(x_BHWC.dtype) for total in totals))
    return grad_x_BHWC, grads, biases[0], biases[1]


def _backward_part(
    grad_BHWC: Tensor,
    x_BHWC: Tensor,
    weights: Weights,
    reach: Reach,
    residual: bool,
    kept: Kept | None,
    grad_x_BHWC: Tensor,
    totals: Weights,
    fused: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Fill `grad_x_BHWC`, add to `totals`; returns the gradients of the biases."""
    if kept is None:
        qk_BHWE = _project(x_BHWC, weights)
        q_BHWD, k_BHWD = qk_BHWE.chunk(2, -1)
        attended_BHWC, stats = _attend(q_BHWD, k_BHWD, x_BHWC, reach, fused)
    else:
        qk_BHWE, attended_BHWC, stats = kept
        q_BHWD, k_BHWD = qk_BHWE.chunk(2, -1)
    # The lines engine needs it no more once its product with the gradient is known: its memory is used again.
    once = kept is None and not fused
    grad_attended_BHWC = attended_BHWC if once else torch.empty_like(attended_BHWC)
    flat = [x.flatten(0, 2) for x in (grad_BHWC, attended_BHWC, grad_attended_BHWC)]
    _through_value(flat[0], flat[1], flat[2], weights, totals)
    if residual:
        grad_x_BHWC.copy_(grad_BHWC)
    else:
        grad_x_BHWC.zero_()
    grad_qk_BHWE = torch.zeros_like(qk_BHWE)
    grad_q_BHWD, grad_k_BHWD = grad_qk_BHWE.chunk(2, -1)
    biases = attend_backward(
        grad_attended_BHWC,
        q_BHWD,
        k_BHWD,
        x_BHWC,
        attended_BHWC,
        stats,
        reach,
        grad_q_BHWD,
        grad_k_BHWD,
        grad_x_BHWC,
        fused,
    )
    grad_qk_PE = grad_qk_BHWE.flatten(0, 2)
    grad_x_BHWC.flatten(0, 2).addmm_(grad_qk_PE, weights.qk)
    _add_product(totals.qk, grad_qk_PE.t(), x_BHWC.flatten(0, 2))
    totals.qk_bias.add_(grad_qk_PE.sum(0, dtype=totals.qk_bias.dtype))
    return biases


def _through_value(
    grad_PC: Tensor, attended_PC: Tensor, grad_attended_PC: Tensor, weights: Weights, totals: Weights
) -> None:
    """From the output's gradient to that of what attention gave, and to the value projection's.

    `grad_attended_PC` may be the memory of `attended_PC`.
    """
    step = POSITIONS if grad_PC.device.type == "cpu" else max(1, grad_PC.shape[0])
    for start in range(0, grad_PC.shape[0], step):
        part = slice(start, start + step)
        _add_product(totals.value, grad_PC[part].t(), attended_PC[part])
        torch.mm(grad_PC[part], weights.value, out=grad_attended_PC[part])
    totals.value_bias.add_(grad_PC.sum(0, dtype=totals.value_bias.dtype))


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)


def _attend(q: Tensor, k: Tensor, v: Tensor, reach: Reach, fused: bool) -> tuple[Tensor, Tensor]:
    if not fused:
        return lines.forward(q, k, v, reach)
    from crisscross.ops import fused as kernels

    return kernels.forward(q, k, v, reach.axis)


def attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attended: Tensor,
    stats: Tensor,
    reach: Reach,
    grad_q: Tensor,
    grad_k: Tensor,
    grad_v: Tensor,
    fused: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Add to the gradients of q, k and v; returns those of the biases."""
    if not fused:
        return lines.backward(grad, q, k, v, stats, reach, grad_q, grad_k, grad_v)
    from crisscross.ops import fused as kernels

    delta = torch.linalg.vecdot(grad.to(stats.dtype), attended.to(stats.dtype))
    found_q, found_k = kernels.backward(grad, q, k, v, stats, delta, reach.axis, grad_v)
    grad_q += found_q
    grad_k += found_k
    return None, None


def _project(x: Tensor, weights: Weights) -> Tensor:
    return torch.addmm(weights.qk_bias, x.flatten(0, -2), weights.qk.t()).unflatten(0, x.shape[:-1])


def _room(x_BHWC: Tensor, weights: Weights) -> Kept:
    qk_BHWE = x_BHWC.new_empty((*x_BHWC.shape[:3], weights.qk.shape[0]))
    return Kept(qk_BHWE, torch.empty_like(x_BHWC), lines.empty_statistics(x_BHWC))
