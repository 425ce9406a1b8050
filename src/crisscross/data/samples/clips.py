"""Clips: consecutive labeled frames of one video, found by the names of the images.

A clip never leaves its split: the frame before the first one of a split belongs to another, and would leak.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from crisscross.config import Experiment
from crisscross.data.cures import write_key
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.reading import read_pair
from crisscross.data.samples.loader import Read, TrainingSamples
from crisscross.data.samples.windows import count_of_frames, windows
from crisscross.errors import CrissCrossError

# Frames further apart than this times the usual distance in their video are not consecutive.
GAP = 1.5


def frame_of(name: str) -> tuple[str, int] | None:
    """Video and frame number in an image's name: `0001TP_006690` -> (`0001TP_`, 6690); None without a number
    at its end."""
    found = re.fullmatch(r"(.*?)(\d+)", name, re.DOTALL)
    return (found[1], int(found[2])) if found else None


def runs(dataset: DataSet, pairs: Iterable[Pair]) -> list[tuple[Pair, ...]]:
    """The pairs as runs of consecutive frames, each in order of time.

    Consecutive are the frames of one video whose numbers differ by at most 1.5 times the usual (most frequent) step of
    that video among these pairs. In a data set without `video`, and for names
    without a number, every image is a run of its own.
    """
    videos: dict[str, list[tuple[int, Pair]]] = {}
    alone = []
    for pair in pairs:
        if not dataset.video or (place := frame_of(pair.name)) is None:
            alone.append((pair,))
        else:
            videos.setdefault(place[0], []).append((place[1], pair))
    return [run for frames in videos.values() for run in _cut(sorted(frames, key=lambda frame: frame[0]))] + alone


def _cut(frames: list[tuple[int, Pair]]) -> Iterator[tuple[Pair, ...]]:
    steps = [after[0] - before[0] for before, after in pairwise(frames)]
    usual = Counter(steps).most_common(1)[0][0] if steps else 0
    run = [frames[0][1]]
    for step, (_, pair) in zip(steps, frames[1:], strict=True):
        if step > GAP * usual:
            yield tuple(run)
            run = []
        run.append(pair)
    yield tuple(run)


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of one run, and the places of those that are labeled."""

    pairs: tuple[Pair, ...]
    places: tuple[int, ...]

    @property
    def name(self) -> str:
        """The names of its labeled frames."""
        return " ".join(self.pairs[place].name for place in self.places)


def training_clips(dataset: DataSet, pairs: Sequence[Pair], length: int, label: str) -> tuple[Clip, ...]:
    """All clips to train on: with `middle` and `last` as many as there are frames, as in `windows`; with `every` all
    stretches of `length` frames, which overlap.

    Raises:
        CrissCrossError: the images are not known to be frames of videos, or a run is shorter than a clip.
    """
    if length > 1:
        check_video(dataset)
    found = []
    for run in runs(dataset, pairs):
        check_length(dataset, run, length)
        if label == "every":
            starts = range(len(run) - length + 1)
            found += [Clip(run[start : start + length], tuple(range(length))) for start in starts]
        else:
            found += [Clip(frames, places) for frames, places in windows(run, length, label)]
    return tuple(found)


def check_clips(dataset: DataSet, split: str, length: int) -> None:
    """Refuse a split that clips of `length` frames cannot be taken from; 0 and 1 frames are there in any.

    Raises:
        CrissCrossError: the images are not known to be frames of videos, or a run is shorter than a clip.
    """
    if length > 1:
        check_video(dataset)
        for run in runs(dataset, dataset.split(split)):
            check_length(dataset, run, length)


def check_video(dataset: DataSet) -> None:
    """Refuse a data set whose images are not known to be frames of videos.

    Raises:
        CrissCrossError: `dataset.video` is not set.
    """
    if not dataset.video:
        raise CrissCrossError(
            f"{dataset.root}: clips need consecutive frames, and {dataset.name} holds single images; where names are "
            f"VIDEO_NUMBER, {write_key(dataset.root, 'video: true')}; otherwise set model.frames=1"
        )


def check_length(dataset: DataSet, run: Sequence[Pair], length: int) -> None:
    """Refuse a run that is shorter than a clip.

    Raises:
        CrissCrossError: it is.
    """
    if len(run) < length:
        raise CrissCrossError(
            f"{dataset.root}: only {count_of_frames(len(run))} in a row at {run[0].name}, but a clip has {length}; "
            f"set model.frames to {len(run)} or less, or take these frames out of the split"
        )


class ClipSamples(TrainingSamples):
    """`TrainingSamples` of clips: sample n is a clip, and all its frames get the same resize, crop, flip and colors.

    A sample's images are float32 [T, 3, H, W], its labels uint8 [L, H, W] for the L labeled frames. `train.batch`
    counts clips.
    """

    def __init__(
        self, dataset: DataSet, pairs: tuple[Pair, ...], experiment: Experiment, read: Read = read_pair
    ) -> None:
        model = experiment.model
        self.clips = training_clips(dataset, pairs, model.frames, model.label)
        super().__init__(dataset, pairs, experiment, read)

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor, str]:
        clip = self.clips[self.place_at(n, len(self.clips))]
        # Frames that are repeated at the end of a video are read once.
        read = {pair: tuple(map(torch.from_numpy, self.read(pair, self.dataset))) for pair in dict.fromkeys(clip.pairs)}
        image = self._stacked([read[pair][0].permute(2, 0, 1) for pair in clip.pairs], clip)
        mask = torch.stack([read[clip.pairs[place]][1] for place in clip.places])
        return (*self.augmented(image, mask, n), clip.name)

    def _stacked(self, images: list[Tensor], clip: Clip) -> Tensor:
        for pair, image in zip(clip.pairs, images, strict=True):
            if image.shape != images[0].shape:
                sizes = " and ".join(f"{one.shape[2]} x {one.shape[1]}" for one in (images[0], image))
                raise CrissCrossError(f"{pair.image}: the frames of a clip must have one size, got {sizes}")
        return torch.stack(images)


def training_samples(dataset: DataSet, pairs: tuple[Pair, ...], experiment: Experiment, read: Read) -> TrainingSamples:
    """The stream of training samples that a network takes: images, or clips where `model.frames` is set."""
    kind = ClipSamples if experiment.model.frames else TrainingSamples
    return kind(dataset, pairs, experiment, read)
