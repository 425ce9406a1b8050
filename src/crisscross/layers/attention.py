"""The criss-cross attention layers for images and clips: projections, gate and residual around the operator."""

from typing import Any

import torch
from torch import Tensor, nn

from crisscross.layers.plain_modules import is_plain
from crisscross.ops import AXES, MEMORY, Weights, check_backend, check_reach, criss_cross_block, without_autocast
from crisscross.ops.functions import attend


def relative_position_bias(table: Tensor, length: int) -> Tensor:
    """The [length, length] bias of a line from one value per offset.

    Args:
        table: [2 M + 1], the values for keys -M ... M positions after the query; larger offsets take the outermost
            value.
        length: positions in the line.
    """
    reach = table.shape[0] // 2
    position = torch.arange(length, device=table.device)
    offset = position[None, :] - position[:, None]
    return table[offset.clamp(-reach, reach) + reach]


class CrissCrossAttention(nn.Module):
    """One pass of criss-cross attention with a gated residual (paper, section 3.2): x + gamma * attention(x).

    Query and key are 1 x 1 convolutions to `channels // reduction`, the value is one to `channels`, all with bias and
    torch's default initialization. The scalar gate `gamma` starts at 0, so that the layer starts as the identity.
    An input in channels-last memory format saves the layer two copies; the output has the input's format. Projections
    that have hooks, are parametrized or were replaced (pruning, spectral norm, LoRA) are called as modules; `memory`
    then has no effect.

    Args:
        channels: C of the input [B, C, H, W]; the output has the same shape.
        reduction: divides C for query and key; 8 as published.
        backend: how the attention is computed, see `crisscross.criss_cross_attention`.
        memory: what training keeps for the backward pass beside the input: `fast` query, key, the attended values and
            the statistics of the softmax; `lean` the statistics alone, and computes the rest again.
        axis: `both`; `row` or `column` attend along that line alone (axial attention).
        scale: multiplies the logits; None, as published, leaves them.
        position_bias: M, the largest offset with a learned bias of its own, for rows and columns (`row_bias` and
            `column_bias`, [2 M + 1], start at 0; see `relative_position_bias`); None, as published, has none.

    Raises:
        ValueError: `channels` is smaller than `reduction`, or an option has an unknown or impossible value.
    """

    convolution: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d
    # Names of the input's dimensions, for messages.
    shape = "B, {}, H, W"

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        backend: str = "auto",
        *,
        memory: str = "fast",
        axis: str = "both",
        scale: float | None = None,
        position_bias: int | None = None,
    ) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        if channels < reduction:
            raise ValueError(f"channels must be at least reduction, got {channels} and {reduction}")
        check_backend(backend)
        if memory not in MEMORY:
            raise ValueError(f"memory must be one of {', '.join(MEMORY)}, got {memory!r}")
        if axis not in AXES:
            raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
        if position_bias is not None and position_bias < 1:
            raise ValueError(f"position_bias must be at least 1, got {position_bias}")
        self.channels, self.backend, self.memory, self.axis, self.scale = channels, backend, memory, axis, scale
        self.query = self.convolution(channels, channels // reduction, 1)
        self.key = self.convolution(channels, channels // reduction, 1)
        self.value = self.convolution(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.row_bias = self.column_bias = None
        if position_bias is not None and axis != "column":
            self.row_bias = nn.Parameter(torch.zeros(2 * position_bias + 1))
        if position_bias is not None and axis != "row":
            self.column_bias = nn.Parameter(torch.zeros(2 * position_bias + 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] (or what the class says) -> the same shape, dtype and memory format."""
        if x.dim() != self.query.weight.dim():
            raise ValueError(f"x must be [{self.shape.format(self.channels)}], got {tuple(x.shape)}")
        row_bias = None if self.row_bias is None else relative_position_bias(self.row_bias, x.shape[-1])
        column_bias = None if self.column_bias is None else relative_position_bias(self.column_bias, x.shape[-2])
        if self._are_plain():
            reach = check_reach(self.axis, row_bias, column_bias, x)
            return criss_cross_block(x, self._weights(x), reach=reach, memory=self.memory, backend=self.backend)
        # Calling the projections runs their hooks and parametrizations.
        q, k, v = self.query(x), self.key(x), self.value(x)
        return x + self.gamma * attend(q, k, v, self.backend, self.axis, self.scale, row_bias, column_bias)

    def extra_repr(self) -> str:
        """What `print` shows beside the projections."""
        return f"backend={self.backend!r}, memory={self.memory!r}, axis={self.axis!r}, scale={self.scale}"

    def _are_plain(self) -> bool:
        """Whether the projections may be computed otherwise than by calling them."""
        projections = self.query, self.key, self.value
        return all(is_plain(layer, self.convolution) and _is_matrix(layer) for layer in projections)

    def _weights(self, x: Tensor) -> Weights:
        with without_autocast(x):
            (query, query_bias), (key, key_bias), (value, value_bias) = map(_matrix, (self.query, self.key, self.value))
            if self.scale is not None:
                query, query_bias = query * self.scale, query_bias * self.scale
            # A position's weights sum to 1, so value projection and gate may come after the attention, as one.
            return Weights(
                torch.cat([query, key]), torch.cat([query_bias, key_bias]), self.gamma * value, self.gamma * value_bias
            )


def _is_matrix(projection: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether it is a 1 x 1 convolution with bias, as the layer made it, and not one that replaced it."""
    simple = set(projection.kernel_size) | set(projection.stride) == {1} and set(projection.padding) == {0}
    return simple and projection.groups == 1 and projection.bias is not None


def _matrix(projection: nn.Conv2d | nn.Conv3d) -> tuple[Tensor, Tensor]:
    """Weight [out, in] and bias [out] of a 1 x 1 convolution."""
    assert projection.bias is not None
    return projection.weight.flatten(1), projection.bias


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

    layer: type[CrissCrossAttention] = CrissCrossAttention

    def __init__(
        self, channels: int, recurrence: int = 2, reduction: int = 8, backend: str = "auto", **options: Any
    ) -> None:
        super().__init__()
        if recurrence < 1:
            raise ValueError(f"recurrence must be at least 1, got {recurrence}")
        self.recurrence = recurrence
        self.attention = self.layer(channels, reduction, backend, **options)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] (or what the class says) -> the same shape, dtype and memory format."""
        for _ in range(self.recurrence):
            x = self.attention(x)
        return x


class CrissCrossAttention3d(CrissCrossAttention):
    """One pass of 3-D criss-cross attention with a gated residual (paper, 3-D CCNet): x + gamma * attention(x).

    A position attends to its row, its column and its place in the other frames. Everything else is as in
    `CrissCrossAttention`, with 1 x 1 x 1 convolutions and `torch.channels_last_3d`; parameters have the same names, and
    weights of the 2-D layer fit with one more dimension of 1.

    Args:
        channels: C of the input [B, C, T, H, W]; the output has the same shape.
        reduction: divides C for query and key; 8 as published.
        backend: see `CrissCrossAttention`.
        memory: see `CrissCrossAttention`.

    Raises:
        ValueError: `channels` is smaller than `reduction`, or `backend` or `memory` is unknown.
    """

    convolution = nn.Conv3d
    shape = "B, {}, T, H, W"

    def __init__(self, channels: int, reduction: int = 8, backend: str = "auto", *, memory: str = "fast") -> None:
        super().__init__(channels, reduction, backend, memory=memory)


class RecurrentCrissCrossAttention3d(RecurrentCrissCrossAttention):
    """The same `CrissCrossAttention3d` applied `recurrence` times: three passes reach every position of the clip.

    Args:
        channels: C of the input [B, C, T, H, W].
        recurrence: R; one pass for each of time, height and width.
        reduction: divides C for query and key.
        backend: see `CrissCrossAttention`.
        **options: `memory` of `CrissCrossAttention3d`.

    Raises:
        ValueError: `recurrence` is below 1.
    """

    layer = CrissCrossAttention3d

    def __init__(
        self, channels: int, recurrence: int = 3, reduction: int = 8, backend: str = "auto", **options: Any
    ) -> None:
        super().__init__(channels, recurrence, reduction, backend, **options)


def attention_layers(network: nn.Module) -> dict[str, CrissCrossAttention]:
    """The criss-cross layers of a network, 2-D and 3-D, by name; a layer that is applied R times once."""
    return {name: module for name, module in network.named_modules() if isinstance(module, CrissCrossAttention)}
