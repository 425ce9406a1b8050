"""Frames into a video file, one by one, at the times that they are given."""

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from crisscross.errors import CrissCrossError
from crisscross.video.reading import VideoFrame, file_address, pyav

# Suffix -> container, codec and its settings. Containers that keep no times of single frames (.avi) are left out.
# H.264 goes without frames that look ahead: the file then holds the times as they are, without shifts.
H264 = ("libx264", {"crf": "18", "preset": "fast", "bf": "0"})
VP9 = ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4"})
OUTPUT_SUFFIXES: dict[str, tuple[str, tuple[str, dict[str, str]]]] = {
    ".mp4": ("mp4", H264),
    ".m4v": ("mp4", H264),
    ".mov": ("mov", H264),
    ".mkv": ("matroska", H264),
    ".webm": ("webm", VP9),
}


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Refuse a name that no container belongs to.

    Raises:
        CrissCrossError: it does.
    """
    path = Path(path)
    if path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise CrissCrossError(f"{path}: cannot write a {path.suffix or 'nameless'} video; known: {known_suffixes()}")


def known_suffixes() -> str:
    """All suffixes that can be written, for messages."""
    return ", ".join(OUTPUT_SUFFIXES)


class VideoWriter:
    """A new video file. Use it in a `with` statement; the file is whole when that ends.

    Args:
        path: the file to write.
        suffix: `.mp4` ...: decides on container and codec, whatever the path is called.
        time_base: what the times of the frames count, as `VideoReader.time_base`.
        rate: frames a second on average, which players show and encoders plan by.

    H.264 (VP9 in .webm) at good quality, 4:2:0, or 4:4:4 where a side is odd; colors by BT.709. MP4 and MOV keep times
    exactly, Matroska and WebM to the millisecond.
    """

    def __init__(self, path: str | os.PathLike[str], suffix: str, time_base: Fraction, rate: Fraction) -> None:
        self.av, self.time_base = pyav(), time_base
        container, (codec, self.options) = OUTPUT_SUFFIXES[suffix.lower()]
        self.container = self.av.open(file_address(path), "w", format=container)
        self.stream = self.container.add_stream(codec, rate=rate, options=dict(self.options))
        self.sized = False

    def write(self, frame: VideoFrame) -> None:
        """Add a frame; all have the size and the aspect of the first, and their times rise.

        Raises:
            CrissCrossError: it cannot be encoded or written.
        """
        if not self.sized:
            self._settle(frame)
        image = self.av.VideoFrame.from_ndarray(frame.image, format="rgb24")
        coded = image.reformat(format=self.stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG")
        coded.pts, coded.time_base, coded.duration = frame.pts, self.time_base, frame.duration
        self._mux(coded)

    def _settle(self, frame: VideoFrame) -> None:
        height, width = frame.image.shape[:2]
        context = self.stream.codec_context
        context.width, context.height = width, height
        context.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        context.time_base, self.stream.time_base = self.time_base, self.time_base
        context.sample_aspect_ratio = frame.aspect
        # BT.709, and the range of television.
        context.color_primaries = context.color_trc = context.colorspace = 1
        context.color_range = 1
        self.sized = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.sized:
                self._mux(None)
        finally:
            self.container.close()

    def _mux(self, frame: Any) -> None:
        """Encode a frame (None: what is left) and write it."""
        try:
            self.container.mux(self.stream.encode(frame))
        except self.av.FFmpegError as error:
            size = f"{self.stream.width} x {self.stream.height}"
            raise CrissCrossError(f"a video of {size} cannot be written: {error.strerror}") from None
