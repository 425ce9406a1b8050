"""The engine in plain PyTorch: a few lines (columns or rows) at a time, any device and dtype; knows no autograd.

Both branches are batched matrix products over lines, first all columns, then all rows. The column branch leaves its
own softmax and statistics behind, the row branch merges them with its own: no map of H x W x (H + W) is ever held.
A chunk of lines is as large as a processor's cache likes, so forward takes a few MiB beyond the result; backward holds
one number for every logit of the columns, [W, H, H].

A softmax is remembered by its statistics [B, 2, H, W], the largest logit and the sum of exponentials relative to it:
their log-sum-exp in one number would lose the last digits of every weight computed from it.

Shape suffixes: S the two statistics; H height, W width, D query and key channels, C value channels; N lines in a chunk,
L positions in a line (I the one that asks, J the one that answers).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

# Measured on AVX-512 cores with 2 MiB of second-level cache: 1 to 4 MiB differ by less than 3 %.
CHUNK_BYTES = {"cpu": 7 << 19}
CHUNK_BYTES_ELSEWHERE = 256 << 20


class Reach(NamedTuple):
    """Which positions are attended to: `axis` is `both`, `row` or `column`; biases are [W, W] and [H, H] or None."""

    axis: str
    row_bias: Tensor | None = None
    column_bias: Tensor | None = None

    def branches(self, height: int) -> tuple[bool, bool]:
        """Whether there is a column branch and a row branch; a column of one, already in its row, is none."""
        return self.axis == "column" or (self.axis == "both" and height > 1), self.axis != "column"


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Inside, autocast changes no dtype: they were settled before."""
    # Meta tensors know no autocast.
    device = tensor.device.type
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Logits, softmax and log-sum-exp: float32 for half precision, so that nothing overflows or coarsens."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def forward(q_BHWD: Tensor, k_BHWD: Tensor, v_BHWC: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
    """The attended values [B, H, W, C] and the statistics of their logits [B, 2, H, W]."""
    out_BHWC = torch.empty(v_BHWC.shape, dtype=v_BHWC.dtype, device=v_BHWC.device)
    stats_BSHW = empty_statistics(v_BHWC)
    for q, k, v, out, stats in zip(q_BHWD, k_BHWD, v_BHWC, out_BHWC, stats_BSHW, strict=True):
        for _ in attended_rows(q, k, v, out, stats, reach, in_place=True):
            pass
    return out_BHWC, stats_BSHW


def empty_statistics(v_BHWC: Tensor) -> Tensor:
    """Room for the statistics."""
    batch, height, width, _ = v_BHWC.shape
    return v_BHWC.new_empty((batch, 2, height, width), dtype=statistics_dtype(v_BHWC.dtype))


def attended_rows(
    q_HWD: Tensor, k_HWD: Tensor, v_HWC: Tensor, store_HWC: Tensor, stats_SHW: Tensor, reach: Reach, in_place: bool
) -> Iterator[tuple[slice, Tensor]]:
    """The attended values of one picture, some rows after the other: (which rows, [N, W, C]).

    `store_HWC` holds what the columns give until a row is due. With `in_place` it receives the result as well; without,
    the rows come in a buffer that the next step overwrites, and their place in the store is free. `stats_SHW`
    is filled.
    """
    height, width = v_HWC.shape[:2]
    has_columns, has_rows = reach.branches(height)
    if height == 0 or width == 0:
        return
    if has_columns:
        _attend_columns(q_HWD, k_HWD, v_HWC, store_HWC, stats_SHW, reach.column_bias, exclude_self=has_rows)
    step = _lines_in_a_chunk(v_HWC)
    buffer_NWC = store_HWC if in_place else torch.empty_like(store_HWC[:step])
    for rows in _chunks(height, step):
        share_NWC, (top_NW, total_NW) = store_HWC[rows], stats_SHW[:, rows]
        out_NWC = share_NWC if in_place else buffer_NWC[: share_NWC.shape[0]]
        if has_rows:
            logits_NIJ = _logits(q_HWD[rows], k_HWD[rows], reach.row_bias)
            top_NI = torch.maximum(logits_NIJ.amax(-1), top_NW) if has_columns else logits_NIJ.amax(-1)
            weights_NIJ = logits_NIJ.sub_(top_NI[..., None]).exp_()
            total_NI = weights_NIJ.sum(-1)
            if has_columns:
                # The columns' share is normalised by their own sum; here it meets the rows'.
                column_NI = (top_NW - top_NI).exp_().mul_(total_NW)
                total_NI += column_NI
                torch.mul(share_NWC, (column_NI / total_NI)[..., None], out=out_NWC)
            weights_NIJ = weights_NIJ.div_(total_NI[..., None]).to(v_HWC.dtype)
            if has_columns:
                out_NWC.baddbmm_(weights_NIJ, v_HWC[rows])
            else:
                torch.bmm(weights_NIJ, v_HWC[rows], out=out_NWC)
            top_NW.copy_(top_NI)
            total_NW.copy_(total_NI)
        elif not in_place:
            out_NWC.copy_(share_NWC)
        yield rows, out_NWC


