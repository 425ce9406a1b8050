"""Projections, gate and residual around the criss-cross operator."""

import torch
from torch import Tensor, nn

from crisscross.ops import criss_cross_attention


class CrissCrossAttention(nn.Module):
    """One pass of criss-cross attention with a gated residual (paper, section 3.2): x + gamma * attention(x).

    Query and key are 1 x 1 convolutions to `channels // reduction`, the value one to `channels`, all with bias and
    torch's default initialisation; the scalar gate `gamma` starts at 0, so that the layer starts as the identity.

    Args:
        channels: C of the input [B, C, H, W]; the output has the same shape.
        reduction: divides C for query and key; 8 as published.
        backend: how the attention is computed, see `crisscross.ops.criss_cross_attention`.

    Raises:
        ValueError: `channels` is smaller than `reduction`.
    """

    def __init__(self, channels: int, reduction: int = 8, backend: str = "auto") -> None:
        super().__init__()
        if channels < reduction:
            raise ValueError(f"channels must be at least reduction, got {channels} and {reduction}")
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        attended = criss_cross_attention(self.query(x), self.key(x), self.value(x), self.backend)
        return x + self.gamma * attended


class RecurrentCrissCrossAttention(nn.Module):
    """The same `CrissCrossAttention` applied `recurrence` times (paper, section 3.3): two passes reach every position.

    Raises:
        ValueError: `recurrence` is below 1.
    """

    def __init__(self, channels: int, recurrence: int = 2, reduction: int = 8, backend: str = "auto") -> None:
        super().__init__()
        if recurrence < 1:
            raise ValueError(f"recurrence must be at least 1, got {recurrence}")
        self.recurrence = recurrence
        self.attention = CrissCrossAttention(channels, reduction, backend)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        for _ in range(self.recurrence):
            x = self.attention(x)
        return x
