"""A backbone of your own under CCNet's head: any module that gives feature maps, fine to coarse.

python examples/own_backbone.py

On the command line, in the folder of this file:
crisscross train demo --data DATA --out RUN --set model.backbone=own_backbone:Strided --set model.output_stride=16
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

import crisscross
from crisscross import zoo
from crisscross.config import override


class Strided(nn.Module):
    """Strided convolutions: [B, 3, H, W] -> maps of strides 2, 4 and so on to `output_stride`, rounded up."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        widths = [3, 16, 32, 64, 64, 64][: output_stride.bit_length()]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairwise(widths)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """A list of feature maps, fine to coarse; their channels and strides are measured once."""
        maps = [x]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


if __name__ == "__main__":
    changes = ["model.backbone=own_backbone:Strided", "model.output_stride=16", "data.classes=[road, sky, car]"]
    segmenter = crisscross.build(override(zoo.recipe("demo"), changes)).eval()
    print("channels", segmenter.backbone.channels, "strides", segmenter.backbone.strides)
    print("logits", list(segmenter(torch.zeros(1, 3, 65, 97)).main.shape))