def _attend_columns(
    q_HWD: Tensor,
    k_HWD: Tensor,
    v_HWC: Tensor,
    out_HWC: Tensor,
    stats_SHW: Tensor,
    bias: Tensor | None,
    exclude_self: bool,
) -> None:
    q_WHD, k_WHD, v_WHC, out_WHC = (x.transpose(0, 1) for x in (q_HWD, k_HWD, v_HWC, out_HWC))
    top_WH, total_WH = stats_SHW.transpose(1, 2)
    step = _lines_in_a_chunk(v_WHC)
    # A product written straight into strided columns would run one line at a time.
    buffer_NHC = torch.empty(v_WHC[:step].shape, dtype=v_HWC.dtype, device=v_HWC.device)
    for lines in _chunks(v_WHC.shape[0], step):
        logits_NIJ = _logits(q_WHD[lines], k_WHD[lines], bias)
        if exclude_self:
            logits_NIJ.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        top_NI = logits_NIJ.amax(-1)
        if exclude_self:
            # A bias of -inf may leave a column nobody; then it weighs nothing beside the row.
            top_NI.clamp_min_(torch.finfo(top_NI.dtype).min)
        weights_NIJ = logits_NIJ.sub_(top_NI[..., None]).exp_()
        total_NI = weights_NIJ.sum(-1)
        safe_NI = total_NI.clamp_min(torch.finfo(total_NI.dtype).tiny) if exclude_self else total_NI
        weights_NIJ = weights_NIJ.div_(safe_NI[..., None]).to(v_HWC.dtype)
        out_WHC[lines] = torch.bmm(weights_NIJ, v_WHC[lines], out=buffer_NHC[: weights_NIJ.shape[0]])
        top_WH[lines], total_WH[lines] = top_NI, total_NI


