"""Small video files of many kinds, damaged by chance: frames of the right kind and a video of them, or one line.

The decoders are C libraries, so every file is read in a process of its own with a limit of memory and of time.
"""

import gc
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fuzzing import edited, edits, read_or_refused, tries
from hypothesis import given
from hypothesis import strategies as st

from crisscross.config import PreprocessConfig
from crisscross.inference import Card, Predictor
from crisscross.video import VideoFrame, VideoReader, predict_video
from crisscross.video.reading import is_video_file

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")]
av = pytest.importorskip("av")
resource = pytest.importorskip("resource")

HEIGHT, WIDTH, COUNT = 24, 32, 7
# Address space beside what the process has when it is forked (the threads of a codec take most of it), and seconds.
MEMORY, SECONDS = 6 << 30, 120


def bright() -> Predictor:
    """Labels pixels whose red is above 99."""
    plain = PreprocessConfig(mean=(99, 99, 99), std=(1, 1, 1))
    card = Card(("dark", "bright"), ((0, 0, 0), (200, 10, 10)), plain)
    return Predictor(lambda x: np.stack([0 * x[:, 0], x[:, 0]], 1), card)


def film(folder: Path, suffix: str, codec: str, **options: str) -> bytes:
    path = folder / f"film{suffix}"
    container = av.open(str(path), "w", options=options)
    stream = container.add_stream(codec, rate=10)
    stream.width, stream.height = WIDTH, HEIGHT
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(COUNT):
        image = np.stack([6 * x + 20 * number, 9 * y, 3 * x + 40 * number], 2).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, 10)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    container.close()
    return path.read_bytes()


KINDS = [
    *((".mp4", "libx264", {}), (".mp4", "libx264", {"movflags": "faststart"}), (".mov", "mpeg4", {})),
    *((".mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}), (".mkv", "libx264", {}), (".mkv", "ffv1", {})),
    *((".webm", "libvpx-vp9", {}), (".avi", "mpeg4", {}), (".avi", "mjpeg", {}), (".flv", "libx264", {})),
    *((".ts", "libx264", {}), (".mpg", "mpeg2video", {}), (".wmv", "wmv2", {})),
]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    folder = tmp_path_factory.mktemp("films")
    return [(suffix, film(folder, suffix, codec, **options)) for suffix, codec, options in KINDS]


def frames_hold(path: Path) -> None:
    """Frames are RGB of one size at rising times; problems are lines."""
    with VideoReader(path) as reader:
        last: VideoFrame | None = None
        for frame in reader:
            assert frame.image.dtype == np.uint8 and frame.image.ndim == 3 and frame.image.shape[2] == 3
            assert frame.image.flags["C_CONTIGUOUS"] and frame.aspect > 0 and frame.duration >= 0
            assert last is None or (frame.pts > last.pts and frame.image.shape == last.image.shape)
            last = frame
        assert all("\n" not in problem.text and len(problem.text) < 300 for problem in reader.problems)


def look(path: Path) -> None:
    """All that is done with a video from outside."""
    read_or_refused(frames_hold, path, where=path)
    out = path.with_name("out.mp4")
    out.unlink(missing_ok=True)
    result = read_or_refused(predict_video, bright(), path, out, where=path.parent)
    assert out.exists() == (result is not None)
    if result is not None:
        with VideoReader(out) as reader:
            assert sum(1 for _ in reader) == result.frames > 0


def apart(act: Callable[[Path], object], path: Path, report: Path) -> str:
    """What went wrong in a process of its own: nothing, a traceback, or how it was ended."""
    report.write_text("")
    process = os.fork()
    if not process:
        # What a codec left to the garbage collection waits for threads that are not here.
        gc.freeze()
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
            if pages:
                most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
            signal.alarm(SECONDS)
            warnings.simplefilter("ignore")
            act(path)
        except BaseException:
            report.write_text(traceback.format_exc())
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    return f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else report.read_text()


def test_whole_films_are_read(films: list[tuple[str, bytes]], tmp_path: Path) -> None:
    for suffix, content in films:
        path = tmp_path / f"film{suffix}"
        path.write_bytes(content)
        assert is_video_file(path) and not apart(look, path, tmp_path / "report")
        with VideoReader(path) as reader:
            assert sum(1 for _ in reader) == COUNT, suffix


@tries(800)
@given(st.integers(0, len(KINDS) - 1), edits)
def test_damaged_films(films: list[tuple[str, bytes]], tmp_path: Path, kind: int, changes: list) -> None:
    suffix, content = films[kind]
    path = tmp_path / f"film{suffix}"
    path.write_bytes(edited(content, changes))
    found = apart(look, path, tmp_path / "report")
    assert not found, found
