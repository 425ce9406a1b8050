"""Photometric distortion with the published ranges and order.

Saturation and hue are those of the HSV color space. With V the largest channel and S the saturation, scaling S by f
moves each channel c to V - (V - c) f; turning the hue needs the full way there and back.
"""

import torch
from torch import Generator, Tensor

from crisscross.data.samples.draws import chance, uniform, whole_number

BRIGHTNESS = 32.0
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
# In degrees; the published whole numbers -18..17 count half degrees of OpenCV's hue.
HUE_STEPS, HUE_DEGREES = 18, 2.0


def photometric_distortion(image: Tensor, generator: Generator) -> Tensor:
    """Each of brightness, contrast, saturation and hue with probability 1/2; contrast comes early or late at random.

    Args:
        image: uint8 RGB [3, H, W].
        generator: source of every draw.

    Returns:
        uint8 [3, H, W]; values are clipped to 0..255 after every step and rounded once, at the end (the published code
        cuts to whole numbers after every step).
    """
    x = image.float()
    if chance(0.5, generator):
        x = (x + uniform(-BRIGHTNESS, BRIGHTNESS, generator)).clamp_(0, 255)
    contrast_first = chance(0.5, generator)
    if contrast_first and chance(0.5, generator):
        x = (x * uniform(*CONTRAST, generator)).clamp_(0, 255)
    if chance(0.5, generator):
        x = scale_saturation(x, uniform(*SATURATION, generator))
    if chance(0.5, generator):
        x = turn_hue(x, (whole_number(2 * HUE_STEPS, generator) - HUE_STEPS) * HUE_DEGREES)
    if not contrast_first and chance(0.5, generator):
        x = (x * uniform(*CONTRAST, generator)).clamp_(0, 255)
    return x.round_().to(torch.uint8)


def scale_saturation(x: Tensor, factor: float) -> Tensor:
    """Multiply the HSV saturation of float RGB [3, H, W] (0..255) by `factor`, at most to full saturation."""
    high, low = x.amax(0), x.amin(0)
    # Saturation (high - low) / high must stay at most 1.
    limit = high / (high - low).clamp_(min=1e-6)
    return high - (high - x) * limit.clamp_(max=factor)


def turn_hue(x: Tensor, degrees: float) -> Tensor:
    """Turn the HSV hue of float RGB [3, H, W] (0..255)."""
    red, green, blue = x.unbind(0)
    high, chroma = x.amax(0), x.amax(0) - x.amin(0)
    safe = chroma.clamp(min=1e-6)
    sextant = torch.where(
        high == red,
        (green - blue) / safe,
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sextant = sextant + degrees / 60
    # Channel n falls below the largest by chroma times a trapezoid of the distance round the color circle.
    return torch.stack([high - chroma * _trapezoid((sextant + n) % 6) for n in (5, 3, 1)])


def _trapezoid(k: Tensor) -> Tensor:
    return torch.minimum(k, 4 - k).clamp_(0, 1)
