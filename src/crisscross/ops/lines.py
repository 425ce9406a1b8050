"""The engine in plain PyTorch: a few lines (columns or rows) at a time, any device and dtype; knows no autograd.

Both branches are batched matrix products over lines, first all columns, then all rows. The column branch leaves its
own softmax and log-sum-exp behind, the row branch merges them with its own: no map of H x W x (H + W) is ever held.
A chunk of lines is as large as a processor's cache likes, so memory beyond the result stays at a few MiB.

Shape suffixes: H height, W width, D query and key channels, C value channels; N lines in a chunk, L positions in a line
(I the one that asks, J the one that answers).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Measured on AVX-512 cores with 2 MiB of second-level cache: 1 to 4 MiB differ by less than 3 %.
CHUNK_BYTES = {"cpu": 3 << 20}
CHUNK_BYTES_ELSEWHERE = 256 << 20


class Reach(NamedTuple):
    """Which positions are attended to: `axis` is `both`, `row` or `column`; biases are [W, W] and [H, H] or None."""

    axis: str
    row_bias: Tensor | None = None
    column_bias: Tensor | None = None

    def branches(self, height: int) -> tuple[bool, bool]:
        """Whether there is a column branch and a row branch; a column of one, already in its row, is none."""
        return self.axis == "column" or (self.axis == "both" and height > 1), self.axis != "column"


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Logits, softmax and log-sum-exp: float32 for half precision, so that nothing overflows or coarsens."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def forward(q_BHWD: Tensor, k_BHWD: Tensor, v_BHWC: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
    """The attended values [B, H, W, C] and the log-sum-exp of their logits [B, H, W]."""
    out_BHWC = torch.empty(v_BHWC.shape, dtype=v_BHWC.dtype, device=v_BHWC.device)
    lse_BHW = torch.empty(v_BHWC.shape[:3], dtype=statistics_dtype(v_BHWC.dtype), device=v_BHWC.device)
    for q, k, v, out, lse in zip(q_BHWD, k_BHWD, v_BHWC, out_BHWC, lse_BHW, strict=True):
        for _ in attended_rows(q, k, v, out, lse, reach, in_place=True):
            pass
    return out_BHWC, lse_BHW


def attended_rows(
    q_HWD: Tensor, k_HWD: Tensor, v_HWC: Tensor, store_HWC: Tensor, lse_HW: Tensor, reach: Reach, in_place: bool
) -> Iterator[tuple[slice, Tensor]]:
    """The attended values of one picture, some rows after the other: (which rows, [N, W, C]).

    `store_HWC` holds what the columns give until a row is due. With `in_place` it receives the result as well; without,
    the rows come in a buffer that the next step overwrites, and their place in the store is free. `lse_HW` is filled.
    """
    height = v_HWC.shape[0]
    has_columns, has_rows = reach.branches(height)
    if has_columns:
        _attend_columns(q_HWD, k_HWD, v_HWC, store_HWC, lse_HW, reach.column_bias, exclude_self=has_rows)
    step = _lines_in_a_chunk(v_HWC)
    buffer_NWC = store_HWC if in_place else torch.empty_like(store_HWC[:step])
    for rows in _chunks(height, step):
        share_NWC, lse_NW = store_HWC[rows], lse_HW[rows]
        out_NWC = share_NWC if in_place else buffer_NWC[: share_NWC.shape[0]]
        if not has_rows:
            if not in_place:
                out_NWC.copy_(share_NWC)
            yield rows, out_NWC
            continue
        weights_NIJ = _logits(q_HWD[rows], k_HWD[rows], reach.row_bias)
        top_NI = weights_NIJ.amax(-1)
        if has_columns:
            top_NI = torch.maximum(top_NI, lse_NW)
        total_NI = weights_NIJ.sub_(top_NI[..., None]).exp_().sum(-1)
        if has_columns:
            column_NI = (lse_NW - top_NI).exp_()
            total_NI += column_NI
            torch.mul(share_NWC, (column_NI / total_NI)[..., None], out=out_NWC)
        weights_NIJ = weights_NIJ.div_(total_NI[..., None]).to(v_HWC.dtype)
        if has_columns:
            out_NWC.baddbmm_(weights_NIJ, v_HWC[rows])
        else:
            torch.bmm(weights_NIJ, v_HWC[rows], out=out_NWC)
        torch.add(top_NI, total_NI.log_(), out=lse_NW)
        yield rows, out_NWC


def _attend_columns(
    q_HWD: Tensor,
    k_HWD: Tensor,
    v_HWC: Tensor,
    out_HWC: Tensor,
    lse_HW: Tensor,
    bias: Tensor | None,
    exclude_self: bool,
) -> None:
    q_WHD, k_WHD, v_WHC, out_WHC, lse_WH = (x.transpose(0, 1) for x in (q_HWD, k_HWD, v_HWC, out_HWC, lse_HW))
    step = _lines_in_a_chunk(v_WHC)
    # A product written straight into strided columns would run one line at a time.
    buffer_NHC = torch.empty(v_WHC[:step].shape, dtype=v_HWC.dtype, device=v_HWC.device)
    for lines in _chunks(v_WHC.shape[0], step):
        weights_NIJ = _logits(q_WHD[lines], k_WHD[lines], bias)
        if exclude_self:
            weights_NIJ.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        top_NI = weights_NIJ.amax(-1)
        total_NI = weights_NIJ.sub_(top_NI[..., None]).exp_().sum(-1)
        weights_NIJ = weights_NIJ.div_(total_NI[..., None]).to(v_HWC.dtype)
        out_WHC[lines] = torch.bmm(weights_NIJ, v_WHC[lines], out=buffer_NHC[: weights_NIJ.shape[0]])
        lse_WH[lines] = total_NI.log_().add_(top_NI)


def backward(
    grad_BHWC: Tensor,
    q_BHWD: Tensor,
    k_BHWD: Tensor,
    v_BHWC: Tensor,
    lse_BHW: Tensor,
    delta_BHW: Tensor,
    reach: Reach,
    grad_q_BHWD: Tensor,
    grad_k_BHWD: Tensor,
    grad_v_BHWC: Tensor,
) -> tuple[Tensor | None, Tensor | None]:
    """Add the gradients of q, k and v to those given; returns the gradients of the row and the column bias.

    `delta_BHW` is the product of `grad_BHWC` and the attended values, summed over channels.
    """
    has_columns, has_rows = reach.branches(v_BHWC.shape[1])
    grad_row_bias, grad_column_bias = (
        None if bias is None else torch.zeros_like(bias, dtype=statistics_dtype(bias.dtype))
        for bias in (reach.row_bias, reach.column_bias)
    )
    images = (grad_BHWC, q_BHWD, k_BHWD, v_BHWC, lse_BHW, delta_BHW, grad_q_BHWD, grad_k_BHWD, grad_v_BHWC)
    for image in zip(*images, strict=True):
        if has_columns:
            columns = [x.transpose(0, 1) for x in image]
            _line_gradients(columns, reach.column_bias, grad_column_bias, exclude_self=has_rows)
        if has_rows:
            _line_gradients(list(image), reach.row_bias, grad_row_bias, exclude_self=False)
    return _like(grad_row_bias, reach.row_bias), _like(grad_column_bias, reach.column_bias)


def _line_gradients(image: list[Tensor], bias: Tensor | None, grad_bias: Tensor | None, exclude_self: bool) -> None:
    """Add one branch's gradients; every tensor is [lines, positions, ...]."""
    v = image[3]
    for lines in _chunks(v.shape[0], _lines_in_a_chunk(v)):
        grad_NLC, q_NLD, k_NLD, v_NLC, lse_NL, delta_NL, grad_q_NLD, grad_k_NLD, grad_v_NLC = (x[lines] for x in image)
        weights_NIJ = _logits(q_NLD, k_NLD, bias).sub_(lse_NL[..., None]).exp_()
        if exclude_self:
            weights_NIJ.diagonal(dim1=1, dim2=2).zero_()
        slope_NIJ = torch.bmm(grad_NLC, v_NLC.transpose(1, 2)).to(weights_NIJ.dtype)
        slope_NIJ.sub_(delta_NL[..., None]).mul_(weights_NIJ)
        weights_NJI = weights_NIJ.to(v.dtype).transpose(1, 2)
        if grad_v_NLC.is_contiguous():
            grad_v_NLC.baddbmm_(weights_NJI, grad_NLC)
        else:
            grad_v_NLC += torch.bmm(weights_NJI, grad_NLC)
        grad_q_NLD += torch.bmm(slope_NIJ, k_NLD.to(slope_NIJ.dtype))
        grad_k_NLD += torch.bmm(slope_NIJ.transpose(1, 2), q_NLD.to(slope_NIJ.dtype))
        if grad_bias is not None:
            grad_bias += slope_NIJ.sum(0)


def _logits(q_NLD: Tensor, k_NLD: Tensor, bias: Tensor | None) -> Tensor:
    dtype = statistics_dtype(q_NLD.dtype)
    logits_NIJ = torch.bmm(q_NLD.to(dtype), k_NLD.to(dtype).transpose(1, 2))
    return logits_NIJ if bias is None else logits_NIJ.add_(bias)


def _lines_in_a_chunk(lines: Tensor) -> int:
    """How many of the lines [lines, positions, channels] make a chunk."""
    size = lines.shape[1] * lines.shape[2] * lines.element_size()
    return max(1, CHUNK_BYTES.get(lines.device.type, CHUNK_BYTES_ELSEWHERE) // max(1, size))


def _chunks(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _like(x: Tensor | None, other: Tensor | None) -> Tensor | None:
    return None if x is None or other is None else x.to(other.dtype)
