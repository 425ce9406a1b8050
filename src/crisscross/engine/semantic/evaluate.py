"""Score a network on one split: integer counts at the images' native size.

Three things run at once: worker processes read the next images, the network labels this one, and a thread counts
(and saves) the previous ones.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from crisscross.data import DataSet, Pair
from crisscross.data.files.folders import name_key
from crisscross.data.palette import default_names
from crisscross.data.samples.clips import check_clips, runs
from crisscross.engine.run.interrupt import Interrupted
from crisscross.engine.semantic.detail import Detail
from crisscross.engine.semantic.labeling import LabeledPair, labeled_pairs
from crisscross.errors import CrissCrossError
from crisscross.inference import Predictor, predictor_of
from crisscross.metrics import ConfusionMatrix, Consistency, Scores, StableCounts, scores
from crisscross.models import Segmenter
from crisscross.progress import Progress
from crisscross.terminal import decimal

# Labeled images that may wait for the counting thread.
WAITING = 3
# The first images are slower than the others (caches, the choice of algorithms) and are left out of the speed where
# more follow; MMSegmentation's benchmark leaves out as many.
WARM_UP = 5
FINE_TUNE = "train it on these classes: `crisscross train RECIPE --init NETWORK --data DIR --out RUN`"

Save = Callable[[Pair, np.ndarray], object]


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split with the int64 counts [K, K] (rows truth, columns prediction) that they follow from.

    `seconds` is the whole time. `fps` is images a second of preprocessing, network and labels, one image at a
    time in this process, after the first `WARM_UP`. `memory` is the most bytes that this process held: allocated on its
    GPU, or resident on a CPU (None where the system does not say); `on_gpu` says which. `tta`: multi-scale + flip.
    `consistency` is the temporal one over all pairs of consecutive frames, None where there are none. `image_iou` is
    the mean IoU of each image by name, over the classes in its truth or prediction; None where all of it is ignored.
    `detail` is there where it was asked for.
    """

    split: str
    images: int
    scores: Scores
    counts: np.ndarray
    seconds: float
    tta: bool = False
    fps: float | None = None
    memory: int | None = None
    on_gpu: bool = False
    consistency: Consistency | None = None
    image_iou: Mapping[str, float | None] = field(default_factory=dict)
    detail: Detail | None = None


