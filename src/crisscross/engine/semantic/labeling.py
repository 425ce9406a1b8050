"""The images of a split with their labels, one after the other; frames of videos run by run, in order of time."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from torch import Tensor

from crisscross.data import DataSet, Pair
from crisscross.data.samples.loader import evaluation_images
from crisscross.layers.modes import device_of
from crisscross.models import Segmenter


@dataclass(frozen=True)
class LabeledPair:
    """Labels and truth uint8 [H, W] of a pair; `begins`: it is the first of its run of consecutive frames.

    `seconds` went from preprocessing to labels, without reading. A network for clips labels some frames at once: the
    first of them takes the time of all.
    """

    pair: Pair
    labels: Tensor
    mask: Tensor
    begins: bool
    seconds: float


def labeled_pairs(
    segmenter: Segmenter, dataset: DataSet, runs: Sequence[tuple[Pair, ...]], workers: int, tta: bool
) -> Iterator[LabeledPair]:
    """Label all pairs of all runs; `workers` processes read the next ones meanwhile.

    Raises:
        CrissCrossError: an unreadable pair, or a run that is shorter than the clips that the network takes.
    """
    on_gpu = device_of(segmenter).type == "cuda"
    images = evaluation_images(dataset, tuple(chain.from_iterable(runs)), workers, pin=on_gpu)
    for run in runs:
        yield from _Run(run, images).labeled(segmenter, tta)


class _Run:
    """One run on its way through the network: frames go in as the network asks for them."""

    def __init__(self, pairs: tuple[Pair, ...], images: Iterator[tuple[Tensor, Tensor, str]]) -> None:
        self.pairs, self.images = pairs, images
        self.waiting: deque[tuple[Pair, Tensor]] = deque()
        self.reading = 0.0

    def frames(self) -> Iterator[Tensor]:
        for pair in self.pairs:
            before = time.perf_counter()
            image, mask, _ = next(self.images)
            self.reading += time.perf_counter() - before
            self.waiting.append((pair, mask))
            yield image

    def labeled(self, segmenter: Segmenter, tta: bool) -> Iterator[LabeledPair]:
        stream = segmenter.label_frames(self.frames(), tta)
        for number in range(len(self.pairs)):
            self.reading, before = 0.0, time.perf_counter()
            labels = next(stream)
            seconds = time.perf_counter() - before - self.reading
            yield LabeledPair(self.waiting[0][0], labels, self.waiting.popleft()[1], number == 0, seconds)
