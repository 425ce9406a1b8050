"""Frames of a video file, one by one, each with its time."""

import os
import re
import struct
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from crisscross.errors import CrissCrossError, CrissCrossWarning, import_extra

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
# What such files hold. FFmpeg reads more formats, such as playlists, and would open the files and URLs in them.
CONTAINERS = ("mov", "matroska", "avi", "mpeg", "mpegvideo", "mpegts", "asf", "flv", "ogg")
# Frames per second that are assumed where a file does not say.
USUAL_RATE = 25
# FFmpeg's numbers of an unspecified YUV matrix, and of the transfer curves of high dynamic range.
UNSPECIFIED = 2
HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}
# Height of an image from which an unspecified YUV matrix is that of high definition.
HIGH_DEFINITION = 720


def is_video_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file name is that of a video."""
    path = Path(path)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def pyav() -> Any:
    """The library PyAV, with its log kept quiet.

    Raises:
        CrissCrossError: it is not installed.
    """
    av = import_extra("av", "reading and writing video files", "video")
    av.logging.set_level(None)
    return av


def file_address(path: str | os.PathLike[str]) -> str:
    """A path with the protocol of files: FFmpeg takes what stands before a colon for the name of a protocol."""
    return f"file:{os.fspath(path)}"


class VideoFrame(NamedTuple):
    """A frame uint8 RGB [H, W, 3], as it is to be shown, and when: `pts` in units of the reader's `time_base` seconds,
    for `duration` such units (0 where the file does not say). `aspect` is the width of a pixel / its height."""

    image: np.ndarray
    pts: int
    duration: int
    aspect: Fraction = Fraction(1)


class Problem(NamedTuple):
    """Something in a file that could not be read: when, in seconds from its beginning (None at its end), and what."""

    time: float | None
    text: str


class Placing(NamedTuple):
    """How a stored image becomes the one that is shown: rows and columns exchanged first, then mirrored."""

    transposed: bool = False
    mirrored: bool = False
    upside_down: bool = False

    @classmethod
    def from_matrix(cls, matrix: bytes) -> "Placing":
        """Of a display matrix: nine int32 (a, b, u, c, d, v, x, y, w) that send a stored point (p, q) to
        (a p + c q + x, b p + d q + y). Angles are rounded to quarters; a matrix of zeros changes nothing."""
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The image [H, W, 3] as it is shown."""
        image = image.transpose(1, 0, 2) if self.transposed else image
        image = image[:, ::-1] if self.mirrored else image
        return np.ascontiguousarray(image[::-1] if self.upside_down else image)


