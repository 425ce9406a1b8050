"""Video files through a network: every frame, at its time, upright; and what becomes of files that are not whole."""

import struct
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_networks import TINY, film
from clips_data import draw_frame

import crisscross
from crisscross.cli import main
from crisscross.config import Experiment, apply_overrides
from crisscross.data.color import overlay
from crisscross.errors import CrissCrossError
from crisscross.inference import Predictor
from crisscross.models import create_segmenter
from crisscross.video import VideoFrame, VideoReader, VideoWriter, predict_video
from crisscross.video.labeling import AHEAD

av = pytest.importorskip("av")
pytestmark = pytest.mark.usefixtures("one_thread")

# Milliseconds: a film that stutters.
STUTTER = [0, 40, 80, 200, 240, 500, 540, 1000]


def read(path: Path) -> tuple[list[VideoFrame], VideoReader]:
    with VideoReader(path) as reader:
        return list(reader), reader


def seconds(path: Path) -> list[Fraction]:
    frames, reader = read(path)
    return [frame.pts * reader.time_base for frame in frames]


@pytest.fixture(scope="module")
def network() -> crisscross.Segmenter:
    """Knows nothing, but says different things at different places."""
    return tiny(0)


def tiny(frames: int) -> crisscross.Segmenter:
    torch.manual_seed(0)
    made = create_segmenter(apply_overrides(Experiment(), {**TINY, "model.frames": frames})).eval()
    made.head.attend.attention.gamma.data.fill_(0.7)
    return made


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    crisscross.save(network, path)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".mov"])
def test_frames_go_into_a_file_and_come_back_at_their_times(tmp_path, suffix):
    frames, reader = read(film(tmp_path / f"film{suffix}", STUTTER))
    assert [frame.pts * reader.time_base for frame in frames] == [Fraction(time, 1000) for time in STUTTER]
    assert not reader.problems
    for index, frame in enumerate(frames):
        assert np.abs(frame.image - draw_frame(index)[0].astype(int)).mean() < 3


def test_a_time_base_of_film_is_kept_to_the_fraction(tmp_path):
    film(tmp_path / "film.mp4", range(0, 30 * 1001, 1001), Fraction(1, 30000))
    assert seconds(tmp_path / "film.mp4") == [Fraction(1001 * index, 30000) for index in range(30)]


@pytest.mark.parametrize("frames", [0, 3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_labeled_film_has_as_many_frames_at_the_same_times(tmp_path, suffix, frames):
    source, out, told = film(tmp_path / "film.mp4", STUTTER), tmp_path / f"out{suffix}", []
    result = predict_video(
        tiny(frames), source, out, done=lambda found, expected: told.append((found.frames, expected))
    )
    assert seconds(out) == seconds(source)
    assert told == [(number, 8) for number in range(1, 9)] and result.frames == 8 and not result.problems
    assert result.seconds == pytest.approx(1.04) and result.realtime == pytest.approx(result.fps * 1.04 / 8)


def test_what_is_drawn_is_the_overlay_of_the_labels_of_that_very_frame(tmp_path, network):
    source = film(tmp_path / "film.mp4", STUTTER)
    predict_video(network, source, tmp_path / "out.mp4")
    shown = [frame.image for frame in read(source)[0]]
    errors = np.empty((8, 8))
    for row, drawn in enumerate(read(tmp_path / "out.mp4")[0]):
        for column, image in enumerate(shown):
            expected = overlay(image, network.predict(image).labels, network.palette)
            errors[row, column] = np.abs(drawn.image - expected.astype(int)).mean()
    assert errors.diagonal().max() < 6 and (errors.argmin(1) == range(8)).all()


def test_labels_alone(tmp_path, network):
    source = film(tmp_path / "film.mp4", STUTTER)
    predict_video(network, source, tmp_path / "out.mp4", view="color")
    colors = np.array(network.palette)
    image = read(tmp_path / "out.mp4")[0][0].image
    distance = np.abs(image[..., None, :] - colors.astype(int)).max(-1).min(-1)
    assert (distance < 30).mean() > 0.8


def test_odd_sides_stay_odd(tmp_path, network):
    predict_video(network, film(tmp_path / "film.mp4", STUTTER[:3], size=(47, 63)), tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4")[0][0].image.shape == (47, 63, 3)


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_film_that_is_stored_lying_is_turned_upright(tmp_path, degrees):
    """As telephones do. The file's own matrix says where the image's right hand goes."""
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        for index in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(index)[0], format="rgb24")))
        container.mux(stream.encode())
    head = path.read_bytes()
    place = head.index(b"tkhd") + 44
    right, down = (struct.unpack(">2i", head[place + at : place + at + 2 * 4]) for at in (0, 12))
    expected = {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}[right[0] >> 16, right[1] >> 16]
    assert (down[0] >> 16, down[1] >> 16) == (-(right[1] >> 16), right[0] >> 16)
    image = read(path)[0][0].image
    assert np.abs(image - np.rot90(draw_frame(0)[0], expected).astype(int)).mean() < 3


