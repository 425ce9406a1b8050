"""Whether an exported file does what the network does: the same logits at several sizes, the same labels of images."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crisscross.data.samples.preprocess import normalize
from crisscross.data.scenes import draw_scene
from crisscross.deploy.samples import Samples
from crisscross.inference import Predictor
from crisscross.inference.arrays import to_numpy
from crisscross.metrics import ConfusionMatrix

# (height, width) at which logits are compared; the second and third are no multiples of any stride.
SIZES = ((128, 256), (97, 163), (225, 130))
# What a file of each precision has to reach: the share of equal labels; where there are masks, int8 may lose this much
# mIoU instead. In float32 logits may differ by this fraction of their standard deviation, too.
EQUAL = {"float32": 0.9999, "float16": 0.995, "int8": 0.98}
LOGITS, LOST = 1e-3, 0.005


@dataclass(frozen=True)
class AtSize:
    """Differences of coarse logits of one size: the largest and the mean; `std` is that of the logits."""

    height: int
    width: int
    largest: float
    mean: float
    std: float


@dataclass(frozen=True)
class Parity:
    """What was found, and `problems`: why the check failed; none where it passed.

    `equal` is the share of equal labels of all pixels of `images` images; `miou` those of the network and of the file,
    where there are masks; `seconds` the median times of an image in both.
    """

    precision: str
    source: str
    sizes: tuple[AtSize, ...]
    images: int
    equal: float
    miou: tuple[float, float] | None
    seconds: tuple[float, float]

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each limit that is exceeded."""
        found = []
        worst = max(self.sizes, key=lambda size: size.largest / size.std)
        # NaN must fail.
        if self.precision == "float32" and not worst.largest <= LOGITS * worst.std:
            at = f"{worst.width} x {worst.height}"
            found.append(f"logits differ by {worst.largest:.2g} at {at}; at most {LOGITS * worst.std:.2g} is allowed")
        if self.precision == "int8" and self.miou:
            if not self.miou[0] - self.miou[1] <= LOST:
                lost = 100 * (self.miou[0] - self.miou[1])
                found.append(f"{lost:.2f} points of mIoU are lost; at most {100 * LOST:.2f} are allowed")
        elif not self.equal >= EQUAL[self.precision]:
            found.append(f"{self.equal:.4%} of the labels are equal; {EQUAL[self.precision]:.2%} are needed")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether every limit is kept."""
        return not self.problems

    def facts(self) -> dict[str, Any]:
        """All of it as JSON values."""
        network, file = self.seconds
        return {
            "passed": self.passed,
            "problems": list(self.problems),
            "precision": self.precision,
            "sizes": [vars(size) for size in self.sizes],
            "images": {"source": self.source, "count": self.images},
            "equal_labels": self.equal,
            "miou": None if self.miou is None else dict(zip(("network", "file"), self.miou, strict=True)),
            "seconds": {"network": network, "file": file, "ratio": file / network},
        }

    def rows(self) -> list[list[str]]:
        """A table for people; the first row is its head."""
        rows = [["", "largest difference", "mean", "std of the logits"]]
        for size in self.sizes:
            numbers = [f"{value:.2g}" for value in (size.largest, size.mean, size.std)]
            rows.append([f"logits at {size.width} x {size.height}", *numbers])
        return rows

    def lines(self) -> list[str]:
        """What the table does not say."""
        network, file = self.seconds
        found = [f"labels: {self.equal:.4%} equal on {self.images} images ({self.source})"]
        if self.miou:
            before, after = (100 * score for score in self.miou)
            found.append(f"mIoU: {before:.2f} network, {after:.2f} file")
        found.append(f"time: {network:.3f} s an image network, {file:.3f} s file ({file / network:.2f} times)")
        return found


def parity(
    network: Predictor,
    file: Predictor,
    precision: str,
    samples: Samples,
    done: Callable[[int], object] = lambda finished: None,
) -> Parity:
    """Compare the predictor of an exported file with that of the network it was made of.

    `done` is called with the number of finished images.
    """
    sizes = tuple(_at_size(network, file, size) for size in SIZES)
    pixels = same = 0
    times: tuple[list[float], list[float]] = ([], [])
    counts = [ConfusionMatrix(len(network.classes), samples.ignore) for _ in range(2)]
    for number, image in enumerate(samples.check):
        labels = []
        for side, predictor in enumerate((network, file)):
            began = time.perf_counter()
            labels.append(predictor.predict(image).labels)
            times[side].append(time.perf_counter() - began)
        same += int((labels[0] == labels[1]).sum())
        pixels += labels[0].size
        for count, found in zip(counts, labels, strict=True):
            if samples.masks:
                count.update(found, samples.masks[number])
        done(number + 1)
    scores = [count.scores().miou for count in counts]
    miou = None if scores[0] is None or scores[1] is None else (scores[0], scores[1])
    seconds = (statistics.median(times[0]), statistics.median(times[1]))
    return Parity(precision, samples.source, sizes, len(samples.check), same / pixels, miou, seconds)


def _at_size(network: Predictor, file: Predictor, size: tuple[int, int]) -> AtSize:
    card = network.card
    images = np.stack([draw_scene(seed, *size)[0].transpose(2, 0, 1) for seed in range(max(card.frames, 2))])
    expected, found = (_logits(predictor, images) for predictor in (network, file))
    difference = np.abs(expected - found)
    return AtSize(*size, float(difference.max()), float(difference.mean()), float(expected.std()))


def _logits(predictor: Predictor, images: np.ndarray) -> np.ndarray:
    """Coarse logits of a batch of images, or of one clip."""
    card = predictor.card
    x = normalize(predictor.place(images), card.preprocess)
    with predictor.running():
        parts: Sequence[Any] = [x] if card.frames == 1 else [x[n : n + 1] for n in range(len(x))]
        maps = predictor.stages.decode([predictor.stages.encode(part) for part in parts], card.places)
        return np.stack([to_numpy(one) for one in maps]).astype(np.float32)
