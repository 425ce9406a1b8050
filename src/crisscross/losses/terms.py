"""Terms of `loss.terms` that come with the package, beside those in image_losses.py.

Each is a function of `LossInputs`, as those of users are; the table is `TERMS` in `crisscross.config.loss`.
"""

from dataclasses import replace

from torch import Tensor

from crisscross.errors import CrissCrossError
from crisscross.losses.consistency import category_consistency
from crisscross.losses.inputs import LossInputs
from crisscross.losses.ohem import hard_by_authors, hard_by_pixels, true_probabilities
from crisscross.losses.pixel_losses import summed_cross_entropy, summed_focal
from crisscross.losses.processes import mean_count
from crisscross.losses.resampling import nearest_labels


def cross_entropy(inputs: LossInputs, weight: float = 1.0) -> Tensor:
    """`weight` times the cross-entropy, with class weights and smoothing."""
    smoothing = inputs.config.smoothing

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        value = summed_cross_entropy(logits, labels, inputs.ignore, inputs.class_weights, smoothing)
        return weight * (value / inputs.divisor)

    return inputs.sum_over_pixels(loss)


def focal(inputs: LossInputs) -> Tensor:
    """The focal loss, with class weights."""
    gamma = inputs.config.focal_gamma

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return summed_focal(logits, labels, inputs.ignore, inputs.class_weights, gamma) / inputs.divisor

    return inputs.sum_over_pixels(loss)


def ohem(inputs: LossInputs) -> Tensor:
    """The mean cross-entropy of hard pixels, in the authors' form."""
    found = true_probabilities(inputs.logits, inputs.labels, inputs.ignore, inputs.align_corners)
    hard = hard_by_authors(found, inputs.config.ohem)
    return cross_entropy(replace(_only(inputs, hard), divisor=mean_count(hard.sum())))


def ohem_pixels(inputs: LossInputs) -> Tensor:
    """The cross-entropy of hard pixels, in MMSegmentation's form: divided as if all pixels counted."""
    found = true_probabilities(inputs.logits, inputs.labels, inputs.ignore, inputs.align_corners)
    return cross_entropy(_only(inputs, hard_by_pixels(found, inputs.config.ohem)))


def _only(inputs: LossInputs, hard: Tensor) -> LossInputs:
    """The inputs with all pixels ignored but those where `hard`, bool [B, H, W]."""
    return replace(inputs, labels=inputs.labels.where(hard, inputs.ignore))


def category_consistent(inputs: LossInputs) -> dict[str, Tensor]:
    """The three parts of the category-consistent loss, each with its factor; see `category_consistency`.

    Raises:
        CrissCrossError: the network gives no embedding.
    """
    if inputs.embedding is None:
        raise CrissCrossError(
            "loss.terms: category_consistent needs an embedding, and this network's head gives none; leave the term "
            "out, or use a head that returns one (model.head.name=ccnet and ce2p do)"
        )
    config, size = inputs.config.consistency, inputs.embedding.shape[-2:]
    small = nearest_labels(inputs.labels, size, inputs.align_corners)
    found = category_consistency(inputs.embedding, small, inputs.logits.shape[1], inputs.ignore, config)
    factors = (config.variance, config.distance, config.regularization)
    return {name: factor * value for name, factor, value in zip(found._fields, factors, found, strict=True)}
