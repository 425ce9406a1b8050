"""A backend of your own: torch's scaled_dot_product_attention under a mask, in the operators and in the layers.

python examples/own_backend.py
"""

import torch
from torch import Tensor
from torch.nn import functional

import crisscross
from crisscross.ops import BACKENDS, Backend, Reach


def why_not(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> str | None:
    """Why it cannot run on such tensors; None where it can."""
    if reach.row_bias is not None or reach.column_bias is not None:
        return "its mask knows no position bias"
    return None


def in_reach(reach: Reach, v: Tensor) -> Tensor:
    """Which of all positions each one attends to: a boolean [positions, positions]."""
    height, width = v.shape[-2:]
    index = torch.arange(reach.frames * height * width, device=v.device)
    frame, row, column = index // (height * width), index // width % height, index % width
    same_frame, same_row, same_column = (x[:, None] == x for x in (frame, row, column))
    if reach.axis != "both":
        return same_row if reach.axis == "row" else same_column
    # Two of three coordinates are the same.
    return (same_frame & same_row) | (same_frame & same_column) | (same_row & same_column)


def attention(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
    """[B, channels, H, W], or [B, channels, T, H, W] for clips, to the shape of v."""
    mask = in_reach(reach, v)
    # Positions stand before channels there, and there is one head.
    q_B1PD, k_B1PD, v_B1PC = (x.flatten(2).transpose(1, 2)[:, None] for x in (q, k, v))
    out_B1PC = functional.scaled_dot_product_attention(q_B1PD, k_B1PD, v_B1PC, attn_mask=mask, scale=1.0)
    return out_B1PC[:, 0].transpose(1, 2).unflatten(2, v.shape[2:])


BACKENDS["masked_sdpa"] = Backend(why_not, attention)

if __name__ == "__main__":
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 8, 12, 16), torch.randn(2, 8, 12, 16), torch.randn(2, 64, 12, 16)
    apart = crisscross.criss_cross_attention(q, k, v, "masked_sdpa") - crisscross.criss_cross_attention(q, k, v)
    print("operator: agrees with the built-in ones:", bool(apart.abs().max() < 1e-5))
    for kind, size in ((crisscross.CrissCrossAttention, (12, 16)), (crisscross.CrissCrossAttention3d, (3, 6, 8))):
        layer, x = kind(64, backend="masked_sdpa"), torch.randn(2, 64, *size)
        torch.nn.init.ones_(layer.gamma)
        found = layer(x)
        layer.backend = "auto"
        print(f"{kind.__name__}: agrees with the built-in ones:", torch.allclose(found, layer(x), atol=1e-4))
