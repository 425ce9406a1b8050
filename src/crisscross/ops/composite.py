"""Criss-cross attention as one expression of plain PyTorch operations.

It can be exported, differentiated any number of times and transformed by torch.func, because torch knows every step of
it; it stores the map of H x W x (H + W) that the other ways avoid.

Shape suffixes: B batch, H height, W width, D query and key channels, C value channels, I a position in the column
(0..H-1), J a position in the row (0..W-1).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.ops.block import Weights
from crisscross.ops.lines import Reach, statistics_dtype, without_autocast

Attention = Callable[[Tensor, Tensor, Tensor, Reach], Tensor]


def attention(q_BHWD: Tensor, k_BHWD: Tensor, v_BHWC: Tensor, reach: Reach) -> Tensor:
    """[B, H, W, C] in the dtype of v; logits and softmax of half precision are float32."""
    height = v_BHWC.shape[1]
    dtype = statistics_dtype(q_BHWD.dtype)
    with without_autocast(v_BHWC):
        q_BHWD, k_BHWD = q_BHWD.to(dtype), k_BHWD.to(dtype)
        logits = []
        if reach.axis != "row":
            column_BWHI = q_BHWD.transpose(1, 2) @ k_BHWD.permute(0, 2, 3, 1)
            if reach.column_bias is not None:
                column_BWHI = column_BWHI + reach.column_bias
            if reach.axis == "both":
                # The position itself counts once, in its row. Comparing ranges, unlike diag and eye, can be exported.
                index = torch.arange(height, device=v_BHWC.device)
                column_BWHI = column_BWHI.masked_fill(index[:, None] == index[None, :], -torch.inf)
            logits.append(column_BWHI.transpose(1, 2))
        if reach.axis != "column":
            row_BHWJ = q_BHWD @ k_BHWD.transpose(2, 3)
            logits.append(row_BHWJ if reach.row_bias is None else row_BHWJ + reach.row_bias)
        weights = torch.cat(logits, dim=-1).softmax(-1).to(v_BHWC.dtype)
        if reach.axis == "row":
            return weights @ v_BHWC
        column_BWHI = weights[..., :height].transpose(1, 2)
        out_BHWC = (column_BWHI @ v_BHWC.transpose(1, 2)).transpose(1, 2)
        return out_BHWC if reach.axis == "column" else weights[..., height:] @ v_BHWC + out_BHWC


def block(x_BHWC: Tensor, weights: Weights, reach: Reach, residual: bool, attend: Attention = attention) -> Tensor:
    """The whole layer as in block.py: x + attend(q(x), k(x), x) W + b, the first term with `residual` only."""
    q_BHWD, k_BHWD = functional.linear(x_BHWC, weights.qk, weights.qk_bias).chunk(2, -1)
    attended_BHWC = attend(q_BHWD, k_BHWD, x_BHWC, reach)
    y_BHWC = functional.linear(attended_BHWC, weights.value, weights.value_bias)
    return x_BHWC + y_BHWC if residual else y_BHWC
