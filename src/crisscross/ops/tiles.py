"""Tile sizes of the Triton kernels in kernels.py.

Shape suffixes: B batch, H height, W width, D query and key channels, C value channels.
"""

from typing import Any

import torch
from torch import Tensor

MAX_INNER = 256


def power_of_two(size: int, low: int, high: int) -> int:
    """The smallest power of two that is at least `size`, between two limits. `tl.dot` takes 16 and more."""
    return min(max(1 << (size - 1).bit_length(), low), high)


def sizes(q_BHWD: Tensor, v_BHWC: Tensor, columns: bool, for_logits: bool, chip: int) -> dict[str, Any]:
    """Tile sizes for a kernel, by dtype, channels, length of the lines and chip; nothing is tuned at run time.

    `chip` is the compute capability's whole part, `for_logits` means `logits_line`.

    With the published channels (64 and 512) shared memory stays below 99 KiB, which all have.
    """
    full = q_BHWD.dtype == torch.float32
    # Follows torch.backends.cuda.matmul.allow_tf32 too, and unlike that it may always be read.
    exact = full and torch.backends.cuda.matmul.fp32_precision != "tf32"
    inner, channels = q_BHWD.shape[-1], v_BHWC.shape[-1]
    # Compute capabilities 9.0 and 10.0 multiply by groups of four warps, out of shared memory. The others keep their
    # operands in registers and need more warps to share them, and those with 99 KiB narrower tiles of wide keys.
    by_groups, narrow = chip in (9, 10), inner <= 64
    # Measured on an H200, where these beat smaller ones by 10 to 40 %.
    roomy = chip == 9 and narrow
    if for_logits:
        # `logits_line` holds two tiles of channels, and a product as wide as the line.
        longest = 32 if (full and not roomy) or (inner > 128 and not by_groups) else 64
        most_channels = 32 if full and (narrow or not exact) else 64
    else:
        longest, most_channels = (32, 128 if roomy else 64) if full else (64, 256 if roomy else 128)
    # Three TF32 products in place of a float32 one are exact to 22 bits, and run on tensor cores. Wide keys leave no
    # registers for their parts.
    precision = "ieee" if not full or (exact and not narrow) else "tf32x3" if exact else "tf32"
    stages = 3 if for_logits and roomy and not full else 2
    block = power_of_two(v_BHWC.shape[1 if columns else 2], 16, longest)
    return {
        "D": inner,
        "C": channels,
        "BLOCK": block,
        "BLOCK_D": power_of_two(inner, 16, MAX_INNER),
        "BLOCK_C": power_of_two(channels, 16, most_channels),
        "PRECISION": precision,
        "num_warps": (4 if full else block // 16) * (1 if narrow and (full or by_groups) else 2),
        # Wide keys fill shared memory without a second stage; float32 products of theirs fill registers.
        "num_stages": 1 if inner > 128 or (precision == "ieee" and full and for_logits) else stages,
        # The default differs among versions of Triton.
        "enable_fp_fusion": True,
    }


def smaller(tiles: dict[str, Any]) -> dict[str, Any] | None:
    """Tiles that take less shared memory, None if there are none."""
    if tiles["num_stages"] > 1:
        return tiles | {"num_stages": 1}
    size = "BLOCK_C" if tiles["BLOCK_C"] >= tiles["BLOCK"] else "BLOCK"
    return tiles | {size: tiles[size] // 2} if tiles[size] > 16 else None
