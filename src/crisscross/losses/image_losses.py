"""Losses of whole images: Dice and Lovasz-softmax.

Each is a scalar between 0 and 1; without any valid pixel it is 0. Each of several processes computes that of its own
images.
"""

import torch
from torch import Tensor

from crisscross.losses.inputs import LossInputs

TINY = 1e-7


def _one_hot(inputs: LossInputs) -> Tensor:
    """The labels as [B, K, H, W] in the type of the probabilities; 0 everywhere at ignored pixels."""
    hot = torch.zeros_like(inputs.probabilities)
    classes = inputs.labels.long().where(inputs.valid, 0)
    return hot.scatter_(1, classes[:, None], inputs.valid[:, None].to(hot.dtype))


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    """The mean of the values whose `counts` are true, 0 where none is; NaN wherever a value is NaN."""
    return (values * counts).sum() / counts.sum().clamp(min=1)


def dice(inputs: LossInputs) -> Tensor:
    """The mean over classes present in the batch of 1 - 2 sum(p t) / (sum(p p) + sum(t)) (Milletari et al. 2016).

    p is a class's probability, t 1 where it is the label; sums are over all valid pixels of the batch.
    """
    truth, found = _one_hot(inputs), inputs.probabilities * inputs.valid[:, None]
    pixels = (0, 2, 3)
    hits, size = (found * truth).sum(pixels), truth.sum(pixels)
    extent = (found * found).sum(pixels) + size
    # An absent class would divide 0 by 0 where its probability vanishes.
    return _mean(1 - 2 * hits / extent.clamp(min=TINY), size > 0)


def lovasz(inputs: LossInputs) -> Tensor:
    """Lovasz-softmax (Berman et al. 2018), over the batch, the mean over classes present in it.

    For each class: errors |t - p| in falling order, times the growth of the Jaccard loss when one pixel more is wrong.
    """
    found, truth = inputs.probabilities.permute(0, 2, 3, 1)[inputs.valid], inputs.labels[inputs.valid].long()
    present = truth.unique().tolist()
    terms = [_lovasz_of_class(found[:, number], truth == number) for number in present]
    return torch.stack(terms).mean() if terms else inputs.probabilities.sum() * 0


def _lovasz_of_class(found: Tensor, truth: Tensor) -> Tensor:
    target = truth.to(found.dtype)
    errors, order = (target - found).abs().sort(descending=True)
    with torch.no_grad():
        # Counts beyond 2 ** 24 pixels are exact in integers alone.
        hits = truth[order].long().cumsum(0)
        numbers = torch.arange(1, len(hits) + 1, device=hits.device)
        size = hits[-1]
        jaccard = 1 - (size - hits).to(found.dtype) / (size + numbers - hits).to(found.dtype)
        growth = jaccard.diff(prepend=jaccard.new_zeros(1))
    return (errors * growth).sum()
