"""A head of your own: ASPP (DeepLabv3, Chen et al. 2017) in the place of CCNet's; trains, stops, resumes, predicts.

python examples/own_head.py

On the command line, in the folder of this file:
crisscross train demo --data DATA --out RUN --set 'model.head={name: own_head:ASPPHead, rates: [1, 3, 6]}'
"""

import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import crisscross
from crisscross import zoo
from crisscross.config import override
from crisscross.data.scenes import write_scenes
from crisscross.engine.train import train
from crisscross.models.heads import HeadInputs, Logits


@dataclass(frozen=True)
class Settings:
    """The keys of `model.head` beside `name`."""

    channels: int = 32
    rates: tuple[int, ...] = (6, 12, 18)


class ASPPHead(nn.Module):
    """3 x 3 convolutions of several dilations side by side on the last feature map, joined and classified."""

    Config, classifiers = Settings, ("classify",)

    def __init__(self, config: Settings, given: HeadInputs) -> None:
        super().__init__()
        features, width = given.channels[-1], config.channels
        self.branches = nn.ModuleList(nn.Conv2d(features, width, 3, padding=r, dilation=r) for r in config.rates)
        self.classify = nn.Conv2d(width * len(config.rates), given.classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Logits:
        """All maps of the backbone, fine to coarse -> logits [B, K, h, w] of any size."""
        return Logits(self.classify(torch.cat([branch(maps[-1]).relu() for branch in self.branches], dim=1)))


if __name__ == "__main__":
    changes = ["model.head={name: own_head:ASPPHead, rates: [1, 3, 6]}", "train.iterations=10", "optim.warmup=1"]
    with tempfile.TemporaryDirectory() as temporary:
        write_scenes(Path(temporary, "data"), {"train": 8, "val": 2, "test": 2}, height=64, width=128)
        data, run = crisscross.open_dataset("folder", Path(temporary, "data")), Path(temporary, "run")
        what = override(zoo.recipe("demo"), [*changes, "train.batch=2", "augment.crop=[64, 128]"]), data, run
        # As Ctrl-C does, in the sixth of ten steps.
        first = train(*what, listener=lambda step: step.iteration == 6 and signal.raise_signal(signal.SIGINT))
        print("finished:", first.finished)
        print("resumed and finished:", train(*what, resume=True).finished)
        # Weights that name code load from a folder that you trust.
        segmenter = crisscross.load(run, trust=run)
        print(type(segmenter.head).__name__, segmenter.predict(data.split("test")[0].image).labels.shape)
