"""Where the time of an evaluation goes, image by image, and how its pieces compare with plain code.

Plain code is what the published systems do after the network: all logits in float32 resized to the network's input
size, resized once more to the image's own, argmax; then three float32 histograms an image.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from crisscross.config import InferenceConfig
from crisscross.data import scenes
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.reading import read_pair
from crisscross.inference import pixels
from crisscross.inference.passes import joined, views
from crisscross.measurement.network import network_of
from crisscross.measurement.timing import Work, interleave
from crisscross.metrics import ConfusionMatrix

# How many times faster than plain code labels and counts together have to be.
GOAL, STRETCH = 3.0, 5.0
# Two logits this close, relative to the largest, are one to float32.
ROUNDING = 1e-5
SEGMENTS, NOISE = "segments", "noise"


@dataclass(frozen=True)
class Field:
    """Coarse logits that are turned into labels and counted; seconds are per image, medians of the rounds.

    Attributes:
        name: the network that made them, `segments` or `noise`.
        coarse: (classes, height, width).
        labels, plain_labels: seconds of resizing and argmax.
        count, plain_count: seconds of counting.
        pixels, differing, ties: of all pixels, those whose label is another than plain code's, and those of them whose
            two logits are equal to float32 rounding.
    """

    name: str
    coarse: tuple[int, int, int]
    labels: float
    plain_labels: float
    count: float
    plain_count: float
    pixels: int
    differing: int
    ties: int

    @property
    def ratio(self) -> float:
        """How many times plain code takes."""
        return (self.plain_labels + self.plain_count) / (self.labels + self.count)


@dataclass(frozen=True)
class Times:
    """Seconds per image of what comes before labels: reading an image and its mask, preprocessing, the network."""

    decode: float
    preprocess: float
    network: float
    fields: list[Field]


def measure(
    source: str,
    height: int,
    width: int,
    classes: int,
    images: int,
    rounds: int,
    device: torch.device,
    on_turn: Callable[[], object] = lambda: None,
    trust: Path | None = None,
) -> Times:
    """Measure all pieces in turns in one run, on drawn street scenes.

    Args:
        source: the network; a recipe without weights gets random ones.
        height: of the images and of the network's input, in pixels.
        width: likewise.
        classes: of the made-up fields; the network has its own.
        images: how many; every piece goes through all of them in a turn.
        rounds: turns of each piece.
        device: where the network and its labels are computed.
        on_turn: called after each of the (3 + 3 x 4) x (rounds + 1) turns.
        trust: as in `crisscross.load`.
    """
    segmenter = network_of(source, trust).to(device).to(memory_format=torch.channels_last).eval()
    align_corners = segmenter.experiment.model.align_corners
    drawn = [scenes.draw_scene(seed, height, width) for seed in range(images)]
    tensors = [torch.from_numpy(image).permute(2, 0, 1) for image, _ in drawn]
    truths = [torch.from_numpy(truth) for _, truth in drawn]
    xs = [segmenter.preprocess(tensor, (width, height)) for tensor in tensors]
    with torch.inference_mode():
        own = [segmenter.coarse(x).main for x in xs]
    made = {
        source: own,
        SEGMENTS: [segments(truth, classes, seed).to(device) for seed, truth in enumerate(truths)],
        NOISE: [noise(height, width, classes, seed).to(device) for seed in range(images)],
    }
    fields = {name: _Field(maps, xs, truths, align_corners) for name, maps in made.items()}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        dataset = scenes_on_disk(Path(folder), height, width, images)
        works: dict[str, Work] = {
            "decode": lambda: [read_pair(pair, dataset) for pair in dataset.split("val")],
            "preprocess": lambda: [segmenter.preprocess(tensor, (width, height)) for tensor in tensors],
            "network": lambda: [segmenter.coarse(x) for x in xs],
        }
        for name, field in fields.items():
            works |= {f"{name}: {piece}": work for piece, work in field.works().items()}
        seconds = {name: value / images for name, value in interleave(works, rounds, device, on_turn).items()}
        rows = [field.row(name, seconds) for name, field in fields.items()]
    return Times(seconds["decode"], seconds["preprocess"], seconds["network"], rows)


class _Field:
    """Coarse logits [1, K, h, w] of each image, and what is done with them in both ways."""

    def __init__(self, maps: list[Tensor], xs: list[Tensor], truths: list[Tensor], align_corners: bool) -> None:
        self.maps, self.xs, self.align_corners = maps, xs, align_corners
        self.classes = maps[0].shape[1]
        # A truth that fits the network's classes; a drawn scene may have more of its own.
        self.truths = [torch.where(truth < self.classes, truth, 255) for truth in truths]
        self.wide_truths = [truth.long() for truth in self.truths]
        self.found = [self.labels(index).cpu() for index in range(len(maps))]
        self.plain_found = [self.plain_labels(index).cpu() for index in range(len(maps))]

    def works(self) -> dict[str, Work]:
        every = range(len(self.maps))
        return {
            "labels": lambda: [self.labels(index).cpu() for index in every],
            "plain labels": lambda: [self.plain_labels(index).cpu() for index in every],
            "count": lambda: [self.count(index) for index in every],
            "plain count": lambda: [self.plain_count(index) for index in every],
        }

    def labels(self, index: int) -> Tensor:
        size = (self.xs[index].shape[2], self.xs[index].shape[3])
        (view,) = views(size, InferenceConfig())
        return torch.from_numpy(pixels.labels([joined(view, [self.maps[index][0]], size, self.align_corners)]))

    def plain_logits(self, index: int) -> Tensor:
        logits = self.maps[index].float()
        for _ in range(2):
            size = self.xs[index].shape[-2:]
            logits = functional.interpolate(logits, size, mode="bilinear", align_corners=self.align_corners)
        return logits[0]

    def plain_labels(self, index: int) -> Tensor:
        return self.plain_logits(index).argmax(0)

    def count(self, index: int) -> np.ndarray:
        matrix = ConfusionMatrix(self.classes)
        matrix.update(self.found[index], self.truths[index])
        return matrix.counts

    def plain_count(self, index: int) -> list[Tensor]:
        truth, found = self.wide_truths[index], self.plain_found[index]
        counted = truth != 255
        truth, found = truth[counted], found[counted]
        return [
            torch.histc(labels.float(), bins=self.classes, min=0, max=self.classes - 1)
            for labels in (found[found == truth], found, truth)
        ]

    def row(self, name: str, seconds: dict[str, float]) -> Field:
        pixels = differing = ties = 0
        for index, (found, plain) in enumerate(zip(self.found, self.plain_found, strict=True)):
            other = found != plain
            pixels, differing = pixels + other.numel(), differing + int(other.sum())
            if other.any():
                logits = self.plain_logits(index).cpu()
                chosen = logits.gather(0, found.long()[None])[0]
                close = logits.amax(0) - chosen <= ROUNDING * logits.abs().max()
                ties += int((close & other).sum())
        labels, plain_labels, count, plain_count = (seconds[f"{name}: {piece}"] for piece in self.works())
        _, classes, height, width = self.maps[0].shape
        times = labels, plain_labels, count, plain_count
        return Field(name, (classes, height, width), *times, pixels, differing, ties)


def segments(truth: Tensor, classes: int, seed: int) -> Tensor:
    """Logits [1, K, H / 8, W / 8] such as a trained network gives for labels uint8 [H, W].

    High on the right class, softer at its rim, with a smooth field of doubt and a little noise.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = -(-truth.shape[0] // 8), -(-truth.shape[1] // 8)
    right = functional.one_hot(truth[::8, ::8].long().clamp(max=classes) % classes, classes)
    soft = functional.avg_pool2d(right.permute(2, 0, 1)[None].float(), 3, 1, 1)
    doubt = torch.randn(1, classes, height // 12 + 2, width // 12 + 2, generator=generator)
    doubt = functional.interpolate(doubt, (height, width), mode="bicubic")
    return 8 * soft + 1.5 * doubt + 0.2 * torch.randn(1, classes, height, width, generator=generator)


def noise(height: int, width: int, classes: int, seed: int) -> Tensor:
    """Logits [1, K, H / 8, W / 8] without any structure, the worst case."""
    shape = (1, classes, -(-height // 8), -(-width // 8))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scenes_on_disk(folder: Path, height: int, width: int, images: int) -> DataSet:
    """Drawn scenes as PNG files: images and index masks."""
    from PIL import Image

    pairs = []
    for seed in range(images):
        pair = Pair(str(seed), folder / f"{seed}.png", folder / f"{seed}_labels.png")
        for path, array in zip((pair.image, pair.mask), scenes.draw_scene(seed, height, width), strict=True):
            Image.fromarray(array).save(path)
        pairs.append(pair)
    return DataSet("drawn", folder, scenes.CLASSES, scenes.PALETTE, {"val": tuple(pairs)})
