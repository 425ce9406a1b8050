"""A whole network of someone else, here a small U-Net, with this package's training, files and inference.

python examples/own_network.py

On the command line, in the folder of this file:
crisscross train demo --data DATA --out RUN --set model.network=own_network:UNet
"""

import signal
import tempfile
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import crisscross
from crisscross import zoo
from crisscross.config import override
from crisscross.data.scenes import write_scenes
from crisscross.engine.train import train


def block(channels: int, width: int) -> nn.Sequential:
    """Two 3 x 3 convolutions."""
    layers = [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())


class UNet(nn.Module):
    """Ronneberger et al. 2015, small: normalized images [B, 3, H, W] of any size -> logits [B, classes, H, W]."""

    def __init__(self, classes: int, widths: tuple[int, ...] = (8, 16, 32)) -> None:
        super().__init__()
        self.down = nn.ModuleList(block(*pair) for pair in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(block(a + b, a) for a, b in pairwise(widths))
        self.classify = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, classes, H, W]."""
        maps = [self.down[0](x)]
        for down in list(self.down)[1:]:
            maps.append(down(functional.max_pool2d(maps[-1], 2, ceil_mode=True)))
        y = maps.pop()
        for up in reversed(self.up):
            fine = maps.pop()
            y = up(torch.cat([fine, functional.interpolate(y, fine.shape[-2:], mode="bilinear")], dim=1))
        return self.classify(y)


if __name__ == "__main__":
    changes = ["model.network=own_network:UNet", "train.iterations=10", "optim.warmup=1", "train.batch=2"]
    with tempfile.TemporaryDirectory() as temporary:
        data, run = Path(temporary, "data"), Path(temporary, "run")
        write_scenes(data, {"train": 8, "val": 2, "test": 2}, height=64, width=128)
        experiment = override(zoo.recipe("demo"), [*changes, "augment.crop=[64, 128]"])
        what = experiment, crisscross.open_dataset("folder", data), run
        # As Ctrl-C does, in the sixth of ten steps.
        first = train(*what, listener=lambda step: step.iteration == 6 and signal.raise_signal(signal.SIGINT))
        print("finished:", first.finished)
        print("resumed and finished:", train(*what, resume=True).finished)
        # Weights that name code load from a folder that you trust.
        segmenter = crisscross.load(run, trust=run)
        print(type(segmenter.head.net).__name__, segmenter.predict(what[1].split("test")[0].image).labels.shape)
