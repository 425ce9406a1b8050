"""Criss-cross attention as one expression of plain PyTorch operations.

As torch can look inside, it can be exported, differentiated any number of times and transformed by torch.func; it
stores the map of H x W x (H + W) that the other backends avoid.

Shape suffixes: B batch, H height, W width, D query and key channels, C value channels, I a position in the column
(0..H-1), J a position in the row (0..W-1). Before H there may be T, the frames of a clip; then S is a position in the
time line (0..T-1).
"""

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.ops.block import Weights
from crisscross.ops.lines import Reach, statistics_dtype, without_autocast


def attention(q_BHWD: Tensor, k_BHWD: Tensor, v_BHWC: Tensor, reach: Reach) -> Tensor:
    """[B, H, W, C] in the dtype of v; logits and softmax of half precision are float32.

    Clips [B, T, H, W, channels], or maps of `reach.frames` frames below each other, attend along T, too.
    """
    if v_BHWC.dim() == 4 and reach.frames > 1:
        q_BTHWD, k_BTHWD, v_BTHWC = (x.unflatten(1, (reach.frames, -1)) for x in (q_BHWD, k_BHWD, v_BHWC))
        return attention(q_BTHWD, k_BTHWD, v_BTHWC, reach).flatten(1, 2)
    height, is_clip = v_BHWC.shape[-3], v_BHWC.dim() == 5
    dtype = statistics_dtype(q_BHWD.dtype)
    with without_autocast(v_BHWC):
        q_BHWD, k_BHWD = q_BHWD.to(dtype), k_BHWD.to(dtype)
        logits = []
        if is_clip:
            q_BHWTD, k_BHWDT = q_BHWD.movedim(1, 3), k_BHWD.movedim(1, 4)
            logits.append(_without_self(q_BHWTD @ k_BHWDT).movedim(3, 1))
        if reach.axis != "row":
            column_BWHI = q_BHWD.transpose(-3, -2) @ k_BHWD.movedim(-3, -1)
            if reach.column_bias is not None:
                column_BWHI = column_BWHI + reach.column_bias
            if reach.axis == "both":
                # The position itself counts once, in its row.
                column_BWHI = _without_self(column_BWHI)
            logits.append(column_BWHI.transpose(-3, -2))
        if reach.axis != "column":
            row_BHWJ = q_BHWD @ k_BHWD.transpose(-2, -1)
            logits.append(row_BHWJ if reach.row_bias is None else row_BHWJ + reach.row_bias)
        weights = torch.cat(logits, dim=-1).softmax(-1).to(v_BHWC.dtype)
        if reach.axis == "row":
            return weights @ v_BHWC
        before = v_BHWC.shape[1] if is_clip else 0
        column_BWHI = weights[..., before : before + height].transpose(-3, -2)
        out_BHWC = (column_BWHI @ v_BHWC.transpose(-3, -2)).transpose(-3, -2)
        if reach.axis == "column":
            return out_BHWC
        out_BHWC = weights[..., before + height :] @ v_BHWC + out_BHWC
        if is_clip:
            time_BHWTS = weights[..., :before].movedim(1, 3)
            out_BHWC = (time_BHWTS @ v_BHWC.movedim(1, 3)).movedim(3, 1) + out_BHWC
        return out_BHWC


def _without_self(logits_II: Tensor) -> Tensor:
    """-inf on the diagonal of the last two dimensions. Comparing ranges, unlike diag and eye, can be exported."""
    index = torch.arange(logits_II.shape[-1], device=logits_II.device)
    return logits_II.masked_fill(index[:, None] == index[None, :], -torch.inf)


def block(x_BHWC: Tensor, weights: Weights, reach: Reach, residual: bool) -> Tensor:
    """The whole layer as in block.py: x + attention(q(x), k(x), x) W + b, the first term only with `residual`."""
    q_BHWD, k_BHWD = functional.linear(x_BHWC, weights.qk, weights.qk_bias).chunk(2, -1)
    attended_BHWC = attention(q_BHWD, k_BHWD, x_BHWC, reach)
    y_BHWC = functional.linear(attended_BHWC, weights.value, weights.value_bias)
    return x_BHWC + y_BHWC if residual else y_BHWC
