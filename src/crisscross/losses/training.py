"""The training loss: a weighted sum of terms, from coarse logits."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from crisscross.config import LossConfig
from crisscross.config.loss import CONSISTENCY, PICTURE_TERMS, PIXEL_TERMS
from crisscross.losses import ohem, pictures
from crisscross.losses.consistency import category_consistency
from crisscross.losses.cross_entropy import summed_cross_entropy, summed_focal
from crisscross.losses.edges import edge_loss
from crisscross.losses.places import PixelLoss, at_least_float32, nearest, pixel_losses, resize
from crisscross.losses.processes import mean_count


class Losses(NamedTuple):
    """`total` is what training minimises; `parts` are its terms by name, weighted, without gradients: their sum."""

    total: Tensor
    parts: dict[str, Tensor]


def create_loss(config: LossConfig, ignore: int, align_corners: bool = False) -> "TrainingLoss":
    """The training loss of a configuration; see `TrainingLoss`."""
    return TrainingLoss(config, ignore, align_corners)


class TrainingLoss:
    """Called with what a network gives in training and with labels, it tells the loss and its parts.

    Args:
        config: the terms.
        ignore: label value that counts nowhere.
        align_corners: how coarse logits are brought to the size of the labels.

    Raises:
        ValueError: `config.class_weights` is still `auto`.

    Losses of single pixels and the auxiliary head's hold the full-size logits of one picture, or of a few small ones,
    at a time; terms that need whole pictures hold those of the whole batch.
    """

    def __init__(self, config: LossConfig, ignore: int, align_corners: bool = False) -> None:
        if config.class_weights == "auto":
            raise ValueError("class_weights 'auto' must be made numbers before a loss can be")
        self.config, self.ignore, self.align_corners = config, ignore, align_corners
        weights = {term.name: term.weight for term in config.terms if term.weight}
        self.of_pixels = {name: weight for name, weight in weights.items() if name in PIXEL_TERMS}
        self.of_pictures = {name: weight for name, weight in weights.items() if name in PICTURE_TERMS}
        self.of_features = weights.get(CONSISTENCY, 0.0)
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
            ValueError: the category-consistent loss is asked for and `embedding` is None.
        """
        config = self.config
        valid = mean_count((labels != self.ignore).sum()) if config.normaliser == "valid" else labels.numel()
        total, parts = self._pixels(main, labels, self.of_pixels, valid)
        if aux is not None and config.aux_weight:
            more, of_aux = self._pixels(aux, labels, {"cross_entropy": config.aux_weight}, valid)
            total, parts["aux"] = total + more, of_aux["cross_entropy"]
        if edges is not None and config.edge_weight:
            settings = (config.edge_reach, self.ignore, self.align_corners, config.edge_weight)
            value = edge_loss(edges, labels, *settings)
            total, parts["edge"] = total + value, value.detach()
        for name, value in (self._pictures(main, labels) | self._features(embedding, labels, main.shape[1])).items():
            total, parts[name] = total + value, value.detach()
        return Losses(total, parts)

    def _pixels(
        self, coarse: Tensor, labels: Tensor, weights: dict[str, float], valid: Tensor | int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if not weights:
            return at_least_float32(coarse).new_zeros(()), {}
        own: dict[str, tuple[Tensor, Tensor | int]] = {}
        if any(name.startswith("ohem") for name in weights):
            found = ohem.true_probabilities(coarse, labels, self.ignore, self.align_corners)
            if "ohem" in weights:
                hard = ohem.hard_by_authors(found, self.config.ohem)
                own["ohem"] = labels.where(hard, self.ignore), mean_count(hard.sum())
            if "ohem_pixels" in weights:
                own["ohem_pixels"] = labels.where(ohem.hard_by_pixels(found, self.config.ohem), self.ignore), valid
        losses = [self._loss(name, weight, *own.get(name, (labels, valid)), coarse) for name, weight in weights.items()]
        total, values = pixel_losses(coarse, labels.shape[-2:], self.align_corners, losses)
        return total, dict(zip(weights, values, strict=True))

    def _loss(self, name: str, weight: float, labels: Tensor, count: Tensor | int, coarse: Tensor) -> PixelLoss:
        config, class_weights = self.config, self._class_weights(coarse)
        summed = (
            partial(summed_focal, gamma=config.focal_gamma)
            if name == "focal"
            else partial(summed_cross_entropy, smoothing=config.smoothing)
        )

        def loss(logits: Tensor, pictures: slice, rows: slice) -> Tensor:
            here = labels[pictures, rows]
            value = summed(logits, here, ignore=self.ignore, class_weights=class_weights)
            return weight * (value / count)

        return loss

    def _class_weights(self, coarse: Tensor) -> Tensor | None:
        """[K] beside the logits. Brought there once: to copy from a CPU's ordinary memory is to wait."""
        key = coarse.device, torch.float64 if coarse.dtype == torch.float64 else torch.float32
        if self.config.class_weights and key not in self.of_classes:
            self.of_classes[key] = torch.tensor(self.config.class_weights, device=key[0], dtype=key[1])
        return self.of_classes.get(key)

    def _pictures(self, coarse: Tensor, labels: Tensor) -> dict[str, Tensor]:
        if not self.of_pictures:
            return {}
        logits = resize(at_least_float32(coarse), labels.shape[-2:], self.align_corners)
        found = logits.softmax(dim=1)
        known = {"dice": pictures.dice, "lovasz": pictures.lovasz, "boundary": pictures.boundary}
        return {name: weight * known[name](found, labels, self.ignore) for name, weight in self.of_pictures.items()}

    def _features(self, embedding: Tensor | None, labels: Tensor, classes: int) -> dict[str, Tensor]:
        if not self.of_features:
            return {}
        if embedding is None:
            raise ValueError(f"{CONSISTENCY} needs an embedding: a network made with this loss gives one in training")
        config, size = self.config.consistency, embedding.shape[-2:]
        small = nearest(labels, size, self.align_corners)
        found = category_consistency(embedding, small, classes, self.ignore, config)
        weights = (config.variance, config.distance, config.regularisation)
        return {
            name: self.of_features * weight * value
            for name, weight, value in zip(found._fields, weights, found, strict=True)
        }
