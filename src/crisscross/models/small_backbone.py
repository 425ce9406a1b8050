"""A backbone that sees little of an image: what lies farther away has to come through the attention."""

from itertools import pairwise

from torch import Tensor, nn


class SmallBackbone(nn.Module):
    """Four 3 x 3 convolutions with batch norm: [B, 3, H, W] -> maps of strides 4 and 8 (or 4, 8 and `output_stride`).

    At output stride 8 a position of the last map sees 31 x 31 pixels.

    Args:
        output_stride: 8, 16 or 32.
    """

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        widths = [3, 24, 32, 64, 64, 64][: output_stride.bit_length()]
        self.stages = nn.ModuleList(_convolution(a, b, 2) for a, b in pairwise(widths))
        self.refine = _convolution(widths[-1], widths[-1], 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [*maps[1:-1], self.refine(maps[-1])]


def _convolution(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )
