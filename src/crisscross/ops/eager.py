"""Criss-cross attention in plain PyTorch: batched matrix products over columns and rows, any device and dtype.

Shape suffixes: B batch, H height, W width, D query and key channels, C value channels, I a position in the column
(0..H-1), J a position in the row (0..W-1).
"""

from contextlib import nullcontext

import torch
from torch import Tensor


def why_not(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """The reason this backend cannot run on these tensors, or None: it always can."""
    return None


def criss_cross_attention_eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Same function as `criss_cross_attention_reference`, in O(HW (H + W)) time and memory.

    Half-precision inputs keep float32 logits and softmax, so that neither overflow nor a coarse exponent hurts.
    """
    q_BHWD, k_BHWD, v_BHWC = (x.permute(0, 2, 3, 1) for x in (q, k, v))
    height, width = q.shape[-2:]
    low_precision = q.dtype in (torch.float16, torch.bfloat16)
    # Meta tensors know no autocast.
    with nullcontext() if q.device.type == "meta" else torch.autocast(q.device.type, enabled=False):
        if low_precision:
            q_BHWD, k_BHWD = q_BHWD.float(), k_BHWD.float()
        q_BWHD = q_BHWD.transpose(1, 2)
        column_BWHI = q_BWHD @ k_BHWD.permute(0, 2, 3, 1)
        row_BHWJ = q_BHWD @ k_BHWD.transpose(2, 3)
        # The position itself counts once, in its row. Comparing ranges, unlike diag and eye, can be exported.
        index = torch.arange(height, device=q.device)
        column_BWHI = column_BWHI.masked_fill(index[:, None] == index[None, :], -torch.inf)
        weights = torch.cat([column_BWHI.transpose(1, 2), row_BHWJ], dim=-1).softmax(-1).to(v.dtype)
        column_BHWI, row_BHWJ = weights.split([height, width], dim=-1)
        from_column_BWHC = column_BHWI.transpose(1, 2) @ v_BHWC.transpose(1, 2)
        from_row_BHWC = row_BHWJ @ v_BHWC
        return (from_row_BHWC + from_column_BWHC.transpose(1, 2)).permute(0, 3, 1, 2)
