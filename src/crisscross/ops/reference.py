"""The definition: a row-or-column mask over all pairs of positions, slow and obvious, to test the others by."""

import torch
from torch import Tensor


def criss_cross_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    axis: str = "both",
    row_bias: Tensor | None = None,
    column_bias: Tensor | None = None,
) -> Tensor:
    """Criss-cross attention by definition (paper, section 3.2), at the cost of a non-local block.

    Position (h, w) attends to the H + W - 1 positions of its row and its column, itself once:
    out[b, :, h, w] = sum over them of softmax(q . k) v, without a 1/sqrt(d) scale, as published.

    Args:
        q: queries [B, D, H, W], any floating dtype.
        k: keys [B, D, H, W].
        v: values [B, C, H, W].
        axis: `both`, or `row` or `column` for that line alone.
        row_bias: [W, W], added to the logit of a position with column w for one in its row with column j at [w, j].
        column_bias: [H, H] likewise; the position itself belongs to its row unless `axis` is `column`.

    Returns:
        [B, C, H, W] in the dtype of `v`.
    """
    height, width = q.shape[-2:]
    position = torch.arange(height * width, device=q.device)
    row, column = position // width, position % width
    same_row, same_column = row[:, None] == row[None, :], column[:, None] == column[None, :]
    in_reach = {"both": same_row | same_column, "row": same_row, "column": same_column}[axis]
    logits = q.flatten(2).transpose(1, 2) @ k.flatten(2)
    if row_bias is not None and axis != "column":
        logits = logits + row_bias[column[:, None], column[None, :]].where(same_row, 0)
    if column_bias is not None and axis != "row":
        other = same_column if axis == "column" else same_column & ~same_row
        logits = logits + column_bias[row[:, None], row[None, :]].where(other, 0)
    weights = logits.masked_fill(~in_reach, -torch.inf).softmax(-1)
    return (weights @ v.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (height, width))


def criss_cross_attention_3d_reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Criss-cross attention over clips by definition, at the cost of attention over all pairs of positions.

    Position (t, h, w) attends to the positions that share two of its three coordinates: the T + H + W - 2 of its time
    line, its column and its row, itself once.

    Args:
        q: queries [B, D, T, H, W], any floating dtype.
        k: keys [B, D, T, H, W].
        v: values [B, C, T, H, W].

    Returns:
        [B, C, T, H, W] in the dtype of `v`.
    """
    frames, height, width = q.shape[-3:]
    position = torch.arange(frames * height * width, device=q.device)
    coordinates = position // (height * width), position // width % height, position % width
    same_frame, same_row, same_column = (x[:, None] == x[None, :] for x in coordinates)
    in_reach = (same_frame & same_row) | (same_frame & same_column) | (same_row & same_column)
    logits = q.flatten(2).transpose(1, 2) @ k.flatten(2)
    weights = logits.masked_fill(~in_reach, -torch.inf).softmax(-1)
    return (weights @ v.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (frames, height, width))