def backward(
    grad_BHWC: Tensor,
    q_BHWD: Tensor,
    k_BHWD: Tensor,
    v_BHWC: Tensor,
    stats_BSHW: Tensor,
    reach: Reach,
    grad_q_BHWD: Tensor,
    grad_k_BHWD: Tensor,
    grad_v_BHWC: Tensor,
    project: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Add the gradients of q, k and v to those given; returns the gradients of the row and the column bias.

    With a matrix `project` [C', C] the values are v project^T, made line by line; the gradient of v is then short of a
    product with it.

    The slope of a softmax needs the mean gain of all its positions. A row knows its own and has that of the columns
    from before; the columns' gains [W, H, H] wait for it. (The mean gain is also the product of gradient and attended
    values, without any waiting, but rounded differently, which costs peaked attention its small gradients.)
    """
    has_columns, has_rows = reach.branches(v_BHWC.shape[1])
    grad_row_bias, grad_column_bias = (
        None if bias is None else torch.zeros_like(bias, dtype=stats_BSHW.dtype)
        for bias in (reach.row_bias, reach.column_bias)
    )
    mean_HW = stats_BSHW.new_empty(stats_BSHW.shape[2:])
    for i in range(v_BHWC.shape[0] if v_BHWC.numel() else 0):
        given = [grad_BHWC[i], q_BHWD[i], k_BHWD[i], v_BHWC[i], *stats_BSHW[i]]
        grads = [grad_q_BHWD[i], grad_k_BHWD[i], grad_v_BHWC[i]]
        rows = _Branch(given, grads, mean_HW.zero_(), reach.row_bias, grad_row_bias, False, project)
        columns = _Branch(given, grads, mean_HW, reach.column_bias, grad_column_bias, has_rows, project).turned()
        gains_WHH = columns.gains() if has_columns else None
        if has_rows:
            rows.differentiate(None)
        if gains_WHH is not None:
            columns.differentiate(gains_WHH)
    return _like(grad_row_bias, reach.row_bias), _like(grad_column_bias, reach.column_bias)


class _Branch(NamedTuple):
    """The rows of a picture, or its columns: every tensor but the biases is [lines, positions, ...].

    `given` are the output's gradient, q, k, v, largest logits and sums of exponentials; `grads` those of q, k and v;
    `mean` [lines, positions] collects the mean gain. Values are v, or v times the transpose of `project`.
    """

    given: list[Tensor]
    grads: list[Tensor]
    mean: Tensor
    bias: Tensor | None
    grad_bias: Tensor | None
    exclude_self: bool
    project: Tensor | None

    def turned(self) -> "_Branch":
        given, grads = ([x.transpose(0, 1) for x in tensors] for tensors in (self.given, self.grads))
        return self._replace(given=given, grads=grads, mean=self.mean.t())

    def chunks(self) -> Iterator[slice]:
        v = self.given[3]
        return _chunks(v.shape[0], _lines_in_a_chunk(v))

    def gains(self) -> Tensor:
        """The gains [lines, I, J] of all lines; their mean is added up."""
        count, length = self.mean.shape
        gains_GIJ = self.mean.new_empty((count, length, length))
        for lines in self.chunks():
            gains_NIJ = self.gains_of(lines)
            self.mean[lines] += (self.weights(lines) * gains_NIJ).sum(-1)
            gains_GIJ[lines] = gains_NIJ
        return gains_GIJ

    def differentiate(self, gains_GIJ: Tensor | None) -> None:
        """Add this branch's gradients. Without gains they are computed, and with them the mean is complete."""
        for lines in self.chunks():
            weights_NIJ = self.weights(lines)
            if gains_GIJ is None:
                slope_NIJ = self.gains_of(lines)
                self.mean[lines] += (weights_NIJ * slope_NIJ).sum(-1)
            else:
                slope_NIJ = gains_GIJ[lines]
            slope_NIJ.sub_(self.mean[lines][..., None]).mul_(weights_NIJ)
            grad_NLC, q_NLD, k_NLD = (x[lines] for x in self.given[:3])
            grad_q_NLD, grad_k_NLD, grad_v_NLC = (x[lines] for x in self.grads)
            weights_NJI = weights_NIJ.to(grad_NLC.dtype).transpose(1, 2)
            if grad_v_NLC.is_contiguous():
                grad_v_NLC.baddbmm_(weights_NJI, grad_NLC)
            else:
                grad_v_NLC += torch.bmm(weights_NJI, grad_NLC)
            grad_q_NLD += torch.bmm(slope_NIJ, k_NLD.to(slope_NIJ.dtype))
            grad_k_NLD += torch.bmm(slope_NIJ.transpose(1, 2), q_NLD.to(slope_NIJ.dtype))
            if self.grad_bias is not None:
                self.grad_bias.add_(slope_NIJ.sum(0))

    def weights(self, lines: slice) -> Tensor:
        """Attention's weights [N, I, J]."""
        q_NLD, k_NLD, top_NL, total_NL = (self.given[i][lines] for i in (1, 2, 4, 5))
        weights_NIJ = _logits(q_NLD, k_NLD, self.bias).sub_(top_NL[..., None]).exp_().div_(total_NL[..., None])
        if self.exclude_self:
            weights_NIJ.diagonal(dim1=1, dim2=2).zero_()
        return weights_NIJ

    def gains_of(self, lines: slice) -> Tensor:
        """What the loss gains with every weight [N, I, J]."""
        grad_NLC, v_NLC = self.given[0][lines], self.given[3][lines]
        if self.project is not None:
            v_NLC = (v_NLC.flatten(0, 1) @ self.project.t()).unflatten(0, v_NLC.shape[:2])
        return torch.bmm(grad_NLC, v_NLC.transpose(1, 2)).to(self.mean.dtype)


def _logits(q_NLD: Tensor, k_NLD: Tensor, bias: Tensor | None) -> Tensor:
    dtype = statistics_dtype(q_NLD.dtype)
    logits_NIJ = torch.bmm(q_NLD.to(dtype), k_NLD.to(dtype).transpose(1, 2))
    return logits_NIJ if bias is None else logits_NIJ.add_(bias)


def _lines_in_a_chunk(lines: Tensor) -> int:
    """How many of the lines [lines, positions, channels] make a chunk; chunks are as equal as can be."""
    # Its values and its logits.
    size = lines.shape[1] * (lines.shape[1] + lines.shape[2]) * lines.element_size()
    most = max(1, CHUNK_BYTES.get(lines.device.type, CHUNK_BYTES_ELSEWHERE) // max(1, size))
    chunks = max(1, -(-lines.shape[0] // most))
    return -(-lines.shape[0] // chunks)


def _chunks(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _like(x: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if x is None or other is None else x.to(other.dtype)