def check_classes(network: Segmenter | Predictor, dataset: DataSet) -> None:
    """Refuse a data set whose classes are not those of the network; one whose file names no classes takes any names.

    Raises:
        CrissCrossError: another number of classes, or other names.
    """
    ours, theirs = network.classes, dataset.classes
    if len(ours) != len(theirs):
        raise CrissCrossError(
            f"{dataset.root}: has {len(theirs)} classes ({_some(theirs)}), the network {len(ours)} ({_some(ours)}); "
            f"evaluate it on data with its classes, or {FINE_TUNE}"
        )
    if tuple(ours) == default_names(len(ours)):
        return
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if name_key(our) != name_key(their):
            raise CrissCrossError(
                f"{dataset.root}: class {number} is {their!r} here but {our!r} in the network; if they mean the same, "
                f"name it so in dataset.yaml, otherwise {FINE_TUNE}"
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def evaluate(
    network: Segmenter | Predictor,
    dataset: DataSet,
    split: str,
    workers: int = 0,
    interrupted: Callable[[], bool] = lambda: False,
    title: str = "evaluate",
    tta: bool = False,
    save: Save | None = None,
    detailed: bool = False,
) -> Evaluation:
    """Label every image of a split and count.

    Several processes share the images, whole runs of consecutive frames each; each image is counted exactly once.

    Args:
        network: a network, whose mode is left as it was, or a predictor.
        dataset: data set with the network's classes.
        split: name of the split.
        workers: processes that read images.
        interrupted: asked after every image of a single process; several have to finish together.
        title: shown beside the progress.
        tta: multi-scale + flip, as `experiment.inference` has it.
        save: called with every pair and its labels uint8 [H, W], one after the other in a thread of its own.
        detailed: also count what `Detail` holds, for which the probability of every label is computed.

    Raises:
        CrissCrossError: no such split, classes that do not fit, or an unreadable pair.
        Interrupted: `interrupted` said so.
        Exception: whatever `save` raises.
    """
    predictor = predictor_of(network)
    check_classes(predictor, dataset)
    state = PartialState()
    pairs = dataset.split(split)
    check_clips(dataset, split, predictor.card.frames)
    mine = runs(dataset, pairs)[state.process_index :: state.num_processes]
    progress = Progress(title, sum(map(len, mine)), show=state.is_main_process)
    tally = _Tally(dataset, save, progress, Detail(dataset) if detailed else None)
    device = predictor.device
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    # Several processes have to finish together.
    stop = interrupted if state.num_processes == 1 else lambda: False
    began = time.perf_counter()
    with predictor.running(), tally.progress:
        times = _label_and_count(labeled_pairs(predictor, dataset, mine, workers, tta, detailed), tally, stop)
    total = ConfusionMatrix(len(dataset.classes), dataset.ignore)
    total.counts = _sum_over_processes(tally.matrix.counts, state)
    stable = StableCounts(len(dataset.classes), dataset.ignore)
    stable.counts = _sum_over_processes(tally.stable.counts, state)
    consistency = stable.scores() if int(stable.counts.sum()) else None
    memory = torch.cuda.max_memory_allocated(device) if on_gpu else peak_resident_memory()
    seconds = time.perf_counter() - began
    image_iou = tally.image_iou if state.num_processes == 1 else dict(gather_object([*tally.image_iou.items()]))
    detail = _detail_of_all(tally.detail, state)
    found = (total.scores(), total.counts, seconds, tta, _fps(times), memory, on_gpu, consistency, image_iou, detail)
    return Evaluation(split, len(pairs), *found)


class _Tally:
    """What is counted, and saved, image by image, in a second thread."""

    def __init__(self, dataset: DataSet, save: Save | None, progress: Progress, detail: Detail | None) -> None:
        self.matrix = ConfusionMatrix(len(dataset.classes), dataset.ignore)
        self.stable = StableCounts(len(dataset.classes), dataset.ignore)
        self.save, self.progress, self.image_iou = save, progress, dict[str, float | None]()
        self.detail = detail
        self.last: LabeledPair | None = None

    def count(self, one: LabeledPair, done: int) -> None:
        before = self.matrix.counts.copy()
        self.matrix.update(one.labels, one.mask)
        counts = self.matrix.counts - before
        self.image_iou[one.pair.name] = scores(counts).miou
        if self.detail is not None:
            self.detail.add(one, counts, self.image_iou[one.pair.name])
        if self.last is not None and not one.begins:
            self.stable.update((self.last.labels, one.labels), (self.last.mask, one.mask))
        self.last = replace(one, confidence=None)
        if self.save is not None:
            self.save(one.pair, one.labels)
        self.progress.update(done, mIoU=decimal(self.matrix.scores().miou, 3))


def _label_and_count(pairs: Iterator[LabeledPair], tally: _Tally, interrupted: Callable[[], bool]) -> list[float]:
    """Fill `tally`; returns the seconds that each image took from preprocessing to labels."""
    times = []
    with _Background() as background:
        for done, one in enumerate(pairs, 1):
            times.append(one.seconds)
            background.give(tally.count, one, done)
            if interrupted():
                raise Interrupted
    return times


class _Background:
    """A thread that runs calls in order. An error is raised by the next `give`, or at the end."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1, "count")
        self.given: deque[Future[object]] = deque()

    def give(self, work: Callable[..., object], *arguments: object) -> None:
        """Hand over a call; waits while `WAITING` others are unfinished."""
        self.given.append(self.pool.submit(work, *arguments))
        while len(self.given) > WAITING or (self.given and self.given[0].done()):
            self.given.popleft().result()

    def __enter__(self) -> "_Background":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # After an error or Ctrl-C, waiting calls are dropped and the running one is finished.
        self.pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for work in self.given:
                work.result()


def peak_resident_memory() -> int | None:
    """The most bytes of memory that this process has held so far, or None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _detail_of_all(detail: Detail | None, state: PartialState) -> Detail | None:
    """That of all processes."""
    return detail if detail is None or state.num_processes == 1 else detail.merged(gather_object([detail]))


def _fps(times: list[float]) -> float | None:
    timed = times[WARM_UP:] or times
    return len(timed) / sum(timed) if timed else None


def _sum_over_processes(counts: np.ndarray, state: PartialState) -> np.ndarray:
    if state.num_processes == 1:
        return counts
    moved = torch.from_numpy(counts).to(state.device)
    torch.distributed.all_reduce(moved)
    return moved.cpu().numpy()
