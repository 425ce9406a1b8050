"""Pixel-wise cross-entropy with the published normaliser."""

from torch import Tensor
from torch.nn import functional


def cross_entropy(
    logits: Tensor, labels: Tensor, ignore: int = 255, normaliser: str = "all", class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over pixels.

    Args:
        logits: [B, K, H, W], floating point; computed in float32.
        labels: [B, H, W] integers, 0..K-1 or `ignore`.
        ignore: label value that adds nothing.
        normaliser: `all` divides by B * H * W, ignored pixels included (mmsegmentation's `avg_non_ignore=False`);
            `valid` divides by the pixels that count (the authors' code). Without any valid pixel the loss is 0.
        class_weights: [K]; each pixel's loss is multiplied by its class's weight. The normaliser counts pixels,
            not weights.

    Raises:
        ValueError: unknown normaliser.
    """
    if normaliser not in ("all", "valid"):
        raise ValueError(f"normaliser must be 'all' or 'valid', got {normaliser!r}")
    total = functional.cross_entropy(logits.float(), labels.long(), class_weights, ignore_index=ignore, reduction="sum")
    count = labels.numel() if normaliser == "all" else (labels != ignore).sum()
    return total / (max(count, 1) if isinstance(count, int) else count.clamp(min=1))
