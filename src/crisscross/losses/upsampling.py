"""Where things lie: logits at image size, labels at feature size, sums over pixels in little memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# (logits [n, K, rows, W] of some rows of some images, their labels [n, rows, W]) -> the summed loss of these pixels.
PixelLoss = Callable[[Tensor, Tensor], Tensor]

# Bytes of logits that are worked on at once: what a processor's cache holds, and what keeps an accelerator busy.
BAND_BYTES, BAND_BYTES_OF_ACCELERATOR = 4 * 2**20, 64 * 2**20


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision widened; float32 and float64 as they are."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def resize(logits: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """[B, K, h, w] -> [B, K, *size], bilinear, in a tensor of its own."""
    return functional.interpolate(logits, tuple(size), mode="bilinear", align_corners=align_corners)


def nearest(labels: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """The label at each feature's place: [B, H, W] -> [B, *size].

    A feature lies where `resize` takes it to lie: at the center of its share of the image, or, with `align_corners`,
    on a grid from corner to corner. Half-way between two pixels the later one counts.
    """
    rows, columns = (
        _places(pixels, features, align_corners, labels.device)
        for pixels, features in zip(labels.shape[-2:], size, strict=True)
    )
    return labels[..., rows[:, None], columns]


def _places(pixels: int, features: int, align_corners: bool, device: torch.device) -> Tensor:
    number = torch.arange(features, device=device)
    if not align_corners:
        return (2 * number + 1) * pixels // (2 * features)
    gaps = max(features - 1, 1)
    return (2 * number * (pixels - 1) + gaps) // (2 * gaps)


def pixel_loss(coarse: Tensor, labels: Tensor, align_corners: bool, loss: PixelLoss) -> Tensor:
    """The sum over all pixels of a loss of single pixels, from coarse logits.

    The logits of as many images as `BAND_BYTES` hold, at least one, are brought to image size at a time, in float32
    at least, and the loss sees a band of a large image's rows at a time; gradients are taken on the spot and kept
    for the coarse logits alone. Those are the gradients of the plain way.

    Args:
        coarse: logits [B, K, h, w].
        labels: [B, H, W].
        align_corners: how logits are brought to the size of the labels.
        loss: what to sum; it gives a scalar.

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
        for images in _steps(len(whole), _fitting(whole, size)):
            piece = whole[images].requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                logits = resize(piece, size, align_corners)
            # The resize keeps only sizes for its backward: its result makes room for its own gradient, band by band.
            room = logits.detach()
            for rows in _bands(logits):
                band = room[:, :, rows].contiguous().requires_grad_(wanted)
                with torch.set_grad_enabled(wanted):
                    value = loss(band, labels[images, rows])
                total += value.detach()
                if wanted:
                    (room[:, :, rows],) = torch.autograd.grad(value, band)
            if gradient is not None:
                (gradient[images],) = torch.autograd.grad(logits, piece, room)
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


def _fitting(coarse: Tensor, size: Sequence[int]) -> int:
    """How many images are worked on at once."""
    return max(1, _limit(coarse) // (coarse.shape[1] * size[0] * size[1] * coarse.element_size()))


def _bands(logits: Tensor) -> Iterator[slice]:
    """Rows of so many images at once."""
    images, channels, height, width = logits.shape
    # Whole vectors of a processor, so that bands round as the whole does.
    rows = _limit(logits) // (images * channels * width * logits.element_size()) // 16 * 16
    return _steps(height, height if images > 1 else max(16, rows))


def _steps(length: int, step: int) -> Iterator[slice]:
    return (slice(first, min(first + step, length)) for first in range(0, length, step))
