"""What to start from, with how many images: fine-tuning on classes of one's own, on CamVid's images.

    python -m benchmarks.ablations.fine_tuning CAMVID --backbone-weights FILE --out runs/fine-tuning

CamVid's sequences are divided: those of `SOURCE` train a network on all 11 classes, which is one of the starts;
subsets of the others' training images are the user's, with four classes that are none of the 11. Scores are those of
the last weights on CamVid's test split; nothing is chosen on it. The backbone is the first three stages of a ResNet-50
at output stride 16, on images of half the size; `FILE` holds ImageNet weights as in `receptive_field.py`. Finished runs
are kept, so that the command can be stopped and typed again; `runs.jsonl` has one line for each.
"""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.ablations.runs import (
    LAST_WEIGHTS,
    Facts,
    collect,
    finished,
    once,
    open_camvid,
    parser_for,
    run_script,
    train_and_score,
)
from crisscross.config import Experiment, apply_overrides
from crisscross.config.tree import IMAGENET_MEAN, IMAGENET_STD
from crisscross.data import DataSet
from crisscross.zoo import recipe

# The sequence whose images train the source; 0006R0 and 0001TP are the target's.
SOURCE = "0016E5"
# The target's classes, by what they are made of in CamVid.
TARGET = {
    "ground": ["road", "pavement"],
    "structure": ["building", "fence", "pole", "sign"],
    "nature": ["sky", "tree"],
    "traffic": ["car", "pedestrian", "bicyclist"],
}
COLORS = ((128, 64, 128), (128, 0, 0), (128, 128, 0), (64, 0, 128))
IMAGES = (10, 30, 100)
STARTS = ("scratch", "imagenet", "source")
# Modules of the backbone that keep their weights.
FREEZE = {
    "nothing": [],
    "first stage": ["conv1", "bn1", "layer1"],
    "backbone": ["conv1", "bn1", "layer1", "layer2", "layer3"],
}
# Loss, augmentation and optimizer are those of the recipe `ccnet-light`, but for these.
BUDGET: Facts = LAST_WEIGHTS | {
    "model.backbone": "benchmarks.ablations.fine_tuning:three_stages",
    "model.output_stride": 16,
    "model.pretrained": False,
    "model.head.pyramid": 0,
    "model.aux_head.channels": 0,
    "preprocess.mean": list(IMAGENET_MEAN),
    "preprocess.std": list(IMAGENET_STD),
    "preprocess.scale": [240, 180],
    "augment.scale": [240, 180],
    "augment.crop": [128, 128],
    "optim.warmup": 20,
    "train.batch": 4,
}


def three_stages(output_stride: int) -> nn.Module:
    """The first three stages of a ResNet-50; [B, 3, H, W] -> maps of strides 2, 4, 8, 16.

    Second and third stage stride in their first 1 x 1 convolution, as in the network of the weights.
    """
    import timm

    net: Any = timm.create_model("resnet50", features_only=True, output_stride=output_stride, out_indices=(0, 1, 2, 3))
    for layer in ("layer2", "layer3"):
        first = net[layer][0]
        first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
    return net


@dataclass(frozen=True)
class Case:
    """One training: what it starts from, the number of its images, and its settings."""

    start: str
    images: int
    seed: int
    lr: float = 1e-3
    backbone_factor: float = 0.1
    frozen: str = "first stage"

    @property
    def folder(self) -> str:
        """Where it lies below the output folder."""
        settings = f"lr{self.lr:g}-x{self.backbone_factor:g}-{self.frozen.replace(' ', '-')}"
        return f"{self.start}-{self.images}/{settings}/seed{self.seed}"


def main_grid(seeds: list[int]) -> Iterator[Case]:
    """All starts and numbers of images, one seed after the other."""
    for seed in seeds:
        for images in IMAGES:
            yield Case("scratch", images, seed, backbone_factor=1.0, frozen="nothing")
            yield Case("imagenet", images, seed)
            yield Case("source", images, seed)


def settings(seeds: list[int]) -> Iterator[Case]:
    """One setting at a time changed, at 30 images."""
    for start in ("source", "imagenet"):
        for seed in seeds:
            base = Case(start, 30, seed)
            yield replace(base, frozen="backbone")
            yield replace(base, backbone_factor=1.0)
            yield replace(base, lr=3e-4)
            yield replace(base, lr=3e-3)


def source_data(camvid: DataSet) -> DataSet:
    """All images of `SOURCE`, whatever their split, with all classes."""
    pairs = [pair for split in ("train", "val") for pair in camvid.split(split) if pair.name.startswith(SOURCE)]
    return replace(camvid, splits={"train": tuple(pairs), "test": camvid.splits["test"]})


def target_data(camvid: DataSet, images: int, seed: int) -> DataSet:
    """That many of the other sequences' training images with the target's classes; of one seed, more hold the fewer."""
    pairs = [pair for pair in camvid.split("train") if not pair.name.startswith(SOURCE)]
    pairs.sort(key=lambda pair: pair.name)
    random.Random(seed).shuffle(pairs)
    parts = list(TARGET.values())
    labels = {
        value: next(number for number, names in enumerate(parts) if name in names)
        for value, name in enumerate(camvid.classes)
    }
    return DataSet(
        *("own", camvid.root, tuple(TARGET), COLORS),
        splits={"train": tuple(pairs[:images]), "test": camvid.splits["test"]},
        labels=labels | dict.fromkeys(camvid.void, 255),
        allow_empty=True,
    )


def experiment_of(case: Case, iterations: int) -> Experiment:
    """The recipe `ccnet-light` under the budget, with the settings of a case."""
    changes = BUDGET | {
        "name": "fine-tuning",
        "model.frozen": FREEZE[case.frozen],
        "optim.lr": case.lr,
        "optim.backbone_factor": case.backbone_factor,
        "train.iterations": iterations,
        "train.seed": case.seed,
    }
    return apply_overrides(recipe("ccnet-light"), changes)


def main() -> None:
    """The source first, then every case that has no scores yet."""
    parser = parser_for(__doc__, "fine-tuning")
    parser.add_argument("--backbone-weights", type=Path, metavar="FILE", required=True)
    parser.add_argument("--iterations", type=int, default=150, metavar="N")
    parser.add_argument("--source-iterations", type=int, default=400, metavar="N")
    parser.add_argument("--test-every", type=int, default=3, metavar="N", help="score every Nth test image only")
    parser.add_argument("--settings", action="store_true", help="the settings at 30 images, too")
    arguments = parser.parse_args()
    data, out = open_camvid(arguments.data, arguments.test_every), arguments.out
    imagenet = {"backbone_weights": str(arguments.backbone_weights)}
    starts: dict[str, Facts] = {"scratch": {}, "imagenet": imagenet, "source": {"init": str(out / "source")}}

    def run(case: Case, iterations: int, dataset: DataSet, folder: Path, keep: bool = False) -> None:
        def make() -> Facts:
            return train_and_score(experiment_of(case, iterations), dataset, folder, lambda: starts[case.start]).facts

        once(folder, asdict(case), make, keep)
        collect(out, [out / "source", *finished(out, "*/*/seed*")])

    source = source_data(data)
    run(
        Case("imagenet", len(source.splits["train"]), 0), arguments.source_iterations, source, out / "source", keep=True
    )
    for case in [*main_grid(arguments.seeds), *(settings(arguments.seeds) if arguments.settings else ())]:
        run(case, arguments.iterations, target_data(data, case.images, case.seed), out / case.folder)


if __name__ == "__main__":
    run_script(main)
