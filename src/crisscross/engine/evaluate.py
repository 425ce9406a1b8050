"""Score a network on one split: integer counts at the pictures' native size."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import PartialState
from torch import Tensor

from crisscross.data import DataSet
from crisscross.data.loader import evaluation_pictures
from crisscross.engine.interrupt import Interrupted
from crisscross.errors import CrissCrossError
from crisscross.metrics import ConfusionMatrix, Scores
from crisscross.models import Segmenter
from crisscross.progress import Progress


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split with the int64 counts [K, K] (rows truth, columns prediction) that they follow from."""

    split: str
    pictures: int
    scores: Scores
    counts: Tensor
    seconds: float


def check_classes(segmenter: Segmenter, dataset: DataSet) -> None:
    """Refuse a data set whose classes are not those of the network.

    Raises:
        CrissCrossError: another number of classes, or other names.
    """
    ours, theirs = segmenter.classes, dataset.classes
    if len(ours) != len(theirs):
        raise CrissCrossError(
            f"{dataset.root}: has {len(theirs)} classes, the network {len(ours)} ({', '.join(ours[:4])}, ...); "
            "evaluate it on the data set that it was trained for"
        )
    known = [name for name in ours if not name.startswith("class ")]
    if known and tuple(ours) != tuple(theirs):
        first = next(index for index, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1])
        raise CrissCrossError(
            f"{dataset.root}: class {first} is {theirs[first]!r} here but {ours[first]!r} in the network"
        )


def choose_device(cpu: bool) -> str:
    """The device of this process: its own GPU where there is one and `cpu` does not forbid it."""
    return "cpu" if cpu else str(PartialState().device)


def is_main_process() -> bool:
    """Whether this process is the one that speaks."""
    return PartialState().is_main_process


def evaluate(
    segmenter: Segmenter,
    dataset: DataSet,
    split: str,
    workers: int = 0,
    interrupted: Callable[[], bool] = lambda: False,
    title: str = "evaluate",
) -> Evaluation:
    """Label every picture of a split and count.

    Several processes share the pictures; each one is counted exactly once.

    Args:
        segmenter: the network; its mode is left as it was.
        dataset: data set with the network's classes.
        split: name of the split.
        workers: processes that read pictures.
        interrupted: asked after every picture of a single process; several have to finish together.
        title: shown beside the progress.

    Raises:
        CrissCrossError: no such split, classes that do not fit, or an unreadable pair.
        Interrupted: `interrupted` said so.
    """
    check_classes(segmenter, dataset)
    state = PartialState()
    pairs = dataset.split(split)
    mine = pairs[state.process_index :: state.num_processes]
    matrix = ConfusionMatrix(len(dataset.classes), dataset.ignore)
    pictures = evaluation_pictures(dataset, mine, workers)
    was_training = segmenter.training
    segmenter.eval()
    began = time.perf_counter()
    try:
        with Progress(title, len(mine), show=state.is_main_process) as progress:
            for done, (picture, mask, _) in enumerate(pictures, 1):
                matrix.update(segmenter.logits_at(picture).argmax(0).cpu(), mask)
                progress.update(done, mIoU=_percent(matrix.scores().miou))
                if state.num_processes == 1 and interrupted():
                    raise Interrupted
    finally:
        segmenter.train(was_training)
    counts = _sum_over_processes(matrix.counts, state)
    total = ConfusionMatrix(len(dataset.classes), dataset.ignore)
    total.counts = counts
    return Evaluation(split, len(pairs), total.scores(), counts, time.perf_counter() - began)


def _sum_over_processes(counts: Tensor, state: PartialState) -> Tensor:
    if state.num_processes == 1:
        return counts
    moved = counts.to(state.device)
    torch.distributed.all_reduce(moved)
    return moved.cpu()


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
