"""The category-consistent loss (TPAMI paper, section 3.3): features of a class together, means of classes apart."""

from typing import NamedTuple

import torch
from torch import Tensor

from crisscross.config import ConsistencyConfig
from crisscross.losses.processes import processes, sum_of_all
from crisscross.losses.resampling import at_least_float32


class Consistency(NamedTuple):
    """The three parts, scalars, not yet weighted."""

    variance: Tensor
    distance: Tensor
    regularization: Tensor


def category_consistency(
    embedding: Tensor, labels: Tensor, classes: int, ignore: int, config: ConsistencyConfig
) -> Consistency:
    """The three parts for one batch, in float32 at least.

    With C the classes present in the batch, N_c the positions of class c, mu_c the mean of its embeddings h_i, and
    distances Euclidean:

        variance       = 1/|C| sum_c 1/N_c sum_i pull(|h_i - mu_c|)
        distance       = 1/(|C| (|C| - 1)) sum_{a != b} push(|mu_a - mu_b|), 0 for a single class
        regularization = 1/|C| sum_c |mu_c|

    pull(d) is 0 up to delta_v, (d - delta_v)^2 up to delta_d, and d - delta_d + (delta_d - delta_v)^2 beyond; push(d)
    is (2 delta_d - d)^2 up to 2 delta_d, and 0 beyond. Where several processes train together, the batch is that of
    all of them: counts and sums of embeddings are summed over processes, values are each process's part, whose mean
    is the loss of the whole batch.

    Args:
        embedding: [B, D, h, w].
        labels: [B, h, w], brought to the size of the features.
        classes: number of classes K.
        ignore: label value that counts nowhere.
        config: the two distances.

    Without a valid position all parts are 0, with gradients of 0.
    """
    values = at_least_float32(embedding).permute(0, 2, 3, 1).flatten(0, 2)
    labels = labels.flatten().long()
    # Ignored positions go into a bin behind the last class.
    bins = labels.where(labels != ignore, classes)
    sums = sum_of_all(values.new_zeros(classes + 1, values.shape[1]).index_add(0, bins, values))[:classes]
    # `bincount` would make the CPU wait for the device, to learn how many bins there are.
    counts = sum_of_all(values.new_zeros(classes + 1).index_add(0, bins, values.new_ones(len(bins))))[:classes]
    present = counts > 0
    number = present.sum()
    means = sums / counts.clamp(min=1)[:, None]

    own = torch.cat([means, means.new_zeros(1, means.shape[1])]).index_select(0, bins)
    # The gradient of this norm at 0 is 0.
    pulled = _pull(torch.linalg.vector_norm(values - own, dim=1), config)
    inside = values.new_zeros(classes + 1).index_add(0, bins, pulled)[:classes] / counts.clamp(min=1)
    variance = inside.sum() / number.clamp(min=1) * processes()

    apart = torch.linalg.vector_norm(means[:, None] - means, dim=2)
    others = present[:, None] & present & ~torch.eye(classes, dtype=torch.bool, device=means.device)
    pushed = (2 * config.delta_d - apart).clamp(min=0).square().where(others, 0)
    distance = pushed.sum() / (number * (number - 1)).clamp(min=1)

    regularization = torch.linalg.vector_norm(means, dim=1).where(present, 0).sum() / number.clamp(min=1)
    return Consistency(variance, distance, regularization)


def _pull(distance: Tensor, config: ConsistencyConfig) -> Tensor:
    near = (distance - config.delta_v).clamp(min=0).square()
    far = distance - config.delta_d + (config.delta_d - config.delta_v) ** 2
    return far.where(distance > config.delta_d, near)
