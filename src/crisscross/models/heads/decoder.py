"""Low-level features: the backbone's map of stride 4 beside features of a coarser one."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross.errors import CrissCrossError
from crisscross.layers import ConvNormAct
from crisscross.models.heads.contract import HeadInputs

FINE_STRIDE = 4


def fine_map(given: HeadInputs, asked: str, instead: str) -> int:
    """Place of the deepest of the feature maps of stride 4.

    Args:
        given: what a head is made for.
        asked: the setting that needs this map.
        instead: a setting without it.

    Raises:
        CrissCrossError: there is no such map.
    """
    if FINE_STRIDE not in given.strides:
        raise CrissCrossError(
            f"{asked} needs a feature map of stride {FINE_STRIDE}, and the backbone's have "
            f"{', '.join(map(str, given.strides))}: choose another backbone or {instead}"
        )
    return len(given.strides) - 1 - list(reversed(given.strides)).index(FINE_STRIDE)


def resized(x: Tensor, like: Tensor, align_corners: bool) -> Tensor:
    """[B, C, *, *] at the size of `like`, bilinear."""
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=align_corners)


class LowLevelDecoder(nn.Module):
    """DeepLabV3+'s decoder at half the head's width: features [B, C, h', w'] and a finer map -> [B, C // 2, h, w].

    Args:
        channels: C, at least 2.
        fine: channels of the finer map.
        low_level: channels that are kept of it.
        given: the variant and how features are resized.
    """

    def __init__(self, channels: int, fine: int, low_level: int, given: HeadInputs) -> None:
        super().__init__()
        norm, activation, width = given.variant.norm, given.variant.after, channels // 2
        self.narrow = ConvNormAct(channels, width, 1, norm, activation)
        self.low_level = ConvNormAct(fine, low_level, 1, norm, activation)
        self.join = ConvNormAct(width + low_level, width, 3, norm, activation)
        self.align_corners = given.align_corners

    def forward(self, x: Tensor, fine: Tensor) -> Tensor:
        """Features [B, C, h', w'] and a finer map [B, fine, h, w] -> [B, C // 2, h, w]."""
        wide = resized(self.narrow(x), fine, self.align_corners)
        return self.join(torch.cat([wide, self.low_level(fine)], dim=1))
