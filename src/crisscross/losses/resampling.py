"""Logits brought to the size of the labels, and labels to the size of features."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def resize_logits(logits: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """[B, K, h, w] -> [B, K, *size], bilinear, in a new tensor."""
    return functional.interpolate(logits, tuple(size), mode="bilinear", align_corners=align_corners)


def nearest_labels(labels: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """The label nearest to each feature: [B, H, W] -> [B, *size].

    Features lie where `resize_logits` assumes them: at the center of their part of the image or, with `align_corners`,
    on a grid from corner to corner. Half-way between two pixels the later one counts.
    """
    rows, columns = (
        _nearest(pixels, features, align_corners, labels.device)
        for pixels, features in zip(labels.shape[-2:], size, strict=True)
    )
    return labels[..., rows[:, None], columns]


def _nearest(pixels: int, features: int, align_corners: bool, device: torch.device) -> Tensor:
    number = torch.arange(features, device=device)
    if not align_corners:
        return (2 * number + 1) * pixels // (2 * features)
    gaps = max(features - 1, 1)
    return (2 * number * (pixels - 1) + gaps) // (2 * gaps)
