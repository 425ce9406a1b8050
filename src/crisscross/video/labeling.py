"""A video through a network: decode, label, draw, encode, side by side, in constant memory."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from crisscross.data.color import colorise, overlay
from crisscross.errors import CrissCrossError
from crisscross.files import write_atomically
from crisscross.inference import Predictor, predictor_of
from crisscross.video.reading import Problem, VideoFrame, VideoReader
from crisscross.video.writing import VideoWriter, check_suffix

if TYPE_CHECKING:
    from crisscross.models import Segmenter

VIEWS = ("overlay", "color")
# Frames that are read ahead of the network, and labeled ones that wait to be drawn and written.
AHEAD = 3
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class VideoResult:
    """A finished video: `frames` were labeled in `elapsed` seconds; `seconds` is how long they play.

    `problems`: the parts of the source that could not be read.
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


def predict_video(
    network: "Segmenter | Predictor",
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    view: str = "overlay",
    tta: bool = False,
    done: Callable[[VideoResult, int], object] = lambda result, expected: None,
) -> VideoResult:
    """Label a video file and write it with its labels: as many frames, at the same times.

    A frame that cannot be decoded is left out, so that the one before it stays on the screen; the times of all others
    are their own. Sound is left out. `out` appears when all is done; after an error or Ctrl-C it is as it was before.
    A thread decodes ahead of the network, and another draws and encodes behind it.

    Args:
        network: any network that labels pixels, or a predictor.
        source: the video.
        out: the file to write, `.mp4`, `.m4v`, `.mov`, `.mkv` or `.webm`.
        view: `overlay` (labels over the frames) or `color` (labels alone).
        tta: multi-scale + flip.
        done: called after every frame with the result so far and the number of frames expected (0 = unknown).

    Raises:
        CrissCrossError: `source` is no readable video, has fewer frames than the network's clips, or `out` cannot be
            written.
    """
    predictor, source, out = predictor_of(network), Path(source), Path(out)
    check_suffix(out)
    if out.resolve() == source.resolve():
        raise CrissCrossError(f"{out}: would overwrite the video that is read; choose another --out")
    began, result = time.perf_counter(), VideoResult(source, out, 0, 0.0, 0.0, ())

    def write(temporary: Path) -> None:
        nonlocal result
        with (
            VideoReader(source) as reader,
            VideoWriter(temporary, out.suffix, reader.time_base, reader.rate) as writer,
            # Threads end before the files are closed.
            closing(_written(predictor, reader, writer, view, tta)) as written,
        ):
            first = None
            for number, frame in enumerate(written, 1):
                first = frame.pts if first is None else first
                length = frame.duration or round(1 / (reader.rate * reader.time_base))
                seconds = float((frame.pts - first + length) * reader.time_base)
                elapsed = time.perf_counter() - began
                result = VideoResult(source, out, number, seconds, elapsed, tuple(reader.problems))
                done(result, reader.expected)
            result = VideoResult(source, out, result.frames, result.seconds, result.elapsed, tuple(reader.problems))

    try:
        write_atomically(out, write)
    except CrissCrossError as error:
        # Errors of the network name frames, not files.
        line = str(error)
        raise error if str(source) in line or str(out) in line else CrissCrossError(f"{source}: {line}") from None
    return result


def _written(
    predictor: Predictor, reader: VideoReader, writer: VideoWriter, view: str, tta: bool
) -> Generator[VideoFrame, None, None]:
    """The frames that were read, each when it is written with its labels."""
    palette = predictor.palette

    def draw(found: tuple[VideoFrame, np.ndarray]) -> VideoFrame:
        frame, labels = found
        drawn = colorise(labels, palette) if view == "color" else overlay(frame.image, labels, palette)
        writer.write(frame._replace(image=drawn))
        return frame

    with closing(_read_ahead(reader)) as frames:
        labeled = predictor.label_items(((frame, frame.image) for frame in frames), tta)
        with closing(_written_behind(labeled, draw)) as written:
            yield from written


def _read_ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The items, up to `AHEAD` of which a thread makes before they are asked for."""
    rest: Iterator[Any] = iter(items)
    end: Any = object()
    pool = ThreadPoolExecutor(1, "reading")
    try:
        waiting = deque(pool.submit(next, rest, end) for _ in range(AHEAD))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, rest, end))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


def _written_behind(items: Iterable[Item], write: Callable[[Item], Made]) -> Generator[Made, None, None]:
    """`write` of each item, in order, in a thread; up to `AHEAD` of them wait for it."""
    pool = ThreadPoolExecutor(1, "writing")
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(write, item))
            while waiting and (waiting[0].done() or len(waiting) > AHEAD):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
