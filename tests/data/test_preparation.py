"""Masks made from the files of a download: finished ones are skipped, stopping leaves whole files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paths import SOURCE
from PIL import Image
from preparing import files_below, refusal
from published_data import write_camvid32

from crisscross.cli import main
from crisscross.data import DATASETS
from crisscross.data.preparation import prepare
from crisscross.data.sets import camvid32
from crisscross.files import temporary_path


def unprepared(root: Path, count: int = 2) -> Path:
    """CamVid with color labels alone; the folder of its index labels."""
    index = write_camvid32(root, count) / camvid32.INDEX
    for path in index.iterdir():
        path.unlink()
    return index


def test_finished_files_are_left_alone_and_broken_off_ones_are_made(tmp_path: Path) -> None:
    index = unprepared(tmp_path, 3)
    prepare("camvid32", tmp_path)
    first, second, *_ = sorted(index.iterdir())
    wanted = second.read_bytes()
    first.write_bytes(b"mine")
    second.unlink()
    temporary_path(second, 99_999_999).write_bytes(b"half")
    done = prepare("camvid32", tmp_path)
    assert (done.written, done.skipped) == (1, 5)
    assert first.read_bytes() == b"mine" and second.read_bytes() == wanted
    assert not list(tmp_path.rglob("*.tmp"))


def test_files_that_another_run_is_writing_stay(tmp_path: Path) -> None:
    index = unprepared(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        half = temporary_path(index / "x.png", other.pid)
        half.write_bytes(b"half")
        prepare("camvid32", tmp_path)
        assert half.exists()
        other.kill()
    prepare("camvid32", tmp_path)
    assert not half.exists()


def test_another_folder_for_the_results(tmp_path: Path) -> None:
    unprepared(tmp_path / "in", 1)
    before = files_below(tmp_path / "in")
    prepare("camvid32", tmp_path / "in", tmp_path / "out")
    assert files_below(tmp_path / "in") == before
    names = ["0001TP_006690_L.png", "0016E5_007959_L.png"]
    assert sorted(files_below(tmp_path / "out")) == [f"{camvid32.INDEX}/{name}" for name in names]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ade20k", "ade20k needs no preparation; look at it with `crisscross data check"),
        ("cityscapes", "cityscapes needs no preparation"),
        ("camvid33", "no preparation for 'camvid33'; did you mean camvid32"),
        ("camvid32", "LabeledApproved_full: no such folder"),
        ("voc2012aug", "JPEGImages: no such folder; download VOCtrainval"),
    ],
)
def test_what_cannot_be_prepared(tmp_path: Path, name: str, message: str) -> None:
    assert message in refusal(name, tmp_path)


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    index = unprepared(tmp_path, 3)
    victim = sorted((tmp_path / camvid32.COLORS).iterdir())[2]
    victim.write_bytes(b"")
    assert refusal("camvid32", tmp_path) == f"{victim}: empty file (0 bytes)"
    # What was finished before the error stays.
    assert (index / sorted((tmp_path / camvid32.COLORS).iterdir())[0].name).is_file()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unprepared(tmp_path)
    words = ["data", "prepare", "camvid32", str(tmp_path)]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "4 files written, 0 were there already",
        f"next: crisscross data check {tmp_path} --name camvid32",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("0 files written, 4 were there already\n")
    assert main(["data", "prepare", "lip", str(tmp_path)]) == 2


def test_the_list_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    for name, known in DATASETS.items():
        # What people make themselves has no published numbers.
        assert bool(known.published) == bool(known.classes) == (name != "folder")
        assert (known.prepare is None) == (known.when == "not needed")
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("voc2012aug")]
    assert "train 10,582, val 1,449" in row and row.endswith("needed") and " 21 " in row
    assert len(lines) == 1 + len(DATASETS) - 1 + 2


def test_ctrl_c_leaves_whole_files_and_the_next_run_continues(tmp_path: Path) -> None:
    """Stopped in the middle by the terminal's signal to the whole group of processes."""
    index, colors = tmp_path / camvid32.INDEX, tmp_path / camvid32.COLORS
    index.mkdir()
    colors.mkdir()
    labels = np.random.default_rng(0).integers(0, 32, (256, 512))
    first = colors / "0001TP_000000_L.png"
    Image.fromarray(np.array(camvid32.PALETTE, np.uint8)[labels]).save(first)
    # So many that they are not done before the signal arrives.
    count = 120
    for number in range(1, count):
        os.link(first, colors / f"0001TP_{number:06}_L.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "crisscross", "data", "prepare", "camvid32", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    while len(list(index.glob("*.png"))) < 3 and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "the same command continues from there" in errors and "Traceback" not in errors
    finished = list(index.glob("*.png"))
    assert 3 <= len(finished) < count
    assert {np.asarray(Image.open(path)).shape for path in finished} == {(256, 512)}
    assert not list(index.glob(".*.tmp"))
    done = prepare("camvid32", tmp_path)
    assert (done.written, done.skipped) == (count - len(finished), len(finished))
