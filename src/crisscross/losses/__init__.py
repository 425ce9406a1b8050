"""What training minimises."""

from collections.abc import Callable

import torch
from torch import Tensor

from crisscross.config import LossConfig
from crisscross.losses.cross_entropy import cross_entropy

__all__ = ["create_loss", "cross_entropy"]


def create_loss(config: LossConfig, ignore: int) -> Callable[[Tensor, Tensor | None, Tensor], Tensor]:
    """The training loss: (main logits, auxiliary logits or None, labels) -> scalar."""

    def loss(main: Tensor, aux: Tensor | None, labels: Tensor) -> Tensor:
        weights = torch.tensor(config.class_weights, device=main.device) if config.class_weights else None
        total = cross_entropy(main, labels, ignore, config.normaliser, weights)
        if aux is not None and config.aux_weight:
            total = total + config.aux_weight * cross_entropy(aux, labels, ignore, config.normaliser, weights)
        return total

    return loss
