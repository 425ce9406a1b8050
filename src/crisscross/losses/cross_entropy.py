"""Losses of single pixels: cross-entropy with the published normalizer, and the focal loss."""

from torch import Tensor
from torch.nn import functional

from crisscross.losses.upsampling import at_least_float32


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore: int = 255,
    normalizer: str = "all",
    class_weights: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Mean cross-entropy over pixels, the plain way: what training computes from coarse logits in less memory.

    Args:
        logits: [B, K, H, W], floating point; computed in float32, in float64 where they are.
        labels: [B, H, W] integers, 0..K-1 or `ignore`.
        ignore: label value that adds nothing.
        normalizer: `all` divides by B * H * W, ignored pixels included (mmsegmentation's `avg_non_ignore=False`);
            `valid` divides by the pixels that count (the authors' code). Without any valid pixel the loss is 0.
        class_weights: [K]; each pixel's loss is multiplied by its class's weight. The normalizer counts pixels,
            not weights.
        smoothing: this share of every label is spread evenly over all classes (Szegedy et al. 2016), each with its
            class weight.

    Raises:
        ValueError: unknown normalizer.
    """
    if normalizer not in ("all", "valid"):
        raise ValueError(f"normalizer must be 'all' or 'valid', got {normalizer!r}")
    total = summed_cross_entropy(at_least_float32(logits), labels, ignore, class_weights, smoothing)
    count = labels.numel() if normalizer == "all" else (labels != ignore).sum().clamp(min=1)
    return total / count


def summed_cross_entropy(
    logits: Tensor, labels: Tensor, ignore: int, class_weights: Tensor | None, smoothing: float
) -> Tensor:
    """`cross_entropy` before it is divided."""
    return functional.cross_entropy(
        logits, labels.long(), class_weights, ignore_index=ignore, reduction="sum", label_smoothing=smoothing
    )


def summed_focal(logits: Tensor, labels: Tensor, ignore: int, class_weights: Tensor | None, gamma: float) -> Tensor:
    """The softmax form of the focal loss (Lin et al. 2017): the sum over pixels of -w (1 - p) ** gamma log p.

    p is the probability of the true class, w its class weight. Shapes are as in `cross_entropy`.
    """
    valid = labels != ignore
    safe = labels.long().where(valid, 0)
    log_p = functional.log_softmax(logits, dim=1).gather(1, safe[:, None])[:, 0]
    # expm1 keeps 1 - p above 0 near p = 1, where a fractional power would have an infinite slope.
    loss = -((-log_p.expm1()).clamp(min=1e-12) ** gamma) * log_p
    if class_weights is not None:
        loss = loss * class_weights[safe]
    return loss.where(valid, 0).sum()
