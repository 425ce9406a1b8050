"""Frames of a video file, one by one, each with its time."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from crisscross.errors import CrissCrossError

VIDEO_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".wmv",
    ".flv",
    ".ogv",
    ".3gp",
)
# Frames a second that are assumed where a file tells none.
USUAL_RATE = 25


def is_video_file(path: Path) -> bool:
    """Whether the name is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def pyav() -> Any:
    """The library PyAV, with its log kept quiet.

    Raises:
        CrissCrossError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise CrissCrossError(f"video files need PyAV: pip install 'crisscross-seg[video]' ({error})") from error
    av.logging.set_level(None)
    return av


class VideoFrame(NamedTuple):
    """A frame uint8 RGB [H, W, 3], upright, and when it is shown: `pts` in units of the reader's `time_base` seconds,
    for `duration` such units (0 where the file does not tell)."""

    picture: np.ndarray
    pts: int
    duration: int


class Problem(NamedTuple):
    """Something in a file that could not be read: when, in seconds from its beginning (None at its end), and what."""

    time: float | None
    text: str


def upright(picture: np.ndarray, degrees: float) -> np.ndarray:
    """A stored frame [H, W, 3] turned counterclockwise by the file's own word, in quarters."""
    quarters = round(degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, quarters)) if quarters else picture


class VideoReader:
    """The first picture stream of a video file. Use it in a `with` statement and iterate over it once.

    Args:
        path: the file.

    Attributes:
        time_base: seconds, a fraction, that `VideoFrame.pts` counts.
        rate: frames a second on average, a fraction.
        expected: number of frames that the file announces, or an estimate from its length; 0 where neither is told.
        seconds: its length, or None.
        aspect: width of a stored pixel / its height.
        problems: what could not be read so far. The frames concerned are left out; the others go on.

    Raises:
        CrissCrossError: PyAV is not installed, no such file, or one without readable pictures in motion.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.av = path, pyav()
        self.problems: list[Problem] = []
        self.container = self._opened()
        self.stream = self._video_stream()
        stream = self.stream
        self.time_base = stream.time_base or Fraction(1, USUAL_RATE)
        self.rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(USUAL_RATE)
        self.seconds = self._length()
        self.announced = stream.frames
        self.expected = stream.frames or round((self.seconds or 0) * self.rate)
        self.aspect = stream.sample_aspect_ratio or Fraction(1)

    def _opened(self) -> Any:
        if not self.path.is_file():
            raise CrissCrossError(f"{self.path}: no such file")
        if self.path.stat().st_size == 0:
            raise CrissCrossError(f"{self.path}: empty file (0 bytes)")
        try:
            return self.av.open(str(self.path))
        except (self.av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CrissCrossError(
                f"{self.path}: not a readable video: {reason}; it is of another kind or truncated"
            ) from error

    def _video_stream(self) -> Any:
        streams = self.container.streams.video
        # The cover picture of a sound file is such a stream, too.
        moving = [stream for stream in streams if not stream.disposition & self.av.stream.Disposition.attached_pic]
        if not moving:
            kinds = ", ".join(sorted({stream.type for stream in self.container.streams})) or "nothing"
            self.container.close()
            raise CrissCrossError(f"{self.path}: no pictures in motion in it (it holds: {kinds})")
        if moving[0].codec_context is None:
            self.container.close()
            raise CrissCrossError(f"{self.path}: its pictures are coded in a way that PyAV here cannot decode")
        return moving[0]

    def _length(self) -> float | None:
        """Seconds of the pictures; sound beside them may be longer."""
        stream, alone = self.stream, len(self.container.streams) == 1
        if stream.duration:
            return float(stream.duration * self.time_base)
        # Matroska tells the length of a stream as a text, such as 00:00:01.040000000.
        if told := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):
            return int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3])
        return self.container.duration / self.av.time_base if self.container.duration and alone else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.close()

    def __iter__(self) -> Iterator[VideoFrame]:
        """The frames in the order in which they are shown. Their times rise; a frame without one follows its
        predecessor at the average rate.

        Raises:
            CrissCrossError: not one frame could be decoded.
        """
        first, last, count = 0, None, 0
        step = max(round(1 / (self.rate * self.time_base)), 1)
        size = None
        for frame in self._decoded():
            size = size or (frame.width, frame.height)
            pts = frame.pts if frame.pts is not None else (0 if last is None else last + step)
            if last is not None and pts <= last:
                pts = last + 1
            if frame.is_corrupt:
                self.problems.append(Problem(float(pts * self.time_base), "a damaged frame, shown as far as it goes"))
            # A stream may change its size; the output cannot.
            picture = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
            first, last, count = pts if last is None else first, pts, count + 1
            yield VideoFrame(upright(picture, frame.rotation), pts, frame.duration or 0)
        if last is None:
            reason = f": {self.problems[0].text}" if self.problems else ""
            raise CrissCrossError(f"{self.path}: not one frame of it can be decoded{reason}")
        lost = sum(problem.time is not None for problem in self.problems)
        shown = float((last - first + step) * self.time_base)
        if count + lost < self.announced:
            self._truncated(f"{count} frames", f"{self.announced}")
        elif not self.announced and self.seconds and shown < self.seconds - 2 * float(step * self.time_base):
            self._truncated(f"{shown:.2f} s", f"{self.seconds:.2f} s")

    def _truncated(self, found: str, announced: str) -> None:
        self.problems.append(Problem(None, f"ends after {found}, but announces {announced}: the file is truncated"))

    def _decoded(self) -> Iterator[Any]:
        for packet in self._packets():
            try:
                frames = packet.decode()
            except self.av.FFmpegError as error:
                time = None if packet.pts is None else float(packet.pts * self.time_base)
                self.problems.append(Problem(time, f"a frame that cannot be decoded ({error.strerror})"))
                continue
            yield from frames

    def _packets(self) -> Iterator[Any]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                yield next(packets)
            except StopIteration:
                return
            except self.av.FFmpegError as error:
                self.problems.append(Problem(None, f"ends early ({error.strerror}): the file is truncated or damaged"))
                return
