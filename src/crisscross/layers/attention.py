"""Projections, gate and residual around the criss-cross operator."""

from typing import Any

import torch
from torch import Tensor, nn

from crisscross.layers.plain_modules import is_plain
from crisscross.ops import (
    AXES,
    MEMORY,
    Weights,
    check_backend,
    check_reach,
    criss_cross_attention,
    criss_cross_block,
    without_autocast,
)


def relative_position_bias(table: Tensor, length: int) -> Tensor:
    """The [length, length] bias of a line from one value per offset.

    Args:
        table: [2 M + 1], the value for an answering position that lies -M ... M places after the asking one; offsets
            beyond M take the outermost value.
        length: positions in the line.
    """
    reach = table.shape[0] // 2
    position = torch.arange(length, device=table.device)
    offset = position[None, :] - position[:, None]
    return table[offset.clamp(-reach, reach) + reach]


class GatedAttention(nn.Module):
    """What a pass of attention over maps and one over clips share: projections, gate, and how they become matrices.

    A child names `backend` and `memory` in its own docstring and gives `forward`.
    """

    convolution: type[nn.Conv2d] | type[nn.Conv3d]

    def __init__(self, channels: int, reduction: int, backend: str, memory: str, scale: float | None = None) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        if channels < reduction:
            raise ValueError(f"channels must be at least reduction, got {channels} and {reduction}")
        check_backend(backend)
        if memory not in MEMORY:
            raise ValueError(f"memory must be one of {', '.join(MEMORY)}, got {memory!r}")
        self.channels = channels
        self.query = self.convolution(channels, channels // reduction, 1)
        self.key = self.convolution(channels, channels // reduction, 1)
        self.value = self.convolution(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.backend, self.memory, self.scale = backend, memory, scale

    def _are_plain(self) -> bool:
        """Whether the projections may be computed otherwise than by calling them."""
        projections = self.query, self.key, self.value
        return all(is_plain(layer, self.convolution) and _is_matrix(layer) for layer in projections)

    def _weights(self, x: Tensor) -> Weights:
        with without_autocast(x):
            query, query_bias = _matrix(self.query)
            key, key_bias = _matrix(self.key)
            value, value_bias = _matrix(self.value)
            if self.scale is not None:
                query, query_bias = query * self.scale, query_bias * self.scale
            # A position's weights sum to 1, so value projection and gate may come after the attention, as one.
            return Weights(
                torch.cat([query, key]), torch.cat([query_bias, key_bias]), self.gamma * value, self.gamma * value_bias
            )


def _is_matrix(projection: nn.Conv2d | nn.Conv3d) -> bool:
    """A 1 x 1 convolution with bias, as the layer made it; somebody may have put a wider one in its place."""
    simple = set(projection.kernel_size) | set(projection.stride) == {1} and set(projection.padding) == {0}
    return simple and projection.groups == 1 and projection.bias is not None


def _matrix(projection: nn.Conv2d | nn.Conv3d) -> tuple[Tensor, Tensor]:
    """Weight [out, in] and bias [out] of a 1 x 1 convolution."""
    assert projection.bias is not None
    return projection.weight.flatten(1), projection.bias


class CrissCrossAttention(GatedAttention):
    """One pass of criss-cross attention with a gated residual (paper, section 3.2): x + gamma * attention(x).

    Query and key are 1 x 1 convolutions to `channels // reduction`, the value one to `channels`, all with bias and
    torch's default initialization; the scalar gate `gamma` starts at 0, so that the layer starts as the identity.
    An input in channels-last memory format saves the layer two copies; the output has the input's format. Projections
    that were hooked, parametrised or replaced (pruning, spectral norm, LoRA) are called as modules; `memory` is without
    effect then.

    Args:
        channels: C of the input [B, C, H, W]; the output has the same shape.
        reduction: divides C for query and key; 8 as published.
        backend: how the attention is computed, see `crisscross.criss_cross_attention`.
        memory: what training keeps for the backward pass beside the input: `fast` query, key, what attention gave and
            the statistics of its softmax; `lean` the statistics alone (the rest is computed again); `auto` is
            `fast`.
        axis: `both`; `row` or `column` attend along that line alone (axial attention).
        scale: multiplies the logits; None, as published, leaves them.
        position_bias: M, the largest offset with a learned bias of its own, for rows and columns (`row_bias` and
            `column_bias`, [2 M + 1], start at 0; see `relative_position_bias`); None, as published, has none.

    Raises:
        ValueError: `channels` is smaller than `reduction`, `backend` is unknown, or `memory`, `axis` or `position_bias`
            makes no sense.
    """

    convolution = nn.Conv2d

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        backend: str = "auto",
        *,
        memory: str = "auto",
        axis: str = "both",
        scale: float | None = None,
        position_bias: int | None = None,
    ) -> None:
        super().__init__(channels, reduction, backend, memory, scale)
        if axis not in AXES:
            raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
        if position_bias is not None and position_bias < 1:
            raise ValueError(f"position_bias must be at least 1, got {position_bias}")
        self.row_bias = self.column_bias = None
        if position_bias is not None and axis != "column":
            self.row_bias = nn.Parameter(torch.zeros(2 * position_bias + 1))
        if position_bias is not None and axis != "row":
            self.column_bias = nn.Parameter(torch.zeros(2 * position_bias + 1))
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape, dtype and memory format."""
        if x.dim() != 4:
            raise ValueError(f"x must be [B, {self.channels}, H, W], got {tuple(x.shape)}")
        row_bias = None if self.row_bias is None else relative_position_bias(self.row_bias, x.shape[-1])
        column_bias = None if self.column_bias is None else relative_position_bias(self.column_bias, x.shape[-2])
        if not self._are_plain():
            # Somebody listens to a projection, or makes its weights: then it has to be called.
            attended = criss_cross_attention(
                self.query(x),
                self.key(x),
                self.value(x),
                self.backend,
                axis=self.axis,
                scale=self.scale,
                row_bias=row_bias,
                column_bias=column_bias,
            )
            return x + self.gamma * attended
        reach = check_reach(self.axis, row_bias, column_bias, x)
        return criss_cross_block(x, self._weights(x), reach=reach, memory=self.memory, backend=self.backend)

    def extra_repr(self) -> str:
        """What `print` shows beside the projections."""
        return f"backend={self.backend!r}, memory={self.memory!r}, axis={self.axis!r}, scale={self.scale}"


class RecurrentCrissCrossAttention(nn.Module):
    """The same `CrissCrossAttention` applied `recurrence` times (paper, section 3.3): two passes reach every position.

    Args:
        channels: C of the input [B, C, H, W].
        recurrence: R; 2 as published.
        reduction: divides C for query and key.
        backend: see `CrissCrossAttention`.
        **options: `memory`, `axis`, `scale` and `position_bias` of `CrissCrossAttention`.

    Raises:
        ValueError: `recurrence` is below 1.
    """

    def __init__(
        self, channels: int, recurrence: int = 2, reduction: int = 8, backend: str = "auto", **options: Any
    ) -> None:
        super().__init__()
        if recurrence < 1:
            raise ValueError(f"recurrence must be at least 1, got {recurrence}")
        self.recurrence = recurrence
        self.attention = CrissCrossAttention(channels, reduction, backend, **options)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape, dtype and memory format."""
        for _ in range(self.recurrence):
            x = self.attention(x)
        return x
