"""How far attention looks: the entropy of the softmax weights, and how far away along each line they lie."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crisscross.explanation.attention import projected
from crisscross.layers import CrissCrossAttention

# The lines of a position by the dimension along which they run, counted from the end.
LINES = {"row": -1, "column": -2, "time": -3}


class Spread(NamedTuple):
    """What the weights of one pass are like, at every position of a feature map [h, w] or [T, h, w].

    Attributes:
        entropy: of the weights, divided by that of equal ones: 0 is one position, 1 is all alike.
        weight: by line (`row`, `column`, of a clip also `time`) the sum of the weights on it. The position itself
            belongs to the first of them.
        reach: by line the sum of weight times distance in cells.
    """

    entropy: np.ndarray
    weight: dict[str, np.ndarray]
    reach: dict[str, np.ndarray]


@torch.no_grad()
def spread(layer: CrissCrossAttention, x: Tensor) -> Spread:
    """What the weights are like that a layer gives the positions of the first image of its input [B, C, (T,) h, w]."""
    q, k, biases = projected(layer, x[:1])
    lines = [name for name in list(LINES)[: q.dim() - 2] if layer.axis in ("both", name)]
    logits = [_logits(q[0], k[0], LINES[name]) * (1 if layer.scale is None else layer.scale) for name in lines]
    for number, name in enumerate(lines):
        bias = biases[list(LINES).index(name)] if name != "time" else None
        if bias is not None:
            logits[number] += bias.reshape([*bias.shape[:1], *[1] * (-LINES[name] - 1), bias.shape[1]])
        if number:
            # Each line holds the position, which is attended to once.
            logits[number].masked_fill_(_offsets(q, LINES[name]) == 0, -torch.inf)
    together = torch.cat(logits, -1)
    keys = together.shape[-1] - (len(lines) - 1)
    log_weights = together.log_softmax(-1)
    weights = log_weights.exp()
    entropy = -(weights * log_weights.clamp_min(torch.finfo(log_weights.dtype).min)).sum(-1) / max(np.log(keys), 1e-12)
    parts = dict(zip(lines, weights.split([part.shape[-1] for part in logits], -1), strict=True))
    return Spread(
        entropy.cpu().numpy(),
        {name: part.sum(-1).cpu().numpy() for name, part in parts.items()},
        {name: (part * _offsets(q, LINES[name])).sum(-1).cpu().numpy() for name, part in parts.items()},
    )


def _logits(q: Tensor, k: Tensor, line: int) -> Tensor:
    """Logits [(T,) h, w, L] of every position with the L positions of its line, of q and k [D, (T,) h, w]."""
    last_q, last_k = (x.movedim(line, -1) for x in (q, k))
    products = torch.einsum("d...i,d...j->...ij", last_q, last_k)
    return products.movedim(-2, line - 1)


def _offsets(q: Tensor, line: int) -> Tensor:
    """How far each position is from those of its line, in a shape that fits `_logits`."""
    position = torch.arange(q.shape[line], device=q.device)
    away = (position[:, None] - position[None, :]).abs()
    return away.reshape([len(away), *[1] * (-line - 1), len(away)])
