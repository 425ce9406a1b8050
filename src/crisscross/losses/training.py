"""The training loss: a weighted sum of terms, from coarse logits."""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crisscross.config import LossConfig, import_attribute
from crisscross.config.loss import TERMS
from crisscross.errors import CrissCrossError, shown
from crisscross.losses.edges import edge_loss
from crisscross.losses.inputs import LossInputs
from crisscross.losses.processes import mean_count
from crisscross.losses.terms import cross_entropy


class Losses(NamedTuple):
    """`total` is what training minimizes; `parts` are its terms by name, weighted, without gradients: their sum."""

    total: Tensor
    parts: dict[str, Tensor]


def create_loss(config: LossConfig, ignore: int, align_corners: bool = False) -> "TrainingLoss":
    """The training loss of a configuration; see `TrainingLoss`."""
    return TrainingLoss(config, ignore, align_corners)


class TrainingLoss:
    """The loss of a network's outputs in training, with its parts.

    Args:
        config: the terms; those named `package.module:function` are imported here.
        ignore: label value that counts nowhere.
        align_corners: how coarse logits are brought to the size of the labels.

    Raises:
        CrissCrossError: a term cannot be imported.
        ValueError: `config.class_weights` is still `auto`.

    Losses of single pixels and the auxiliary head's hold the full-size logits of one image, or of a few small ones,
    at a time; terms that need whole images hold those of the whole batch.
    """

    def __init__(self, config: LossConfig, ignore: int, align_corners: bool = False) -> None:
        if config.class_weights == "auto":
            raise ValueError("class_weights 'auto' must be made numbers before a loss can be")
        self.config, self.ignore, self.align_corners = config, ignore, align_corners
        self.terms = [
            (term, import_attribute(TERMS[term.name].function if term.name in TERMS else term.name, "loss.terms"))
            for term in config.terms
            if term.weight
        ]
        self.of_classes: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def __call__(
        self,
        main: Tensor,
        aux: Tensor | None,
        labels: Tensor,
        embedding: Tensor | None = None,
        edges: Tensor | None = None,
    ) -> Losses:
        """The loss of one batch.

        Args:
            main: logits [B, K, h, w] of any size and floating-point type.
            aux: those of the auxiliary head, or None.
            labels: [B, H, W] integers, 0..K-1 or `ignore`.
            embedding: [B, D, h, w], needed by the category-consistent loss.
            edges: edge logits [B, 2, h, w], or None where the network has no edge branch.

        Raises:
            CrissCrossError: a term returned something else than scalars with gradients, or the category-consistent
                loss is asked for and `embedding` is None.
        """
        config, rule = self.config, (self.ignore, self.align_corners)
        divisor = mean_count((labels != self.ignore).sum()) if config.normalizer == "valid" else labels.numel()
        inputs = LossInputs(main, labels, *rule, divisor, config, self._class_weights(main), embedding)
        parts: dict[str, Tensor] = {}
        for term, function in self.terms:
            found = function(inputs)
            if term.name not in TERMS:
                found = {term.name.replace(":", "."): _checked(found, term.name, main.requires_grad)}
            named = found if isinstance(found, dict) else {term.name: found}
            parts |= {name: term.weight * value for name, value in named.items()}
        if aux is not None and config.aux_weight:
            parts["aux"] = cross_entropy(replace(inputs, logits=aux), config.aux_weight)
        if edges is not None:
            parts["edge"] = edge_loss(edges, labels, *rule)
        first, *others = parts.values()
        return Losses(sum(others, start=first), {name: value.detach() for name, value in parts.items()})

    def _class_weights(self, coarse: Tensor) -> Tensor | None:
        """[K] beside the logits. Brought there once: to copy from a CPU's ordinary memory is to wait."""
        key = coarse.device, torch.float64 if coarse.dtype == torch.float64 else torch.float32
        if self.config.class_weights and key not in self.of_classes:
            self.of_classes[key] = torch.tensor(self.config.class_weights, device=key[0], dtype=key[1])
        return self.of_classes.get(key)


def _checked(value: Any, name: str, trains: bool) -> Tensor:
    """The value of a term from outside.

    Raises:
        CrissCrossError: it is no scalar tensor, or has no gradient where the logits have one.
    """
    if not isinstance(value, Tensor) or value.dim():
        got = f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else shown(value)
        raise CrissCrossError(f"loss.terms: {name} must return a scalar tensor, got {got}")
    if trains and not value.requires_grad:
        raise CrissCrossError(f"loss.terms: {name} must return a tensor with a gradient, got one without")
    return value
