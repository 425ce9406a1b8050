"""Bad input gives one clear line and exit code 2, and leaves no partial files."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fresh_python import BLOCK, run_python
from PIL import Image

import crisscross
from crisscross.checkpoints.reading import read_state_dict
from crisscross.cli import FULL, main
from crisscross.config import Experiment, apply_overrides
from crisscross.data import open_dataset
from crisscross.engine.predict import find_images
from crisscross.errors import CrissCrossError
from crisscross.models.backbones import create_backbone

TINY = {
    "model.backbone": "test_resnet",
    "model.head.channels": 16,
    "model.aux_head.channels": 8,
    "data.classes": ["ground", "sky"],
    "data.palette": [[128, 64, 0], [0, 128, 255]],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    crisscross.save(crisscross.Segmenter(apply_overrides(Experiment(), TINY)), path)
    return path


def image(path: Path, size: tuple[int, int] = (24, 16)) -> Path:
    Image.fromarray(np.full((size[1], size[0], 3), 90, np.uint8)).save(path)
    return path


class RunsCode:
    """Writes a file when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


def test_a_pickle_that_runs_code_is_refused_and_nothing_ran(tmp_path):
    torch.save({"state_dict": RunsCode(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(CrissCrossError, match=r"evil\.pth: refused"):
        crisscross.load(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
    # The witness works: read without care, the file does run code.
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02.", b"<html>404</html>", b"PK\x03\x04 cut", bytes(100)])
def test_a_file_that_is_not_a_checkpoint(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CrissCrossError, match=r"^[^\n]*x\.pth: [^\n]+$"):
        read_state_dict(tmp_path / "x.pth")


def test_a_checkpoint_with_odd_keys_or_no_tensors(tmp_path):
    torch.save({1: torch.zeros(1), "module.a": torch.ones(2), "note": "text"}, tmp_path / "odd.pth")
    # A name is a text.
    assert sorted(read_state_dict(tmp_path / "odd.pth")) == ["a"]
    torch.save({"note": "text"}, tmp_path / "none.pth")
    with pytest.raises(CrissCrossError, match="holds no tensors"):
        read_state_dict(tmp_path / "none.pth")


def test_our_own_state_dict_needs_its_experiment(weights):
    with pytest.raises(CrissCrossError, match=r"our own weights without their experiment; .* crisscross\.save"):
        crisscross.load(crisscross.load(weights).state_dict())


def test_a_class_count_that_is_not_the_checkpoints(weights):
    message = r"head\.classify\.weight has shape \[2, 16, 1, 1\].*\(the file has 2 classes, the configuration 3\)"
    with pytest.raises(CrissCrossError, match=message):
        crisscross.load(weights, classes=["a", "b", "c"])


@pytest.mark.parametrize("size", [(1, 1), (3, 300), (300, 3), (33, 31)])
def test_tiny_and_narrow_images_are_labeled_at_their_own_size(weights, tmp_path, size):
    labels = crisscross.load(weights).predict(image(tmp_path / "p.png", size)).labels
    assert labels.shape == (size[1], size[0])


@pytest.mark.parametrize("out", ["file/below", "/proc/nowhere"])
def test_an_output_folder_that_cannot_be_written(weights, tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not a folder")
    assert main(["predict", str(weights), str(image(tmp_path / "p.png")), "--out", out]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"crisscross: {out}/labels/p.png: cannot be written: ")
    assert sorted(os.listdir()) == ["file", "p.png"]


def test_predicting_a_folder_into_itself_does_not_label_the_labels(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "p.png")
    image(tmp_path / "._p.png")
    (tmp_path / "folder.jpg").mkdir()
    for _ in range(2):
        assert main(["predict", str(weights), ".", "--out", "out"]) == 0
    assert sorted(str(path) for path in Path("out").rglob("*.png")) == [
        "out/color/p.png",
        "out/labels/p.png",
        "out/overlay/p.png",
    ]


@pytest.mark.parametrize("folder", ["in", "."])
def test_images_are_found_where_the_output_folder_is_their_own_or_above(weights, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "more").mkdir(parents=True)
    image(tmp_path / "in" / "more" / "p.png")
    for _ in range(2):
        assert main(["predict", str(weights), "in", "--out", folder]) == 0
    found = sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.png"))
    own = "more/p.png" if folder == "in" else "in/more/p.png"
    assert found == sorted(["color/more/p.png", "labels/more/p.png", "overlay/more/p.png", own])
    # What is named is not left out.
    assert list(find_images([Path(folder) / "labels"], Path(folder))) == [Path(folder) / "labels/more/p.png"]


def test_two_images_for_one_output_are_refused(tmp_path):
    image(tmp_path / "a.png")
    image(tmp_path / "a.bmp")
    with pytest.raises(CrissCrossError, match="would both be written as a"):
        find_images([tmp_path])


@pytest.mark.parametrize("option", [["--workers", "-1"], ["--workers", "1025"], ["--workers", "two"]])
def test_numbers_of_options(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "demo", "--data", "x", "--out", "y", *option])
    assert stop.value.code == 2
    assert f"argument {option[0]}: must be a whole number, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (["evaluate", "model.onnx", "--data", "x"], "torch"),
        (["benchmark", "demo"], "torch"),
        (["report", "x"], "pyyaml"),
    ],
)
def test_what_the_slim_installation_leaves_out(words, package):
    code = f"""{BLOCK % ((*FULL, "yaml"),)}
import contextlib, io
from crisscross.cli import main
error = io.StringIO()
with contextlib.redirect_stderr(error):
    code = main({words!r})
print(code, error.getvalue())
"""
    # What brings PyTorch is no cure for a package alone.
    cure = "`pip install .` in a checkout" if package == "torch" else f"`pip install {package}`"
    expected = f"2 crisscross: this needs {package}, which is not installed here: run {cure}"
    found = run_python(code).strip()
    assert found.startswith(expected) and "\n" not in found


@pytest.mark.parametrize("command", [["train", "demo", "--data", "x", "--out", "y"], ["data", "check", "x"]])
def test_an_unknown_option_shows_the_usage_of_its_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--nonsense"])
    words = " ".join(command[: 2 if command[0] == "data" else 1])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith(f"usage: crisscross {words} ") and "unrecognized arguments: --nonsense" in error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:open_it", "cannot be imported"),
        (":x", "cannot be imported"),
        ("os.path:sep", "must be something that can be called, got str"),
        ("os.path:abspath", "must return a DataSet, got str"),
        ("camvi", "unknown data set 'camvi'"),
    ],
)
def test_a_data_set_by_a_wrong_name(tmp_path, name, message):
    with pytest.raises(CrissCrossError, match=message):
        open_dataset(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("json:loads", "must take output_stride"), ("builtins:dict", "must return a torch module, got dict")],
)
def test_a_backbone_by_a_wrong_name(name, message):
    with pytest.raises(CrissCrossError, match=message):
        create_backbone(name)


def test_the_operator_on_meta_tensors():
    q = torch.empty(1, 2, 3, 4, device="meta")
    assert crisscross.criss_cross_attention(q, q, torch.empty(1, 5, 3, 4, device="meta")).shape == (1, 5, 3, 4)


def test_files_are_as_open_as_any_file_that_the_user_makes(tmp_path):
    (tmp_path / "plain").touch()
    crisscross.save(crisscross.load("camvid-light"), tmp_path / "w.safetensors")
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_no_such_device_is_one_line():
    with pytest.raises(CrissCrossError, match="device 'nowhere': "):
        crisscross.load("camvid-light", "nowhere")
