"""A video through a network: decode, label, draw, encode, one frame after the other in constant memory."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crisscross.data.color import colorise, overlay
from crisscross.data.files.reading import read_image
from crisscross.errors import CrissCrossError
from crisscross.files import write_atomically
from crisscross.models import Segmenter
from crisscross.video.reading import Problem, VideoFrame, VideoReader
from crisscross.video.writing import VideoWriter, check_suffix

VIEWS = ("overlay", "color")


@dataclass(frozen=True)
class VideoResult:
    """A finished video: `frames` were labeled in `elapsed` seconds; `seconds` is the time that they fill on a screen.

    `problems`: what of the source could not be read.
    """

    source: Path
    written: Path
    frames: int
    seconds: float
    elapsed: float
    problems: tuple[Problem, ...]

    @property
    def fps(self) -> float:
        """Frames a second, all work counted."""
        return self.frames / max(self.elapsed, 1e-9)

    @property
    def realtime(self) -> float:
        """Seconds of video a second; 1 or more keeps up with a camera."""
        return self.seconds / max(self.elapsed, 1e-9)


def label_frames(
    segmenter: Segmenter, frames: "Iterable[str | np.ndarray | Any]", tta: bool = False
) -> Iterator[np.ndarray]:
    """Labels uint8 [H, W] of each frame of a video, in order.

    Args:
        segmenter: any network; one for clips looks at the frames around each, and its labels come later by as many
            frames as it looks ahead.
        frames: whatever `Segmenter.predict` takes: uint8 arrays [H, W, 3], PIL images, paths. They are asked for one
            by one and none is kept longer than it is needed.
        tta: multi-scale + flip.

    Raises:
        CrissCrossError: a frame cannot be read, or there are fewer than a network for clips needs.
    """
    for labels in segmenter.label_frames(map(_tensor, map(read_image, frames)), tta):
        yield labels.numpy()


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


def predict_video(
    segmenter: Segmenter,
    source: Path,
    out: Path,
    view: str = "overlay",
    tta: bool = False,
    done: Callable[[VideoResult, int], object] = lambda result, expected: None,
) -> VideoResult:
    """Label a video file and write it with its labels: as many frames, at the same times.

    A frame that cannot be decoded is left out, so that the one before it stays on the screen; the times of all others
    are their own. Sound is left out. `out` appears when all is done; after an error or Ctrl-C it is as it was before.

    Args:
        segmenter: any network.
        source: the video.
        out: the file to write, `.mp4`, `.m4v`, `.mov`, `.mkv` or `.webm`.
        view: `overlay` (labels over the frames) or `color` (labels alone).
        tta: multi-scale + flip.
        done: told after every frame: the result so far, and the number of frames expected (0 = unknown).

    Raises:
        CrissCrossError: `source` is no readable video, has fewer frames than the network's clips, or `out` cannot be
            written.
    """
    check_suffix(out)
    if out.resolve() == source.resolve():
        raise CrissCrossError(f"{out}: would overwrite the video that is read; choose another --out")
    began, told = time.perf_counter(), VideoResult(source, out, 0, 0.0, 0.0, ())

    def write(temporary: Path) -> None:
        nonlocal told
        with (
            VideoReader(source) as reader,
            VideoWriter(temporary, out.suffix, reader.time_base, reader.rate) as writer,
        ):
            first = None
            for number, frame in enumerate(_drawn(segmenter, reader, view, tta), 1):
                writer.write(frame)
                first = frame.pts if first is None else first
                length = frame.duration or round(1 / (reader.rate * reader.time_base))
                seconds = float((frame.pts - first + length) * reader.time_base)
                elapsed = time.perf_counter() - began
                told = VideoResult(source, out, number, seconds, elapsed, tuple(reader.problems))
                done(told, reader.expected)
            told = VideoResult(source, out, told.frames, told.seconds, told.elapsed, tuple(reader.problems))

    try:
        write_atomically(out, write)
    except CrissCrossError as error:
        # Errors of the network speak of frames, not of files.
        line = str(error)
        raise error if str(source) in line or str(out) in line else CrissCrossError(f"{source}: {line}") from error
    return told


def _drawn(segmenter: Segmenter, frames: Iterable[VideoFrame], view: str, tta: bool) -> Iterator[VideoFrame]:
    """The frames with their labels drawn; a network for clips holds some while it looks ahead."""
    waiting: deque[VideoFrame] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in frames:
            waiting.append(frame)
            yield frame.image

    for labels in label_frames(segmenter, images(), tta):
        frame = waiting.popleft()
        palette = segmenter.palette
        drawn = colorise(labels, palette) if view == "color" else overlay(frame.image, labels, palette)
        yield frame._replace(image=drawn)
