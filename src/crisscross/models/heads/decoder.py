"""The backbone's finer maps, from stride 4 on, beside features of its last one."""

from collections.abc import Sequence

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


class PyramidDecoder(nn.Module):
    """A feature pyramid (Lin et al., 2017) over maps of several strides, for a classifier at the finest one.

    Args:
        channels: of the maps, fine to coarse.
        width: channels of every level.
        given: the variant, and how maps are resized.
    """

    def __init__(self, channels: Sequence[int], width: int, given: HeadInputs) -> None:
        super().__init__()
        norm, activation = given.variant.norm, given.variant.after
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.smooth = nn.ModuleList(ConvNormAct(width, width, norm=norm, activation=activation) for _ in channels)
        self.align_corners = given.align_corners

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [B, channels[i], h_i, w_i], fine to coarse -> [B, width, h_0, w_0], the sum of all levels."""
        level = self.lateral[-1](maps[-1])
        found = self.smooth[-1](level)
        for place in range(len(maps) - 2, -1, -1):
            lateral = self.lateral[place](maps[place])
            level = lateral + resized(level, lateral, self.align_corners)
            found = self.smooth[place](level) + resized(found, level, self.align_corners)
        return found
