"""The definition: a row-or-column mask over all pairs of positions. Slow and obvious; everything else is tied to it."""

import torch
from torch import Tensor


def criss_cross_attention_reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Criss-cross attention by definition (paper, section 3.2), at the cost of a non-local block.

    Position (h, w) attends to the H + W - 1 positions of its row and its column, itself once:
    out[b, :, h, w] = sum over them of softmax(q . k) v, without a 1/sqrt(d) scale, as published.

    Args:
        q: queries [B, D, H, W], any floating dtype.
        k: keys [B, D, H, W].
        v: values [B, C, H, W].

    Returns:
        [B, C, H, W] in the dtype of `v`.
    """
    height, width = q.shape[-2:]
    position = torch.arange(height * width, device=q.device)
    row, column = position // width, position % width
    in_reach = (row[:, None] == row[None, :]) | (column[:, None] == column[None, :])
    logits = q.flatten(2).transpose(1, 2) @ k.flatten(2)
    weights = logits.masked_fill(~in_reach, -torch.inf).softmax(-1)
    return (weights @ v.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (height, width))
