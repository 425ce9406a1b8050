"""Terms of `loss.terms` that come with the package, beside those in image_losses.py.

Each is a function of `LossInputs`, as those of users are; the table is `TERMS` in `crisscross.config.loss`.
"""

from dataclasses import replace

from torch import Tensor

from crisscross.errors import CrissCrossError
from crisscross.losses.consistency import category_consistency
from crisscross.losses.inputs import LossInputs
from crisscross.losses.ohem import hard_pixels, true_probabilities
from crisscross.losses.pixel_losses import summed_cross_entropy, summed_focal
from crisscross.losses.processes import mean_count
from crisscross.losses.resampling import nearest_labels

# The paper's factor of the third part of the category-consistent loss; those of the others are 1.
REGULARIZATION = 0.001


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
    """The mean cross-entropy of hard pixels, as the authors have it."""
    found = true_probabilities(inputs.logits, inputs.labels, inputs.ignore, inputs.align_corners)
    hard = hard_pixels(found, inputs.config.ohem)
    labels = inputs.labels.where(hard, inputs.ignore)
    return cross_entropy(replace(inputs, labels=labels, divisor=mean_count(hard.sum())))


def category_consistent(inputs: LossInputs) -> dict[str, Tensor]:
    """The three parts of the category-consistent loss, with the paper's factors; see `category_consistency`.

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
    return found._replace(regularization=REGULARIZATION * found.regularization)._asdict()
