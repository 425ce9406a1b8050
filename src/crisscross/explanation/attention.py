"""What criss-cross layers attend to: rows of their attention matrices, without the matrices.

A layer's output at one position is a row of its attention matrix times the values. The row times a matrix, all that is
needed here, is the derivative of the attended values by the values: one backward pass over a map of one channel.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn

from crisscross.layers import CrissCrossAttention
from crisscross.layers.attention import relative_position_bias
from crisscross.ops.functions import attend


@dataclass(frozen=True)
class LayerAttention:
    """What one layer attends to from one cell of its feature map.

    Attributes:
        name: of the layer in the network.
        gate: gamma, what multiplies the attended values before they are added to the input; 0 switches the layer off.
        cell: (row, column), or (frame, row, column) of a clip.
        passes: for each pass the softmax weights, float32 [h, w] or [T, h, w]: 0 off the row and the column, sum 1.
        together: for r = 1 ... R what the first r passes together attend to, likewise: the row of the product of their
            matrices. The first is `passes[0]`, what the layer attends to at R = 1; two passes cover the whole map,
            three that of a clip.
        axis: `both`, or `row` or `column` where it attends along that line alone.
    """

    name: str
    gate: float
    cell: tuple[int, ...]
    passes: tuple[np.ndarray, ...]
    together: tuple[np.ndarray, ...]
    axis: str = "both"

    @property
    def cross(self) -> np.ndarray:
        """Where one pass can attend to, bool like its weights: the cell's row and column, of a clip also in time."""
        places = np.indices(self.passes[0].shape)
        same = [place == own for place, own in zip(places, self.cell, strict=True)]
        if self.axis != "both":
            return same[-2 if self.axis == "row" else -1]
        return np.sum(same, axis=0) >= len(same) - 1

    @property
    def effective(self) -> np.ndarray:
        """What all passes together attend to, the last of `together`."""
        return self.together[-1]

    @property
    def distance(self) -> float:
        """How far away, in cells, the mean weight of `effective` lies (in its own frame)."""
        rows, columns = np.indices(self.effective.shape[-2:])
        away = np.hypot(rows - self.cell[-2], columns - self.cell[-1])
        return float((self.effective * away).sum() / self.effective.sum())


def layers_of(network: nn.Module) -> dict[str, CrissCrossAttention]:
    """The criss-cross layers of a network, 2-D and 3-D, by name; a layer that is applied R times once."""
    return {name: module for name, module in network.named_modules() if isinstance(module, CrissCrossAttention)}


@contextmanager
def recorded(network: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Inside, the inputs [B, C, (T,) h, w] that criss-cross layers get, by name, one for each pass in order."""
    found: dict[str, list[Tensor]] = {}
    with ExitStack() as hooks:
        for name, layer in layers_of(network).items():
            inputs = found.setdefault(name, [])
            handle = layer.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0].detach()))
            hooks.callback(handle.remove)
        yield found


@contextmanager
def switched_off(network: nn.Module) -> Iterator[None]:
    """Inside, every gate is 0: criss-cross layers give back their input."""
    gates = [layer.gamma for layer in layers_of(network).values()]
    kept = [gate.detach().clone() for gate in gates]
    try:
        for gate in gates:
            gate.data.zero_()
        yield
    finally:
        for gate, value in zip(gates, kept, strict=True):
            gate.data.copy_(value)


def look(name: str, layer: CrissCrossAttention, inputs: Sequence[Tensor], cell: tuple[int, ...]) -> LayerAttention:
    """What a layer attends to from one cell of the first image of a batch, given the input of each of its passes."""
    with torch.inference_mode(False), torch.enable_grad():
        maps = [x[:1].clone() for x in inputs]
        start = torch.zeros(1, 1, *maps[0].shape[2:], device=maps[0].device)
        start[(0, 0, *cell)] = 1
        passes = [_times_matrix(start, layer, x) for x in maps]
        # The last pass chooses positions in the output of the one before it.
        together = [
            reduce(lambda row, x: _times_matrix(row, layer, x), reversed(maps[:last]), one)
            for last, one in enumerate(passes)
        ]
    gate = float(layer.gamma.detach())
    return LayerAttention(name, gate, cell, tuple(map(_array, passes)), tuple(map(_array, together)), layer.axis)


def _array(weights: Tensor) -> np.ndarray:
    return weights[0, 0].cpu().numpy()


def _times_matrix(vector: Tensor, layer: CrissCrossAttention, x: Tensor) -> Tensor:
    """A vector over the map [1, 1, (T,) h, w] times the attention matrix that a layer makes of x."""
    q, k, biases = projected(layer, x)
    values = torch.zeros_like(vector, requires_grad=True)
    with torch.autocast(x.device.type, enabled=False):
        attended = attend(q, k, values, "auto", layer.axis, layer.scale, *biases)
        return torch.autograd.grad(attended, values, vector)[0].detach()


@torch.no_grad()
def projected(layer: CrissCrossAttention, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Queries and keys float32 [1, D, (T,) h, w] that a layer makes of its input, and its biases [w, w] and [h, h]."""
    biases = [
        None if table is None else relative_position_bias(table, length).float()
        for table, length in ((layer.row_bias, x.shape[-1]), (layer.column_bias, x.shape[-2]))
    ]
    return layer.query(x).float(), layer.key(x).float(), biases
