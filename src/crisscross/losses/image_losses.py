"""Losses of whole images: Dice, Lovasz-softmax and a boundary loss.

Each is a scalar between 0 and 1; without any valid pixel it is 0. Each of several processes computes that of its own
images.
"""

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.losses.inputs import LossInputs

# Sides of the windows of the boundary loss: for edges, and for what counts as near to one.
EDGE, NEAR = 3, 5
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


def boundary(inputs: LossInputs) -> Tensor:
    """The boundary loss of Bokhovkin and Burnaev (2019): 1 - F1 of edges, windows 3 and 5.

    An edge is what the maximum over a 3 x 3 window adds to 1 - p (to 1 - t); near it is the maximum of the edge over
    5 x 5. Precision is the fraction of found edges near true ones, recall that of true edges near found ones. The mean
    is over the classes of each image that have a true edge. Edges whose window holds an ignored pixel do not count.
    """
    truth = _one_hot(inputs)
    counts = 1 - _spread((~inputs.valid)[:, None].to(truth.dtype), EDGE)
    true_edge, found_edge = _edge(truth) * counts, _edge(inputs.probabilities) * counts
    pixels = (2, 3)
    length = true_edge.sum(pixels)
    precision = (found_edge * _spread(true_edge, NEAR)).sum(pixels) / (found_edge.sum(pixels) + TINY)
    recall = (true_edge * _spread(found_edge, NEAR)).sum(pixels) / (length + TINY)
    return _mean(1 - 2 * precision * recall / (precision + recall + TINY), length > 0)


def _spread(values: Tensor, side: int) -> Tensor:
    return functional.max_pool2d(values, side, stride=1, padding=side // 2)


def _edge(values: Tensor) -> Tensor:
    return _spread(1 - values, EDGE) - (1 - values)
