"""A whole layer around the operator, x + W attention(q(x), k(x), x) + b, with as little stored as possible.

The value projection comes after the attention instead of before it: the weights of a position sum to 1, so
attention(x W') = attention(x) W', bias included, at the same cost. The input is then its own value, there is no v to
store, and gate and value projection become one matrix. Backward needs x and, to be faster, the attended values.

Shape suffixes: as in lines.py; P positions (H x W of one or more images), E the 2 D channels of q and k together.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.ops import lines, slopes
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
    """What the forward pass keeps for backward: q and k [B, H, W, 2 D], the attended values, the softmax statistics.

    `memory="lean"` keeps the statistics alone.
    """

    qk: Tensor | None
    attended: Tensor | None
    stats: Tensor

    def part(self, images: slice) -> "Kept":
        return Kept(*(None if x is None else x[images] for x in self))  # type: ignore[arg-type]


class Grads(NamedTuple):
    """Gradients of x, of the weights and of the row and column bias."""

    x: Tensor
    weights: Weights
    row_bias: Tensor | None
    column_bias: Tensor | None


class LayerFunction(NamedTuple):
    """The layer of x [B, H, W, C], forward and backward; without `residual` the first term is left out."""

    weights: Weights
    reach: Reach
    residual: bool

    def forward(self, x_BHWC: Tensor, keep: bool, fused: bool) -> tuple[Tensor, Kept]:
        """The layer's output [B, H, W, C] and what backward needs; `keep` keeps more of it, for a faster backward."""
        x_BHWC = x_BHWC.contiguous()
        if fused:
            kept = self._attend_fused(x_BHWC)
            y_BHWC = functional.linear(kept.attended, self.weights.value, self.weights.value_bias)  # type: ignore[arg-type]
            if self.residual:
                y_BHWC += x_BHWC
            return y_BHWC, kept if keep else Kept(None, None, kept.stats)
        y_BHWC, stats_BSHW = torch.empty_like(x_BHWC), lines.empty_statistics(x_BHWC)
        kept = Kept(None, None, stats_BSHW)
        if keep:
            qk_BHWE = x_BHWC.new_empty((*x_BHWC.shape[:3], self.weights.qk.shape[0]))
            kept = Kept(qk_BHWE, torch.empty_like(x_BHWC), stats_BSHW)
        for i, (x_HWC, y_HWC, stats_SHW) in enumerate(zip(x_BHWC, y_BHWC, stats_BSHW, strict=True)):
            qk_HWE = self._project(x_HWC)
            if kept.qk is not None:
                kept.qk[i] = qk_HWE
            # Unless they are kept, the partial sums of the columns lie in the output's own memory.
            store_HWC = y_HWC if kept.attended is None else kept.attended[i]
            q_HWD, k_HWD = _halves(qk_HWE)
            for rows, attended_NWC in lines.attended_rows(q_HWD, k_HWD, x_HWC, store_HWC, stats_SHW, self.reach, keep):
                self._finish(attended_NWC, x_HWC[rows], y_HWC[rows])
        return y_BHWC, kept

    def backward(self, grad_BHWC: Tensor, x_BHWC: Tensor, kept: Kept, fused: bool) -> Grads:
        """All gradients from that of the output."""
        grad_BHWC, x_BHWC = grad_BHWC.contiguous(), x_BHWC.contiguous()
        if fused:
            return self._backward_fused(grad_BHWC, x_BHWC, kept if kept.qk is not None else self._attend_fused(x_BHWC))
        dtype = lines.statistics_dtype(x_BHWC.dtype)
        weights = Weights(*(torch.zeros_like(weight, dtype=dtype) for weight in self.weights))
        grads = Grads(torch.empty_like(x_BHWC), weights, *slopes.zero_biases(self.reach, dtype))
        # One image at a time bounds the memory.
        for i in range(len(x_BHWC)):
            image = slice(i, i + 1)
            inputs = grad_BHWC[image], x_BHWC[image], kept.part(image), grads._replace(x=grads.x[image])
            if kept.qk is None:
                self._backward_lean(*inputs)
            else:
                self._backward_fast(*inputs)
        biases = slopes.cast_biases(grads[2:], self.reach)
        return Grads(grads.x, Weights(*(total.to(x_BHWC.dtype) for total in weights)), *biases)

    def _project(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.weights.qk_bias, x.flatten(0, -2), self.weights.qk.t())
        return flat.unflatten(0, x.shape[:-1])

    def _attend_fused(self, x_BHWC: Tensor) -> Kept:
        from crisscross.ops import fused

        qk_BHWE = self._project(x_BHWC)
        return Kept(qk_BHWE, *fused.forward(*_halves(qk_BHWE), x_BHWC, self.reach.axis, self.reach.frames))

    def _finish(self, attended_NWC: Tensor, x_NWC: Tensor, y_NWC: Tensor) -> None:
        """Write y = x + attended W + b."""
        if self.residual:
            torch.add(x_NWC, self.weights.value_bias, out=y_NWC)
        else:
            y_NWC.copy_(self.weights.value_bias)
        y_NWC.flatten(0, 1).addmm_(attended_NWC.flatten(0, 1), self.weights.value.t())

    def _backward_fused(self, grad_BHWC: Tensor, x_BHWC: Tensor, kept: Kept) -> Grads:
        """`_backward_fast` by the Triton kernels, all images at once."""
        from crisscross.ops import fused

        assert kept.qk is not None and kept.attended is not None
        grad_PC, attended_PC, x_PC = (x.flatten(0, 2) for x in (grad_BHWC, kept.attended, x_BHWC))
        grad_attended_BHWC = (grad_PC @ self.weights.value).view_as(x_BHWC)
        grad_x_BHWC = grad_BHWC.clone() if self.residual else torch.zeros_like(x_BHWC)
        kept_values = *_halves(kept.qk), x_BHWC, kept.attended, kept.stats
        grad_qk = fused.backward(
            grad_attended_BHWC, *kept_values, self.reach.axis, grad_x_BHWC, frames=self.reach.frames
        )
        grad_qk_PE = torch.cat(grad_qk, dim=-1).flatten(0, 2)
        grad_x_BHWC.flatten(0, 2).addmm_(grad_qk_PE, self.weights.qk)
        value, value_bias = grad_PC.t() @ attended_PC, grad_PC.sum(0)
        return Grads(grad_x_BHWC, Weights(grad_qk_PE.t() @ x_PC, grad_qk_PE.sum(0), value, value_bias), None, None)

    def _backward_fast(self, grad_BHWC: Tensor, x_BHWC: Tensor, kept: Kept, grads: Grads) -> None:
        """Through the value projection to the attended values, then through the attention."""
        assert kept.qk is not None and kept.attended is not None
        grad_PC, attended_PC, x_PC = (x.flatten(0, 2) for x in (grad_BHWC, kept.attended, x_BHWC))
        grad_attended_BHWC = torch.empty_like(x_BHWC)
        grad_attended_PC = grad_attended_BHWC.flatten(0, 2)
        for part in _parts(grad_PC):
            _add_sum(grads.weights.value_bias, grad_PC[part])
            _add_product(grads.weights.value, grad_PC[part].t(), attended_PC[part])
            torch.mm(grad_PC[part], self.weights.value, out=grad_attended_PC[part])
        if self.residual:
            grads.x.copy_(grad_BHWC)
        else:
            grads.x.zero_()
        grad_qk_BHWE = torch.zeros_like(kept.qk)
        into = slopes.Grads(*_halves(grad_qk_BHWE), grads.x, *grads[2:])
        slopes.backward(grad_attended_BHWC, *_halves(kept.qk), x_BHWC, kept.stats, self.reach, into)
        self._through_projection(grad_qk_BHWE, x_PC, grads)

    def _backward_lean(self, grad_BHWC: Tensor, x_BHWC: Tensor, kept: Kept, grads: Grads) -> None:
        """Through the attention first: its transpose turns the output's gradient into u, with u W the gradient of x.

        The values x W' that the weights' gradients need are made line by line, for the rows and again for the columns;
        in return neither the attended values nor their gradient are ever held.
        """
        qk_BHWE = self._project(x_BHWC)
        grad_qk_BHWE = torch.zeros_like(qk_BHWE)
        grads.x.zero_()
        value, added = self.weights.value, slopes.Grads(*_halves(grad_qk_BHWE), grads.x, *grads[2:])
        slopes.backward(grad_BHWC, *_halves(qk_BHWE), x_BHWC, kept.stats, self.reach, added, value)
        grad_PC, x_PC, u_PC = (x.flatten(0, 2) for x in (grad_BHWC, x_BHWC, grads.x))
        for part in _parts(grad_PC):
            _add_sum(grads.weights.value_bias, grad_PC[part])
            _add_product(grads.weights.value, u_PC[part].t(), x_PC[part])
            grad_x_NC = u_PC[part] @ value
            u_PC[part] = grad_x_NC.add_(grad_PC[part]) if self.residual else grad_x_NC
        self._through_projection(grad_qk_BHWE, x_PC, grads)

    def _through_projection(self, grad_qk_BHWE: Tensor, x_PC: Tensor, grads: Grads) -> None:
        grad_qk_PE = grad_qk_BHWE.flatten(0, 2)
        grads.x.flatten(0, 2).addmm_(grad_qk_PE, self.weights.qk)
        _add_product(grads.weights.qk, grad_qk_PE.t(), x_PC)
        _add_sum(grads.weights.qk_bias, grad_qk_PE)


def _halves(qk: Tensor) -> tuple[Tensor, Tensor]:
    """q and k out of their common projection [..., 2 D]."""
    q, k = qk.chunk(2, -1)
    return q, k


def _parts(x_PC: Tensor) -> list[slice]:
    step = POSITIONS if x_PC.device.type == "cpu" else max(1, x_PC.shape[0])
    return [slice(start, start + step) for start in range(0, x_PC.shape[0], step)]


def _add_sum(total: Tensor, x_PC: Tensor) -> None:
    total.add_(x_PC.sum(0, dtype=total.dtype))


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total.add_(a @ b)