def damaged(path: Path, number: int) -> Path:
    """One frame of the file overwritten with zeros."""
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = path.read_bytes()
    place = content.index(packets[number])
    broken = path.with_name(f"broken{path.suffix}")
    broken.write_bytes(content[:place] + bytes(len(packets[number])) + content[place + len(packets[number]) :])
    return broken


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_a_corrupt_frame_is_reported_with_its_time_and_the_rest_goes_on(tmp_path, suffix, weights, capsys):
    broken = damaged(film(tmp_path / f"film{suffix}"), 10)
    assert main(["predict", str(weights), str(broken), "--out", str(tmp_path / "out.mp4"), "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert f"crisscross: {broken} at 0.400 s: a frame that cannot be decoded" in said.err
    assert "19 frames, 0.80 s of video" in said.out
    # Nothing stands at its place; all others are where they were.
    assert seconds(tmp_path / "out.mp4") == [Fraction(40 * index, 1000) for index in range(20) if index != 10]


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_a_truncated_file_gives_what_it_holds_and_says_so(tmp_path, suffix, network):
    whole = film(tmp_path / f"film{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(whole[: len(whole) * 2 // 3])
    result = predict_video(network, tmp_path / f"cut{suffix}", tmp_path / "out.mp4")
    assert 5 < result.frames < 15
    assert [problem.text for problem in result.problems] == [
        f"ends after {result.frames * 0.04:.2f} s, but announces 0.80 s: the file is truncated"
    ]


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_files_that_are_no_films_end_as_one_line(tmp_path, weights, capsys):
    sound(tmp_path / "sound.mp4")
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty.mp4").touch()
    whole = film(tmp_path / "film.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    unreadable = (
        "not a readable video (Invalid data found when processing input): it is truncated, or none of mov, matroska, "
        "avi, mpeg, mpegvideo, mpegts, asf, flv, ogg"
    )
    for name, message in {
        "sound.mp4": "no video in it (it holds: audio)",
        "text.mp4": unreadable,
        "empty.mp4": "empty file (0 bytes)",
        "cut.mp4": unreadable,
        "none.mp4": "no such file or folder",
    }.items():
        command = [
            "predict",
            str(weights),
            str(tmp_path / name),
            "--out",
            str(tmp_path / "out" / "x.mp4"),
            "--device",
            "cpu",
        ]
        assert main(command) == 2
        assert capsys.readouterr().err == f"crisscross: {tmp_path / name}: {message}\n"
    assert not list(tmp_path.glob("out/*"))


def test_a_list_of_other_files_is_no_film(tmp_path):
    film(tmp_path / "film.mp4")
    for name in ("list.mp4", "list.mkv", "list.ts"):
        (tmp_path / name).write_text("ffconcat version 1.0\nfile film.mp4\n")
        with pytest.raises(CrissCrossError, match="not a readable video"), VideoReader(tmp_path / name):
            pass


@pytest.mark.parametrize("name", ["12:30.mp4", "concat:other.mp4", "file:film.mp4", "%03d.mp4"])
def test_a_name_with_a_colon_is_that_of_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    film(Path("other.mp4"), range(0, 80, 40))
    film(Path(name), range(0, 200, 40))
    assert {path.name for path in tmp_path.iterdir()} == {"other.mp4", name}
    assert len(read(Path(name))[0]) == 5


def test_places_that_cannot_be_written(tmp_path, weights, capsys):
    source = film(tmp_path / "film.mp4", STUTTER[:2])
    film(tmp_path / "film.mkv", STUTTER[:2])
    (tmp_path / "taken").write_text("a file")
    for words, message in {
        ("--out", f"{tmp_path}/out.xyz"): "cannot write a .xyz video; known: .mp4, .m4v, .mov, .mkv, .webm",
        ("--out", f"{tmp_path}/taken"): "is a file; name a folder or a video file",
        ("--out", str(source)): "film.mp4: is an input; write to another place",
        (str(tmp_path / "film.mkv"), "--out", f"{tmp_path}/out"): "would both be written as",
        (str(tmp_path / "film.mkv"), "--out", f"{tmp_path}/out.mp4"): "is one video file, but there are 2 inputs",
        ("--out", f"{tmp_path}/taken/out.mp4"): "taken/out.mp4: cannot be written",
        ("--out", f"{tmp_path}/out.mp4", "--big"): "--big is for images",
    }.items():
        assert main(["predict", str(weights), str(source), *words, "--device", "cpu"]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv", "film.mp4", "taken"]


def test_folders_are_made_and_several_films_written_one_bad_one_aside(tmp_path, weights, capsys):
    film(tmp_path / "a.mp4", STUTTER[:3])
    film(tmp_path / "b.mkv", STUTTER[:2])
    (tmp_path / "c.mp4").write_text("no film")
    command = ["predict", str(weights), *(str(tmp_path / name) for name in ("a.mp4", "c.mp4", "b.mkv"))]
    assert main([*command, "--out", str(tmp_path / "new" / "deep"), "--device", "cpu"]) == 2
    assert sorted(path.name for path in (tmp_path / "new" / "deep").iterdir()) == ["a.mp4", "b.mp4"]
    said = capsys.readouterr()
    assert "a.mp4: 3 frames, 0.12 s of video in" in said.out and "x real time" in said.out
    assert "c.mp4: not a readable video" in said.err


def test_a_film_shorter_than_a_clip(tmp_path):
    source = film(tmp_path / "film.mp4", STUTTER[:2])
    with pytest.raises(CrissCrossError, match=r"film\.mp4: 2 frames, but the network takes clips of 3; [^\n]+$"):
        predict_video(tiny(3), source, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_without_the_library_there_is_one_line(tmp_path, weights, monkeypatch, capsys):
    source = film(tmp_path / "film.mp4", STUTTER[:2])
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["predict", str(weights), str(source), "--out", str(tmp_path / "out.mp4"), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("crisscross: reading and writing video files needs av: run `pip install '.[video]'`")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("frames", "most"), [(0, 1), (3, 4)])
def test_no_more_frames_are_held_than_the_clip_needs(tmp_path, frames, most):
    """However long the film: frames are asked for when the next label needs them."""
    asked = 0

    def images():
        nonlocal asked
        for index in range(12):
            asked += 1
            yield draw_frame(index)[0]

    for done, _ in enumerate(tiny(frames).predictor.label_frames(images()), 1):
        assert asked - done < most
    assert done == 12


def test_a_film_is_read_as_far_ahead_as_a_few_frames_and_no_further(tmp_path, network, monkeypatch):
    read, written = [], []
    frames, write = VideoReader.__iter__, VideoWriter.write

    def counted(reader):
        for frame in frames(reader):
            read.append(frame.pts)
            yield frame

    def slow(writer, frame):
        time.sleep(0.05)
        written.append(frame.pts)
        # Of three that are read ahead, one labeled, and three that wait for this thread.
        assert len(read) - len(written) <= 2 * AHEAD + 2
        write(writer, frame)

    def labeled_at_once(predictor, items, tta):
        return ((item, np.zeros((48, 64), np.uint8)) for item, _ in items)

    source = film(tmp_path / "film.mp4")
    monkeypatch.setattr(Predictor, "label_items", labeled_at_once)
    monkeypatch.setattr(VideoReader, "__iter__", counted)
    monkeypatch.setattr(VideoWriter, "write", slow)
    assert predict_video(network, source, tmp_path / "out.mp4").frames == 20
    assert written == read == sorted(read) and len(read) == 20


@pytest.mark.parametrize("part", ["reading", "network", "writing"])
def test_an_error_of_any_part_ends_all_of_them(part, tmp_path, network, monkeypatch):
    def broken(*words):
        raise CrissCrossError(f"no {part}")

    source = film(tmp_path / "film.mp4")
    places = {"reading": (VideoReader, "_shown"), "network": (Predictor, "_frame"), "writing": (VideoWriter, "write")}
    monkeypatch.setattr(*places[part], broken)
    before = threading.active_count()
    with pytest.raises(CrissCrossError, match=f"film.mp4: no {part}"):
        predict_video(network, source, tmp_path / "out.mp4")
    assert threading.active_count() == before and [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_ctrl_c_leaves_nothing_half_written(tmp_path, network):
    source, out = film(tmp_path / "film.mp4", STUTTER), tmp_path / "out" / "film.mp4"
    out.parent.mkdir()
    out.write_bytes(b"what was there before")

    def interrupt(result, expected):
        if result.frames == 4:
            # The new file is under way, beside the old one.
            assert len(list(out.parent.iterdir())) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_video(network, source, out, done=interrupt)
    assert [path.name for path in out.parent.iterdir()] == ["film.mp4"]
    assert out.read_bytes() == b"what was there before"


def test_what_an_encoder_refuses_is_one_line(tmp_path, network, monkeypatch):
    def full(self, packets):
        raise av.FFmpegError(28, "No space left on device")

    class Container:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        mux = full

    original = VideoWriter.__init__

    def made(self, *arguments):
        original(self, *arguments)
        self.container = Container(self.container)

    source = film(tmp_path / "film.mp4", STUTTER)
    monkeypatch.setattr(VideoWriter, "__init__", made)
    with pytest.raises(
        CrissCrossError, match=r"^[^\n]*film\.mp4: a video of 64 x 48 cannot be written: No space[^\n]*$"
    ):
        predict_video(network, source, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
