"""What every image meets before the network, in training and in use."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.config import PreprocessConfig
from crisscross.data.samples.opencv_resize import resize


def fit_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image resized to fit `scale`, keeping its shape (the published rule).

    factor = min(max(scale) / long side, min(scale) / short side); each side is int(side * factor + 0.5).
    """
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def resize_to_scale(image: Tensor, scale: tuple[int, int] | None, rule: str = "opencv") -> Tensor:
    """Resize uint8 [3, H, W] or [B, 3, H, W] to fit `scale` (width, height), bilinear, not antialiased as published.

    `rule` is that of `preprocess.resize`.
    """
    if scale is None:
        return image
    size = fit_size(image.shape[-2], image.shape[-1], scale)
    if size == tuple(image.shape[-2:]):
        return image
    if rule == "opencv":
        return resize(image, size)
    batch = image.view(-1, *image.shape[-3:]).float()
    resized = functional.interpolate(batch, size, mode="bilinear", align_corners=False)
    return resized.round_().clamp_(0, 255).to(torch.uint8).view(*image.shape[:-2], *size)


def normalize(image: Tensor, config: PreprocessConfig, device: torch.device | str = "cpu") -> Tensor:
    """uint8 RGB [3, H, W] or [B, 3, H, W] -> float32 [B, 3, H, W] on `device`: channel order, minus mean, over std."""
    batch = image if image.dim() == 4 else image[None]
    batch = batch.to(device, non_blocking=True).float()
    if config.order == "bgr":
        batch = batch.flip(1)
    mean, std = (_per_channel(tuple(values), batch.device) for values in (config.mean, config.std))
    return (batch - mean) / std


@lru_cache
@torch.inference_mode(False)
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 [1, 3, 1, 1]. Brought to a GPU once: to copy from a CPU's ordinary memory is to wait."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)