class VideoReader:
    """The first image stream of a video file. Use it in a `with` statement and iterate over it once.

    Args:
        path: the file.

    Attributes:
        time_base: seconds, a fraction, that `VideoFrame.pts` counts.
        rate: frames a second on average, a fraction.
        expected: number of frames that the file announces, or an estimate from its length; 0 where neither is known.
        seconds: when its last frame ends, or None.
        problems: what could not be read so far. The frames concerned are left out; the others go on.

    Raises:
        CrissCrossError: PyAV is not installed, no such file, or one without readable video.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.av = Path(path), pyav()
        self.problems: list[Problem] = []
        self.container = self._opened()
        self.stream = self._video_stream()
        stream = self.stream
        self.time_base = stream.time_base or Fraction(1, USUAL_RATE)
        self.rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(USUAL_RATE)
        self.seconds = self._length()
        # Containers with a whole index (MP4, MOV, AVI) list every frame that is there, others a few of them.
        self.indexed = sum(entry.size > 0 for entry in stream.index_entries)
        self.expected = stream.frames or round((self.seconds or 0) * self.rate)
        self.packets, self.end = 0, 0

    def _opened(self) -> Any:
        if not self.path.is_file():
            raise CrissCrossError(f"{self.path}: no such file")
        if self.path.stat().st_size == 0:
            raise CrissCrossError(f"{self.path}: empty file (0 bytes)")
        options = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
        try:
            # Titles and the like are in whatever encoding their writer used.
            return self.av.open(file_address(self.path), options=options, metadata_errors="replace")
        except (self.av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CrissCrossError(
                f"{self.path}: not a readable video ({reason}): it is truncated, or none of {', '.join(CONTAINERS)}"
            ) from None

    def _video_stream(self) -> Any:
        streams = self.container.streams.video
        # The cover image of an audio file is a video stream, too.
        moving = [stream for stream in streams if not stream.disposition & self.av.stream.Disposition.attached_pic]
        if not moving:
            kinds = ", ".join(sorted({stream.type for stream in self.container.streams})) or "nothing"
            self.container.close()
            raise CrissCrossError(f"{self.path}: no video in it (it holds: {kinds})")
        if moving[0].codec_context is None:
            self.container.close()
            raise CrissCrossError(f"{self.path}: its images are coded in a way that PyAV here cannot decode")
        return moving[0]

    def _length(self) -> float | None:
        """When the last image ends, in seconds from time 0; sound beside them may be longer."""
        stream, alone = self.stream, len(self.container.streams) == 1
        if stream.duration:
            return float(((stream.start_time or 0) + stream.duration) * self.time_base)
        # Matroska stores the length of a stream as text, such as 00:00:01.040000000.
        if found := re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d*)?)", stream.metadata.get("DURATION", "")):
            return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])
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
        last = None
        step = max(round(1 / (self.rate * self.time_base)), 1)
        size = None
        for frame in self._decoded():
            if size is None:
                self._warn_of_high_dynamic_range(frame)
            size = size or (frame.width, frame.height)
            pts = frame.pts if frame.pts is not None else (0 if last is None else last + step)
            if last is not None and pts <= last:
                pts = last + 1
            if frame.is_corrupt:
                self.problems.append(Problem(float(pts * self.time_base), "a damaged frame, shown as far as it goes"))
            last = pts
            yield self._shown(frame, size, pts)
        if last is None:
            reason = f": {self.problems[0].text}" if self.problems else ""
            raise CrissCrossError(f"{self.path}: not one frame of it can be decoded{reason}")
        self._check_end(step)

    def _shown(self, frame: Any, size: tuple[int, int], pts: int) -> VideoFrame:
        """A decoded frame as it is to be shown. A stream may change its size; the output cannot."""
        matrix = None
        if frame.colorspace == UNSPECIFIED and not frame.format.is_rgb:
            matrix = "ITU709" if frame.height >= HIGH_DEFINITION else "ITU601"
        image = frame.reformat(*size, "rgb24", src_colorspace=matrix).to_ndarray()
        found = [bytes(entry) for entry in frame.side_data if entry.type.name == "DISPLAYMATRIX"]
        placing = Placing.from_matrix(found[0]) if found else Placing()
        aspect = self.stream.sample_aspect_ratio or Fraction(1)
        return VideoFrame(placing(image), pts, frame.duration or 0, 1 / aspect if placing.transposed else aspect)

    def _warn_of_high_dynamic_range(self, frame: Any) -> None:
        if curve := HIGH_DYNAMIC_RANGE.get(int(frame.color_trc)):
            warnings.warn(
                f"{self.path}: high dynamic range ({curve}) is shown as it is stored, without tone mapping; networks "
                "that were trained on usual images see it flat and pale",
                CrissCrossWarning,
                stacklevel=2,
            )

    def _check_end(self, step: int) -> None:
        """Note where not all that the container announces is there.

        What is announced need not be shown: edit lists hide frames, some are left out, the last one may be held.
        """
        if self.packets < self.indexed:
            self._truncated(f"{self.packets} frames", f"{self.indexed}")
        elif self.packets > self.indexed and self.seconds:
            end, announced = float(self.end * self.time_base), self.seconds
            if end < announced - 2 * float(step * self.time_base):
                self._truncated(f"{end:.2f} s", f"{announced:.2f} s")

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
                packet = next(packets)
            except StopIteration:
                return
            except self.av.FFmpegError as error:
                self.problems.append(Problem(None, f"ends early ({error.strerror}): the file is truncated or damaged"))
                return
            if packet.size:
                self.packets += 1
                time = packet.dts if packet.pts is None else packet.pts
                self.end = max(self.end, (time or 0) + (packet.duration or 0))
            yield packet
