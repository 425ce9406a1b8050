"""Written files: where names lead, what commands replace, and what a killed process leaves."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from published_data import draw_camvid, voc_with_sbd
from shapes_data import write_shapes

from crisscross import checkpoints, files, zoo
from crisscross.cli import main
from crisscross.config import DataConfig, Experiment
from crisscross.data import DataSet, Pair, open_dataset, write_prediction
from crisscross.data.preparation import prepare
from crisscross.errors import CrissCrossError
from crisscross.inference import Card, Predictor
from crisscross.instances.annotations import open_coco_instances

UPWARDS = (
    "../x",
    "a/../../x",
    "/tmp/x",
    "..",
    ".",
    "",
    "a/..",
    "C:x",
    "C:\\x",
    "\\\\host\\x",
    "a\\..\\..\\x",
    "... ",
    "//x",
)


def draw(path: Path, shade: int = 90) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    yy, xx = np.mgrid[0:32, 0:48]
    Image.fromarray(np.stack([4 * xx, 4 * yy, np.full_like(xx, shade)], 2).astype(np.uint8)).save(path)
    return path.read_bytes()


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", [*UPWARDS, "a\0b", "\ud800"])
def test_names_that_lead_elsewhere(tmp_path, name):
    for function in (files.joined, files.output_path):
        with pytest.raises(CrissCrossError, match=r"^'.*' (does not name a file below|cannot be the name)"):
            function(tmp_path, name)


@pytest.mark.parametrize(
    "name", ["a", "a/b.png", "./a//b", "..a", "a..", ".a", "1:2 3", "ä/'", "con", "x" * 255, "\udcff"]
)
def test_names_that_stay(tmp_path, name):
    assert files.output_path(tmp_path, name) == files.joined(tmp_path, name) == tmp_path / name


def test_links_that_lead_out_of_the_folder(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "own").mkdir(parents=True), elsewhere.mkdir()
    (out / "link").symlink_to(elsewhere), (out / "inner").symlink_to(out / "own"), (out / "loop").symlink_to("loop")
    (tmp_path / "alias").symlink_to(out)
    with pytest.raises(CrissCrossError, match=r"link/x: a symbolic link leads out of .*out; write to the folder it"):
        files.output_path(out, "link/x")
    with pytest.raises(CrissCrossError, match=r"loop/x: cannot be written"):
        files.output_path(out, "loop/x")
    assert files.output_path(out, "inner/x") == out / "inner" / "x"
    assert files.output_path(tmp_path / "alias", "own/x") == tmp_path / "alias" / "own" / "x"
    # The link itself is a file in the folder, which is replaced; what it points to stays.
    (elsewhere / "kept").write_text("kept")
    (out / "kept").symlink_to(elsewhere / "kept")
    files.write_text(files.output_path(out, "kept"), "new")
    assert (elsewhere / "kept").read_text() == "kept" and (out / "kept").read_text() == "new"


def test_names_as_long_as_the_system_takes_and_longer(tmp_path):
    for count in (255, 127):
        name = ("x" if count == 255 else "ä") * count
        files.write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"
    with pytest.raises(CrissCrossError, match=r"x: cannot be written: File name too long"):
        files.write_text(tmp_path / ("x" * 256), "")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["cityscapes", "ade20k", "voc2012", "mine"])
def test_predictions_stay_in_their_folder(tmp_path, name):
    labels = np.zeros((4, 4), np.uint8)
    for bad in ("../../../../../x", str(tmp_path / "x")):
        dataset = DataSet(name, tmp_path, ("a", "b"), ((0, 0, 0), (1, 1, 1)), {})
        with pytest.raises(CrissCrossError, match="does not name a file below"):
            write_prediction(dataset, Pair(bad, tmp_path / "a.jpg", tmp_path / "a.png"), labels, tmp_path / "out")
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("listed", ["train", "aug"])
def test_lists_of_voc_read_and_write_in_their_folder(tmp_path, listed):
    root = voc_with_sbd(tmp_path)
    devkit = root / "VOCdevkit" / "VOC2012"
    stolen = "../../../../stolen"
    if listed == "train":
        with (devkit / "ImageSets" / "Segmentation" / "train.txt").open("a") as file:
            file.write(f"{stolen}\n")
        with pytest.raises(CrissCrossError, match=rf"'{stolen}.jpg' does not name a file below"):
            open_dataset("voc2012", root)
    else:
        (sbd,) = [path.parent for path in root.rglob("cls")]
        with (sbd / "train.txt").open("a") as file:
            file.write(f"{stolen}\n")
        before = below(tmp_path)
        with pytest.raises(CrissCrossError, match=rf"'{stolen}\.png' does not name a file below"):
            prepare("voc2012aug", root, tmp_path / "out")
        assert below(tmp_path) == before


def test_a_list_of_others_stays(tmp_path):
    root, out = voc_with_sbd(tmp_path), tmp_path / "out"
    path = out / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "aug.txt"
    path.parent.mkdir(parents=True)
    path.write_text("mine\n")
    with pytest.raises(CrissCrossError, match=r"aug\.txt: lists other images than SBD's; move it away"):
        prepare("voc2012aug", root, out)
    assert path.read_text() == "mine\n" and below(out) == {str(path.relative_to(out)): b"mine\n"}


def test_annotations_name_images_of_their_folder(tmp_path):
    (tmp_path / "val2017").mkdir()
    image = {"id": 1, "file_name": "../../secret.jpg", "height": 2, "width": 2}
    content = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    with pytest.raises(CrissCrossError, match=r"'\.\./\.\./secret\.jpg' does not name a file below"):
        open_coco_instances(tmp_path).split("val")


def test_masks_are_not_written_through_links(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    colors = tmp_path / "data" / "LabeledApproved_full"
    colors.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(colors / "0001TP_000000_L.png")
    (tmp_path / "data" / "LabeledIndex_full").symlink_to(other)
    with pytest.raises(CrissCrossError, match="leads out of"):
        prepare("camvid32", tmp_path / "data")
    assert not below(other)


def bright(x: np.ndarray) -> np.ndarray:
    """Logits of dark and bright pixels."""
    return np.concatenate([-x[:, :1], x[:, :1]], axis=1)


def predict(*words: object) -> int:
    card = Card.of(Experiment(data=DataConfig(classes=("dark", "bright"))))
    with mock.patch("crisscross.api.networks.Wanted.load", return_value=Predictor(bright, card)):
        return main(["predict", "camvid-light", *map(str, words), "--device", "cpu"])


def test_predict_replaces_neither_inputs_nor_foreign_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    original = draw(Path("labels/p0.png"))
    assert predict("labels/p0.png", "--out", ".") == 2
    assert "labels/p0.png: is an input; write to another place" in capsys.readouterr().err
    assert below(tmp_path) == {"labels/p0.png": original}
    # The last of the three outputs is in the way: none is written.
    overlay = draw(Path("out/overlay/p0.png"))
    assert predict("labels/p0.png", "--out", "out") == 2
    assert "overlay/p0.png: exists, and there is no record that crisscross wrote it" in capsys.readouterr().err
    assert below(tmp_path) == {"labels/p0.png": original, "out/overlay/p0.png": overlay}
    assert predict("labels/p0.png", "--out", "out", "--force") == 0
    assert Path("out/overlay/p0.png").read_bytes() != overlay and Path("labels/p0.png").read_bytes() == original


def test_a_repeated_command_replaces_its_own_unchanged_files(tmp_path, capsys):
    out = tmp_path / "out"
    draw(tmp_path / "in" / "p0.png")
    assert predict(tmp_path / "in", "--out", out) == 0
    first = below(out)
    assert predict(tmp_path / "in", "--out", out) == 0
    assert below(out) == first and len(first) == 4
    # What we wrote is an input now.
    assert predict(out / "overlay" / "p0.png", "--out", out) == 2
    assert "overlay/p0.png: is an input" in capsys.readouterr().err
    # Somebody corrects labels by hand.
    corrected = draw(out / "labels" / "p0.png", 7)
    assert predict(tmp_path / "in", "--out", out) == 2
    assert "labels/p0.png: exists" in capsys.readouterr().err
    assert below(out) == first | {"labels/p0.png": corrected}


@pytest.mark.parametrize(
    "command", ["check", "check json", "report", "convert", "convert folder", "big", "demo", "benchmark"]
)
def test_no_command_replaces_a_foreign_file(tmp_path, capsys, command):
    mine, data = tmp_path / "mine", write_shapes(tmp_path / "data", 2, 1)
    words = {
        "check": ["data", "check", data, "--plot", mine],
        "check json": ["data", "check", data, "--plot", tmp_path / "x.png", "--json", mine],
        "report": ["report", tmp_path, "--out", mine],
        "convert": ["convert", "camvid-light", mine],
        "convert folder": ["convert", "camvid-light", tmp_path / "hub"],
        "big": ["predict", "camvid-light", data / "images" / "p00.png", "--big", "--out", tmp_path / "big"],
        "demo": ["demo", "--out", tmp_path / "demo"],
        "benchmark": ["benchmark", "camvid-light", "--json", mine],
    }[command]
    mine = {
        "convert": mine.with_suffix(".safetensors"),
        "convert folder": tmp_path / "hub" / "README.md",
        "big": tmp_path / "big" / "labels" / "p00.png",
        "demo": tmp_path / "demo" / "report.html",
    }.get(command, mine)
    words = [mine if str(word) == str(tmp_path / "mine") else word for word in words]
    mine.parent.mkdir(exist_ok=True, parents=True)
    mine.write_text("mine")
    before = below(tmp_path)
    assert main(list(map(str, words))) == 2
    assert "--force" in capsys.readouterr().err
    assert below(tmp_path) == before


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_folders_and_pipes_are_refused_before_any_work(tmp_path, capsys, force):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    data = write_shapes(tmp_path / "data", 2, 1)
    for place in (tmp_path / "pipe", tmp_path / "folder"):
        words = ["data", "check", str(data), "--plot", str(tmp_path / "x.png"), "--json", str(place), *force]
        assert main(words) == 2
        message = f"{place}: cannot be written: it is a folder, pipe or device; name an ordinary file"
        assert capsys.readouterr().err == f"crisscross: {message}\n"
        with pytest.raises(CrissCrossError, match="folder, pipe or device"):
            files.write_text(place, "")
    assert not (tmp_path / "x.png").exists()
    assert (tmp_path / "pipe").is_fifo()


def test_evaluate_replaces_no_masks(tmp_path, capsys, monkeypatch):
    network = SimpleNamespace(experiment=zoo.recipe("camvid-light"))
    network.to = lambda **ignored: network
    monkeypatch.setattr(checkpoints, "load", lambda *ignored, **also_ignored: network)
    data = draw_camvid(tmp_path / "camvid")
    before = below(tmp_path)
    words = ["evaluate", "camvid-light", "--data", str(data), "--workers", "0", "--device", "cpu"]
    assert main([*words, "--save-predictions", str(data / "testannot")]) == 2
    assert "test_a.png: is an input" in capsys.readouterr().err
    assert main([*words, "--json", str(data / "testannot" / "test_a.png")]) == 2
    assert below(tmp_path) == before


def test_weights_are_inputs_even_if_crisscross_wrote_them(tmp_path, capsys):
    data, hub = write_shapes(tmp_path / "data", 2, 1), tmp_path / "hub"
    assert main(["convert", "camvid-light", str(hub)]) == 0
    weights, before = str(hub / "model.safetensors"), below(hub)
    for words in (
        ["evaluate", "camvid-light", "--weights", weights, "--data", str(data), "--name", "folder", "--split", "val"],
        ["evaluate", str(hub), "--data", str(data), "--name", "folder", "--split", "val"],
        ["benchmark", str(hub)],
    ):
        assert main([*words, "--json", weights]) == 2
        assert "model.safetensors: is an input" in capsys.readouterr().err
    assert below(hub) == before


def test_the_record_stays_small_and_invalid_lines_are_ignored(tmp_path):
    path = tmp_path / "a"
    for number in range(120):
        files.claim([path])
        files.write_text(path, str(number))
    notes = files._notes(tmp_path)
    assert len(notes.read_text().splitlines()) < 120
    with notes.open("ab") as file:
        file.write(b'{\n3\n"x"\n[[1], 2]\n[]\n')
    files.claim([path])
    with notes.open("ab") as file:
        file.write(b"\xff")
    with pytest.raises(CrissCrossError, match="a: exists"):
        files.claim([path])
    files.claim([path], force=True)


def test_without_a_cache_folder_nothing_is_recorded_or_replaced(tmp_path, monkeypatch):
    def none(name):
        raise CrissCrossError("no home folder")

    monkeypatch.setattr(files, "user_cache", none)
    files.claim([tmp_path / "a"])
    files.write_text(tmp_path / "a", "x")
    with pytest.raises(CrissCrossError, match="a: exists"):
        files.claim([tmp_path / "a"])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
def test_temporary_files_of_a_zombie_process_are_removed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        # Ended, but still in the table of processes, as for ever in a container without an init.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        files.temporary_path(tmp_path / "a", process.pid).write_text("half")
        files.remove_leftovers(tmp_path)
        assert not list(tmp_path.iterdir())


def test_a_kill_between_the_record_and_the_file_needs_no_force(tmp_path, monkeypatch):
    path = tmp_path / "a"
    files.claim([path])
    files.write_text(path, "first")

    def killed(*ignored):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", killed)
        with pytest.raises(SystemExit):
            files.write_text(path, "second, which is longer")
    files.claim([path])
    files.write_text(path, "third")
    path.write_text("somebody else's")
    with pytest.raises(CrissCrossError, match="a: exists, and there is no record"):
        files.claim([path])


HALF = """
import sys
from pathlib import Path
from crisscross.files import write_atomically

def write(path):
    path.write_bytes(b"half")
    print("writing", flush=True)
    sys.stdin.read()

write_atomically(Path(sys.argv[1]), write)
"""


def test_the_next_command_removes_temporary_files_of_a_killed_one(tmp_path):
    target = tmp_path / "out" / "x.png"
    command = [sys.executable, "-c", HALF, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "writing\n"
        (half,) = target.parent.iterdir()
        # Another one at work there is left alone.
        files.claim([target])
        assert half.exists()
        process.send_signal(signal.SIGKILL)
    mine = [target.parent / name for name in (".x.png.1.tmp", ".crisscross.tmp", ".x.12345678-x.crisscross.tmp")]
    elsewhere = target.parent / ".x.00000000-99999999.crisscross.tmp"
    for path in (*mine, elsewhere):
        path.write_text("")
    files.claim([target])
    assert set(target.parent.iterdir()) == {*mine, elsewhere}
    files.remove_leftovers(target.parent, alone=True)
    assert set(target.parent.iterdir()) == set(mine)
