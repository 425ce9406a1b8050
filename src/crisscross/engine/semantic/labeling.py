"""The images of a split with their labels, one after the other; frames of videos run by run, in order of time."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from torch import Tensor

from crisscross.data import DataSet, Pair
from crisscross.data.samples.loader import evaluation_images
from crisscross.inference import Predictor
from crisscross.inference.pixels import confidences


@dataclass(frozen=True)
class LabeledPair:
    """Labels and truth uint8 [H, W] of a pair; `begins`: it is the first of its run of consecutive frames.

    `seconds` is the time from preprocessing to labels, without reading. A network for clips labels some frames at once:
    the first of them takes the time of all. `confidence` is the probability float32 [H, W] of each label, where asked
    for; its time does not count.
    """

    pair: Pair
    labels: np.ndarray
    mask: np.ndarray
    begins: bool
    seconds: float
    confidence: np.ndarray | None = None


def labeled_pairs(
    predictor: Predictor,
    dataset: DataSet,
    runs: Sequence[tuple[Pair, ...]],
    workers: int,
    tta: bool,
    confidence: bool = False,
) -> Iterator[LabeledPair]:
    """Label all pairs of all runs; `workers` processes read the next ones meanwhile.

    Raises:
        CrissCrossError: an unreadable pair, or a run that is shorter than the clips that the network takes.
    """
    on_gpu = predictor.device.startswith("cuda")
    images = evaluation_images(dataset, tuple(chain.from_iterable(runs)), workers, pin=on_gpu)
    for run in runs:
        yield from _labeled_run(predictor, run, images, tta, confidence)


def _labeled_run(
    predictor: Predictor,
    run: tuple[Pair, ...],
    images: Iterator[tuple[Tensor, Tensor, str]],
    tta: bool,
    confidence: bool,
) -> Iterator[LabeledPair]:
    """The pairs of one run: frames are read as the network asks for them."""
    reading = 0.0

    def frames() -> Iterator[tuple[tuple[Pair, np.ndarray], Tensor]]:
        nonlocal reading
        for pair in run:
            before = time.perf_counter()
            image, mask, _ = next(images)
            reading += time.perf_counter() - before
            yield (pair, mask.numpy()), image

    stream = predictor.labels_and_passes(frames(), tta)
    for number in range(len(run)):
        reading, before = 0.0, time.perf_counter()
        (pair, mask), labels, passes = next(stream)
        seconds = time.perf_counter() - before - reading
        sure = confidences(passes) if confidence else None
        yield LabeledPair(pair, labels, mask, number == 0, seconds, sure)
