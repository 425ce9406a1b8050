"""`crisscross explain`: what it cannot explain is one line and exit code 2, and nothing is written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from instances_data import tiny, with_classes
from networks import narrow
from PIL import Image
from small_data import CLASSES, write_folder

import crisscross
from crisscross.cli import main
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.models import create_segmenter

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An image, a data set, weights with attention and without, an exported file."""
    folder = tmp_path_factory.mktemp("explain")
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(folder / "a.png")
    (folder / "text.png").write_text("no image")
    write_folder(folder / "set", {"train": 1, "val": 1})
    for name, recurrence, classes in (("net", 2, CLASSES), ("plain", 0, CLASSES), ("other", 2, ("sky", "sea", "sand"))):
        torch.manual_seed(0)
        model = ModelConfig(backbone="test_resnet", **narrow(recurrence=recurrence))
        data = DataConfig(name="folder", classes=classes)
        crisscross.save(create_segmenter(Experiment(model=model, data=data)), folder / f"{name}.safetensors")
    (folder / "net.onnx").write_bytes(b"exported")
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("net.safetensors a.png --at 60,1", "outside of the image, which is 60 x 40 pixels"),
        ("net.safetensors a.png --at 1,1 --at 1,40", "outside of the image, which is 60 x 40 pixels"),
        ("net.safetensors a.png --at -1,5", "at (-1, 5): outside of the image, which is 60 x 40 pixels"),
        ("net.safetensors a.png --at 1,-5", "at (1, -5): outside of the image"),
        ("net.safetensors a.png --at 1.5,2", "write X,Y"),
        ("net.safetensors a.png --at 5", "write X,Y"),
        ("net.safetensors text.png --at 1,1", "text.png"),
        ("net.safetensors missing.png --at 1,1", "missing.png"),
        ("plain.safetensors a.png --at 1,1", "plain.safetensors has no criss-cross attention to explain"),
        ("net.onnx a.png --at 1,1", "net.onnx: an exported network (ONNX) cannot be explained, its weights are needed"),
        ("net.safetensors a.png", "belong together"),
        ("net.safetensors --at 1,1", "belong together"),
        ("net.safetensors", "explain either pixels"),
        ("net.safetensors a.png --at 1,1 --data set --report out", "explain either pixels"),
        ("net.safetensors --data set", "belong together"),
        ("net.safetensors --report out", "belong together"),
        ("net.safetensors --data set --report out --images 0", "a whole number, 1 or more"),
        ("net.safetensors --data set --report out --split test", "no split 'test'"),
        ("net.safetensors --data missing --report out", "missing"),
        ("plain.safetensors --data set --report out", "plain.safetensors has no criss-cross attention to explain"),
        ("other.safetensors --data set --report out", "class 0 is 'floor' here but 'sky' in the network"),
        ("net.onnx --data set --report out", "its weights are needed"),
    ],
)
def test_bad_input_is_one_line(place, words, message, monkeypatch, capsys):
    monkeypatch.chdir(place)
    before = sorted(path.name for path in place.rglob("*"))
    try:
        code = main(["explain", *words.split()])
    except SystemExit as stopped:
        code = stopped.code
    error = capsys.readouterr().err
    assert code == 2 and message in error, error
    # Before a message of its own argparse shows the usage.
    lines = error.strip().splitlines()
    assert message in lines[-1] and (len(lines) == 1 or lines[0].startswith("usage:"))
    assert sorted(path.name for path in place.rglob("*")) == before


def test_a_page_about_instances_is_refused(place, tmp_path, capsys):
    from crisscross.instances.network import InstanceSegmenter

    crisscross.save(InstanceSegmenter(with_classes(tiny()), initialize=False), tmp_path / "boxes.safetensors")
    words = [str(tmp_path / "boxes.safetensors"), "--data", str(place / "set"), "--report", str(tmp_path / "out")]
    assert main(["explain", *words]) == 2
    assert "needs a network that labels pixels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_existing_files_stay_without_force(place, tmp_path, capsys):
    (tmp_path / "explanation.html").write_text("mine")
    words = [str(place / "net.safetensors"), "--data", str(place / "set"), "--report", str(tmp_path)]
    assert main(["explain", *words]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "explanation.html").read_text() == "mine"
