"""Losses of single pixels, cross-entropy and focal, and their sums over all pixels in little memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from crisscross.losses.resampling import at_least_float32, resize_logits

# (logits [n, K, rows, W] of some rows of some images, their labels [n, rows, W]) -> the summed loss of these pixels.
PixelLoss = Callable[[Tensor, Tensor], Tensor]

# Bytes of logits that are processed together: what fits a processor's cache, and what keeps an accelerator busy.
BAND_BYTES, BAND_BYTES_OF_ACCELERATOR = 4 * 2**20, 64 * 2**20


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore: int = 255,
    normalizer: str = "all",
    class_weights: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Mean cross-entropy over pixels of full-size logits; training computes it from coarse ones in less memory.

    Args:
        logits: [B, K, H, W], floating point; computed in float32, in float64 where they are.
        labels: [B, H, W] integers, 0..K-1 or `ignore`.
        ignore: label value that adds nothing.
        normalizer: `all` divides by B * H * W, ignored pixels included (mmsegmentation's `avg_non_ignore=False`);
            `valid` divides by the pixels that count (the authors' code). Without any valid pixel the loss is 0.
        class_weights: [K]; each pixel's loss is multiplied by its class's weight. The normalizer counts pixels,
            not weights.
        smoothing: this fraction of every label is spread evenly over all classes (Szegedy et al. 2016), each with its
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


def sum_over_pixels(coarse: Tensor, labels: Tensor, align_corners: bool, loss: PixelLoss) -> Tensor:
    """The sum over all pixels of a loss of single pixels, from coarse logits.

    As many images as `BAND_BYTES` hold, at least one, are brought to full size together, in float32 at least, and the
    loss is called with a band of rows at a time. Gradients are computed in the forward pass and kept for the coarse
    logits alone; they equal those of the loss of all full-size logits at once.

    Args:
        coarse: logits [B, K, h, w].
        labels: [B, H, W].
        align_corners: how logits are brought to the size of the labels.
        loss: the loss of some pixels, summed to a scalar.

    Returns:
        A scalar with a gradient that can be taken once.
    """
    return _PixelLoss.apply(coarse, labels, align_corners, loss)


class _PixelLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coarse: Tensor, labels: Tensor, align_corners: bool, loss: PixelLoss) -> Tensor:
        wanted, size = ctx.needs_input_grad[0], labels.shape[-2:]
        whole = at_least_float32(coarse.detach())
        total = whole.new_zeros(())
        gradient = torch.empty_like(whole) if wanted else None
        for images in _slices(len(whole), _images_at_once(whole, size)):
            piece = whole[images].requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                logits = resize_logits(piece, size, align_corners)
            # The resize keeps only sizes for its backward: the gradient may overwrite its result, band by band.
            full = logits.detach()
            for rows in _bands(logits):
                band = full[:, :, rows].contiguous().requires_grad_(wanted)
                with torch.set_grad_enabled(wanted):
                    value = loss(band, labels[images, rows])
                total += value.detach()
                if wanted:
                    (full[:, :, rows],) = torch.autograd.grad(value, band)
            if gradient is not None:
                (gradient[images],) = torch.autograd.grad(logits, piece, full)
        ctx.dtype = coarse.dtype
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream).to(ctx.dtype), None, None, None


def _limit(tensor: Tensor) -> int:
    return BAND_BYTES if tensor.device.type == "cpu" else BAND_BYTES_OF_ACCELERATOR


def _images_at_once(coarse: Tensor, size: Sequence[int]) -> int:
    return max(1, _limit(coarse) // (coarse.shape[1] * size[0] * size[1] * coarse.element_size()))


def _bands(logits: Tensor) -> Iterator[slice]:
    """Bands of rows of images [n, K, H, W]."""
    images, channels, height, width = logits.shape
    # Multiples of a vector register, so that bands round as whole images do.
    rows = _limit(logits) // (images * channels * width * logits.element_size()) // 16 * 16
    return _slices(height, height if images > 1 else max(16, rows))


def _slices(length: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, length)) for first in range(0, length, step))
