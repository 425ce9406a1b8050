"""Criss-cross attention over clips as a layer: projections, gate and residual around the 3-D operator."""

from typing import Any

from torch import Tensor, nn

from crisscross.layers.attention import GatedAttention
from crisscross.ops import check_reach, criss_cross_attention_3d, criss_cross_block


class CrissCrossAttention3d(GatedAttention):
    """One pass of 3-D criss-cross attention with a gated residual (paper, 3-D CCNet): x + gamma * attention(x).

    A position attends to its row, its column and its place in the other frames. Query and key are 1 x 1 x 1
    convolutions to `channels // reduction`, the value one to `channels`, all with bias and torch's default
    initialization; the scalar gate `gamma` starts at 0, so that the layer starts as the identity. An input in
    channels-last memory format (`torch.channels_last_3d`) saves the layer two copies; the output has the input's
    format. Parameters have the names of `CrissCrossAttention`'s; its weights fit with one more dimension of 1.

    Args:
        channels: C of the input [B, C, T, H, W]; the output has the same shape.
        reduction: divides C for query and key; 8 as published.
        backend: how the attention is computed, see `crisscross.criss_cross_attention`.
        memory: what training keeps beside the input, `fast`, `lean` or `auto`; see `CrissCrossAttention`.

    Raises:
        ValueError: `channels` is smaller than `reduction`, or `backend` or `memory` is unknown.
    """

    convolution = nn.Conv3d

    def __init__(self, channels: int, reduction: int = 8, backend: str = "auto", *, memory: str = "auto") -> None:
        super().__init__(channels, reduction, backend, memory)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> the same shape, dtype and memory format."""
        if x.dim() != 5:
            raise ValueError(f"x must be [B, {self.channels}, T, H, W], got {tuple(x.shape)}")
        if not self._are_plain():
            attended = criss_cross_attention_3d(self.query(x), self.key(x), self.value(x), self.backend)
            return x + self.gamma * attended
        reach = check_reach("both", None, None, x)
        return criss_cross_block(x, self._weights(x), reach=reach, memory=self.memory, backend=self.backend)

    def extra_repr(self) -> str:
        """What `print` shows beside the projections."""
        return f"backend={self.backend!r}, memory={self.memory!r}"


class RecurrentCrissCrossAttention3d(nn.Module):
    """The same `CrissCrossAttention3d` applied `recurrence` times: three passes reach every position of the clip.

    Args:
        channels: C of the input [B, C, T, H, W].
        recurrence: R; one pass for each of time, height and width.
        reduction: divides C for query and key.
        backend: see `CrissCrossAttention3d`.
        **options: `memory` of `CrissCrossAttention3d`.

    Raises:
        ValueError: `recurrence` is below 1.
    """

    def __init__(
        self, channels: int, recurrence: int = 3, reduction: int = 8, backend: str = "auto", **options: Any
    ) -> None:
        super().__init__()
        if recurrence < 1:
            raise ValueError(f"recurrence must be at least 1, got {recurrence}")
        self.recurrence = recurrence
        self.attention = CrissCrossAttention3d(channels, reduction, backend, **options)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] -> the same shape, dtype and memory format."""
        for _ in range(self.recurrence):
            x = self.attention(x)
        return x
