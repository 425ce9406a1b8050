"""Online hard example mining: the choice of pixels as the authors make it, by the probability of the true class.

No gradient flows through the choice. A NaN counts as the
hardest pixel of all, so that the loss becomes NaN, too.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.config import OhemConfig
from crisscross.losses.resampling import at_least_float32, nearest_labels, resize_logits

# The authors determine their threshold on an image that is smaller by this factor.
SHRINK = 8


class TrueProbabilities(NamedTuple):
    """Probabilities of the true class: of all pixels [B, H, W] (2 where ignored) and of the valid ones of the small
    image [n]; -1 where they are NaN."""

    pixels: Tensor
    small: Tensor


@torch.no_grad()
def true_probabilities(coarse: Tensor, labels: Tensor, ignore: int, align_corners: bool) -> TrueProbabilities:
    """Probabilities of the true class, one image at a time, from logits [B, K, h, w] and labels [B, H, W]."""
    height, width = labels.shape[-2:]
    # As scipy.ndimage.zoom, which the authors call: sizes are rounded to even, corners lie on corners.
    size = max(round(height / SHRINK), 1), max(round(width / SHRINK), 1)
    pixels, small = [], []
    for logits, label in zip(coarse.split(1), labels.split(1), strict=True):
        probabilities = resize_logits(at_least_float32(logits), (height, width), align_corners).softmax(dim=1)
        pixels.append(_of_label(probabilities, label, ignore))
        shrunk = functional.interpolate(probabilities, size, mode="bilinear", align_corners=True)
        small.append(_of_label(shrunk, nearest_labels(label, size, True), ignore).flatten())
    flat = torch.cat(small)
    return TrueProbabilities(torch.cat(pixels), flat[flat <= 1])


def _of_label(probabilities: Tensor, labels: Tensor, ignore: int) -> Tensor:
    valid = labels != ignore
    found = probabilities.gather(1, labels.long().where(valid, 0)[:, None])[:, 0]
    # NaN compares false with every threshold: it would count as easy.
    return found.clamp(max=1).nan_to_num(nan=-1).where(valid, 2)


def hard_pixels(found: TrueProbabilities, config: OhemConfig) -> Tensor:
    """The hard pixels, bool [B, H, W]: p <= threshold.

    The threshold is the greater of `config.threshold` and the (keep // 64)-th smallest probability in the images
    shrunk by 8; all valid pixels count where those hold no more than keep // 64.
    """
    keep = config.keep // SHRINK**2
    threshold = found.pixels.new_full((), config.threshold)
    if keep >= found.small.numel():
        threshold = torch.ones_like(threshold)
    elif keep:
        threshold = torch.maximum(threshold, found.small.kthvalue(keep).values)
    return found.pixels <= threshold
