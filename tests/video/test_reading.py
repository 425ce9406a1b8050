"""What a video file announces beside what it holds, which way up its frames are, and their colors."""

import struct
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from crisscross.errors import CrissCrossWarning
from crisscross.video import VideoFrame, VideoReader, VideoWriter

av = pytest.importorskip("av")

HEIGHT, WIDTH = 32, 48


def encode(
    path: Path, times, base: Fraction, rate: int = 10, b_frames: int = 0, last: float = 0, **options: str
) -> Path:
    """H.264 with a key frame every 12; `last`: seconds for which the last frame is held."""
    container = av.open(str(path), "w", options=options)
    stream = container.add_stream("libx264", rate=rate, options={"bf": str(b_frames), "g": "12"})
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.codec_context.time_base = base
    packets = []
    for index, time in enumerate(times):
        image = np.full((HEIGHT, WIDTH, 3), 60 + 5 * index, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = time, base
        packets += stream.encode(frame)
    packets += stream.encode(None)
    if last:
        packets[-1].duration = int(last / packets[-1].time_base)
    for packet in packets:
        container.mux(packet)
    container.close()
    return path


def remux(source: Path, target: Path, earlier: float = 0, **options: str) -> Path:
    """The same packets in another file, `earlier` seconds before: MP4 hides by an edit list what then lies before 0."""
    reader, writer = av.open(str(source)), av.open(str(target), "w", options=options)
    stream = reader.streams.video[0]
    copy, offset = writer.add_stream_from_template(stream), int(earlier / stream.time_base)
    for packet in reader.demux(stream):
        if packet.dts is not None:
            packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, copy
            writer.mux(packet)
    writer.close()
    return target


def read(path: Path) -> tuple[list[VideoFrame], list[str]]:
    with VideoReader(path) as reader:
        return list(reader), [problem.text for problem in reader.problems]


TENTHS = Fraction(1, 10)
MILLISECONDS = Fraction(1, 1000)
WHOLE = {
    "plain.mp4": (lambda path: encode(path, range(24), TENTHS), 24),
    # The first half second is hidden, and the first second and a half with more than one group of frames.
    "cut.mp4": (lambda path: remux(path.with_name("plain.mp4"), path, 0.5, avoid_negative_ts="disabled"), 19),
    "cut-far.mp4": (lambda path: remux(path.with_name("plain.mp4"), path, 1.5, avoid_negative_ts="disabled"), 9),
    "fragments.mp4": (lambda path: remux(path.with_name("plain.mp4"), path, movflags="frag_keyframe+empty_moov"), 24),
    "late.mkv": (lambda path: encode(path, range(2000, 3000, 100), MILLISECONDS), 10),
    "held.mkv": (lambda path: encode(path, range(0, 1000, 100), MILLISECONDS, last=5), 10),
    "ahead.flv": (lambda path: encode(path, range(24), Fraction(1, 25), rate=25, b_frames=3), 24),
    "ahead.mkv": (lambda path: encode(path, range(24), Fraction(1, 25), rate=25, b_frames=3), 24),
    "ahead.ts": (lambda path: encode(path, range(24), Fraction(1, 25), rate=25, b_frames=3), 24),
    "gaps.avi": (lambda path: encode(path, [0, 1, 2, 6, 7, 8, 12, 13], TENTHS), 8),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("whole")
    return {name: make(folder / name) for name, (make, _) in WHOLE.items()}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_not_called_truncated(whole, name):
    frames, problems = read(whole[name])
    assert (len(frames), problems) == (WHOLE[name][1], [])


@pytest.mark.parametrize("name", ["ahead.flv", "ahead.mkv", "late.mkv"])
def test_a_file_that_lacks_its_end_is(whole, tmp_path, name):
    content = whole[name].read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 3 // 4])
    frames, problems = read(tmp_path / name)
    assert 0 < len(frames) < WHOLE[name][1]
    assert problems[-1].endswith("the file is truncated"), problems


@pytest.mark.parametrize("text", [b"00:00:01.2.30000000", b"999999999:99:99.9999", b"..................."])
def test_a_length_that_is_no_number_is_passed_over(whole, tmp_path, text):
    content = whole["late.mkv"].read_bytes()
    # Two seconds before the first image and one second of images.
    length = b"00:00:03.000000000"
    assert content.count(length) == 1
    (tmp_path / "film.mkv").write_bytes(content.replace(length, text[: len(length)].ljust(len(length), b"0")))
    frames, _ = read(tmp_path / "film.mkv")
    assert len(frames) == 10


def test_titles_that_are_not_utf_8_do_not_matter(whole, tmp_path):
    container, path = av.open(str(whole["late.mkv"])), tmp_path / "film.mkv"
    with container, av.open(str(path), "w") as writer:
        source = container.streams.video[0]
        copy = writer.add_stream_from_template(source)
        writer.metadata["title"], copy.metadata["title"] = "sch\u00f6n", "sp\u00e4t"
        for packet in container.demux(source):
            if packet.dts is not None:
                packet.stream = copy
                writer.mux(packet)
    content = path.read_bytes()
    assert "sch\u00f6n".encode() in content and "sp\u00e4t".encode() in content
    # As another system writes them: one byte a letter.
    path.write_bytes(content.replace(b"sch\xc3\xb6n", b"sch\xf6n!").replace(b"sp\xc3\xa4t", b"sp\xe4t!"))
    assert len(read(path)[0]) == 10


def test_an_mp4_whose_index_stands_first_is_too(whole, tmp_path):
    content = remux(whole["plain.mp4"], tmp_path / "first.mp4", movflags="faststart").read_bytes()
    (tmp_path / "first.mp4").write_bytes(content[:-500])
    frames, problems = read(tmp_path / "first.mp4")
    assert 0 < len(frames) < 24 and problems[-1].endswith("but announces 24: the file is truncated")


# --- geometry ---

# a, b, c, d of a display matrix: a stored point (p, q) is shown at (a p + c q, b p + d q), up to a shift.
MATRICES = {
    "as stored": (1, 0, 0, 1),
    "a quarter to the right": (0, 1, -1, 0),
    "half": (-1, 0, 0, -1),
    "a quarter to the left": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "along the diagonal": (0, 1, 1, 0),
    "along the other diagonal": (0, -1, -1, 0),
    "nothing told": (0, 0, 0, 0),
}
# Quarters of the stored image: top left, top right, bottom left, bottom right.
CORNERS = {(-1, -1): (200, 30, 30), (1, -1): (30, 200, 30), (-1, 1): (30, 30, 200), (1, 1): (180, 180, 40)}


def at_corner(image: np.ndarray, x: int, y: int) -> np.ndarray:
    height, width = image.shape[:2]
    return image[height // 2 + y * height // 4, width // 2 + x * width // 4].astype(int)


@pytest.fixture(scope="module")
def quarters(tmp_path_factory) -> bytes:
    """An MP4 with one frame of four colors and pixels twice as wide as high."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for (x, y), color in CORNERS.items():
        rows, columns = slice(0, HEIGHT // 2), slice(0, WIDTH // 2)
        rows = slice(HEIGHT // 2, None) if y > 0 else rows
        image[rows, slice(WIDTH // 2, None) if x > 0 else columns] = color
    path = tmp_path_factory.mktemp("quarters") / "film.mp4"
    with VideoWriter(path, ".mp4", TENTHS, Fraction(10)) as writer:
        writer.write(VideoFrame(image, 0, 1, Fraction(2)))
    return path.read_bytes()


@pytest.mark.parametrize("name", MATRICES)
def test_frames_are_shown_as_the_display_matrix_says(quarters, tmp_path, name):
    a, b, c, d = MATRICES[name]
    content = bytearray(quarters)
    header = content.index(b"tkhd") + 4
    place = header + 4 + (32 if content[header] == 1 else 20) + 16
    struct.pack_into(">9i", content, place, a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    (tmp_path / "film.mp4").write_bytes(content)
    (frame,) = read(tmp_path / "film.mp4")[0]
    if not any((a, b, c, d)):
        a, d = 1, 1
    for (x, y), color in CORNERS.items():
        assert np.abs(at_corner(frame.image, a * x + c * y, b * x + d * y) - color).max() < 25, (x, y)
    lying = bool(b)
    assert frame.image.shape == ((WIDTH, HEIGHT, 3) if lying else (HEIGHT, WIDTH, 3))
    assert frame.aspect == (Fraction(1, 2) if lying else 2)


# --- colors ---


def stored(path: Path, height: int, space: int, transfer: int = 2) -> Path:
    """A lossless film of one color, Y = 81, U = 90, V = 240, with these tags (2: not told)."""
    container = av.open(str(path), "w")
    stream = container.add_stream("ffv1", rate=10)
    stream.width, stream.height, stream.pix_fmt = 16, height, "yuv420p"
    stream.codec_context.colorspace, stream.codec_context.color_trc = space, transfer
    frame = av.VideoFrame(16, height, "yuv420p")
    for plane, value in zip(frame.planes, (81, 90, 240), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    frame.pts, frame.colorspace, frame.color_trc = 0, space, transfer
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    container.close()
    return path


# By the standards' own coefficients, 16..235 brought to 0..255.
BT601, BT709, BT2020 = (254, 0, 0), (255, 24, 0), (255, 10, 0)


@pytest.mark.parametrize(
    ("height", "space", "color"),
    [(718, 2, BT601), (720, 2, BT709), (32, 1, BT709), (720, 6, BT601), (720, 5, BT601), (32, 9, BT2020)],
)
def test_colors_follow_the_matrix_that_is_told_or_else_the_number_of_lines(tmp_path, height, space, color):
    (frame,) = read(stored(tmp_path / "film.mkv", height, space))[0]
    assert np.abs(frame.image[height // 2, 8].astype(int) - color).max() <= 2


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_said_once(tmp_path, transfer, name):
    path = stored(tmp_path / "film.mkv", 32, 9, transfer)
    with pytest.warns(
        CrissCrossWarning, match=rf"film\.mkv: high dynamic range \({name}\).*without tone mapping"
    ) as told:
        read(path)
    assert len(told) == 1


def test_usual_films_are_read_without_a_word(whole):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(whole["plain.mp4"])
