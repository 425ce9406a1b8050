"""Edges between classes: edge maps of label maps, and the balanced loss of an edge branch."""

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.losses.pixel_losses import sum_over_pixels, summed_cross_entropy
from crisscross.losses.processes import mean_count
from crisscross.losses.resampling import at_least_float32

# Values of edge maps, independent of the ignore value of label maps.
NO_EDGE, EDGE, IGNORE = 0, 1, 255
# Rows and columns within which a pixel of another class makes an edge, in the loss.
REACH = 2


def edge_labels(labels: Tensor, reach: int, ignore: int) -> Tensor:
    """Edges of a label map: uint8 [B, H, W] of 0 (no edge), 1 (edge) and 255 (ignored).

    A pixel is an edge where a pixel of another class lies within `reach` rows and columns of it (8 neighbors for
    1): a band of 2 * reach pixels along every border of two classes. Ignored pixels stay ignored and make no edges.

    Args:
        labels: [B, H, W] integers, 0..254 or `ignore`.
        reach: at least 1.
        ignore: label value that counts nowhere.
    """
    valid, side = labels != ignore, 2 * reach + 1
    values = labels.float()[:, None]
    # In a window of one class, the smallest label equals the largest.
    high = functional.max_pool2d(values.where(valid[:, None], -1), side, stride=1, padding=reach)[:, 0]
    low = -functional.max_pool2d((-values).where(valid[:, None], -256), side, stride=1, padding=reach)[:, 0]
    return (high != low).to(torch.uint8).where(valid, IGNORE)


def edge_loss(coarse: Tensor, labels: Tensor, ignore: int, align_corners: bool) -> Tensor:
    """Half the mean cross-entropy of edge pixels and half that of all other valid ones.

    That is CE2P's balance: weights in inverse proportion to the fractions of the two kinds in the batch, divided by the
    sum of weights. The batch is that of all processes together. A kind that is absent adds nothing.

    Args:
        coarse: edge logits [B, 2, h, w] of any size.
        labels: [B, H, W] class labels, 0..254 or `ignore`.
        ignore: label value that counts nowhere.
        align_corners: how coarse logits are brought to the size of the labels.

    Returns:
        A scalar with a gradient that can be taken once.
    """
    edges, kind = edge_labels(labels, REACH, ignore), at_least_float32(coarse.detach()).dtype
    counts = [mean_count((edges == value).sum()) for value in (NO_EDGE, EDGE)]
    balance = torch.stack([0.5 / count.to(kind) for count in counts])

    def loss(logits: Tensor, kinds: Tensor) -> Tensor:
        return summed_cross_entropy(logits, kinds, IGNORE, balance, 0.0)

    return sum_over_pixels(coarse, edges, align_corners, loss)
