"""What every image meets before the network, in training and in use. Torch is imported for tensors alone."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from crisscross.config import PreprocessConfig
from crisscross.data.samples.opencv_resize import is_tensor

if TYPE_CHECKING:
    import torch


def fit_size(height: int, width: int, scale: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image resized to fit `scale`, keeping its shape (the published rule).

    factor = min(max(scale) / long side, min(scale) / short side); each side is int(side * factor + 0.5).
    """
    factor = min(max(scale) / max(height, width), min(scale) / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def normalize(image: Any, config: PreprocessConfig) -> Any:
    """uint8 RGB [3, H, W] or [B, 3, H, W] -> float32 [B, 3, H, W]: channel order, minus mean, over std.

    A NumPy array gives an array, a tensor a tensor on the same device.
    """
    batch = image if image.ndim == 4 else image[None]
    device = batch.device if is_tensor(batch) else None
    if config.order == "bgr":
        batch = batch[:, ::-1] if device is None else batch.flip(1)
    mean, std = (_per_channel(tuple(values), device) for values in (config.mean, config.std))
    # Bytes minus float32 are float32. In place, because fresh memory costs more than the arithmetic.
    found = batch - mean
    found /= std
    return found


@lru_cache
def _per_channel(values: tuple[float, ...], device: "torch.device | None") -> Any:
    """float32 [1, 3, 1, 1]. Brought to a GPU once: to copy from a CPU's ordinary memory is to wait."""
    array = np.array(values, np.float32).reshape(1, -1, 1, 1)
    if device is None:
        return array
    import torch

    with torch.inference_mode(False):
        return torch.from_numpy(array).to(device)
