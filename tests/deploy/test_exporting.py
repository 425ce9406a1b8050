"""Exported files give the labels of the networks that they were made of, in every mode, also without torch."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace

import numpy as np
import pytest
import torch
from coarse_networks import small_segmenter
from fresh_python import BLOCK, run_python
from paths import ROOT
from PIL import Image
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

import crisscross
from crisscross.cli import main
from crisscross.config import DataConfig, InferenceConfig
from crisscross.deploy import exporting, open_exported
from crisscross.deploy.exporting import export
from crisscross.deploy.graphs import SameConv2d, without_same_padding
from crisscross.deploy.modules import export_module
from crisscross.deploy.parity import AtSize, Parity
from crisscross.errors import CrissCrossError

pytestmark = pytest.mark.usefixtures("one_thread", "exports")


def image_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)[:height, :width]


def tiny(mode: str = "whole"):
    segmenter = small_segmenter(scale=(100, 90))
    inference = InferenceConfig(mode, (64, 57), (40, 33), ratios=(0.5, 1.25))
    data = DataConfig(name="camvid", classes=("a", "b", "c"), flip_pairs=((0, 2),), palette=((1, 2, 3),) * 3)
    segmenter.experiment = replace(segmenter.experiment, inference=inference, data=data)
    return segmenter


def with_same_padding(segmenter: nn.Module) -> nn.Module:
    """The same network with TensorFlow's padding in a strided layer."""
    name, old = next((n, m) for n, m in segmenter.named_modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2))
    new = Conv2dSame(old.in_channels, old.out_channels, old.kernel_size, 2, bias=old.bias is not None)
    new.load_state_dict(old.state_dict())
    segmenter.set_submodule(name, new)
    return segmenter


@pytest.fixture(scope="module")
def exported(one_thread, tmp_path_factory):
    """Two files of one network each: by windows, with TensorFlow's padding; and whole."""
    segmenter = with_same_padding(tiny("slide"))
    return segmenter, export(segmenter, tmp_path_factory.mktemp("exported"), count=2, license="apache-2.0")


def test_a_file_passes_its_check(exported):
    _, (path, found) = exported
    assert path.name == "model.onnx" and found.passed and found.equal == 1 and found.miou is None
    assert len({(size.height % 32, size.width % 32) for size in found.sizes}) == 3
    assert all(0 < size.largest < 1e-4 * size.std for size in found.sizes)
    facts = json.loads((path.parent / "parity.json").read_text())
    assert facts["passed"] and facts["images"] == {"source": "drawn scenes", "count": 2}


def test_a_file_carries_its_card(exported):
    segmenter, (path, _) = exported
    predictor = crisscross.predictor(path)
    assert predictor.card == segmenter.predictor.card and predictor.card.flip_pairs == ((0, 2),)
    passport = predictor.passport
    assert (passport.license, passport.precision, passport.version) == ("apache-2.0", "float32", crisscross.__version__)
    assert passport.data == {"name": "camvid", "val_split": "val", "test_split": "test"}


@pytest.mark.parametrize("mode", ["image", "tta", "big", "video"])
def test_every_mode_gives_the_networks_labels(exported, mode):
    segmenter, (path, _) = exported

    def labels(predictor):
        if mode == "big":
            return predictor.predict_big(image_of(150, 170), 96, 32)
        if mode == "video":
            return np.stack(list(predictor.label_frames([image_of(67, 91, seed) for seed in range(2)])))
        return predictor.predict(image_of(77, 99), tta=mode == "tta").labels

    expected, found = labels(segmenter.predictor), labels(open_exported(path))
    assert len(np.unique(expected)) == 3
    assert (expected == found).mean() > 0.9999


def test_labels_need_no_torch(exported, tmp_path):
    """Nor anything but NumPy, Pillow and the runtime, by `crisscross predict` and in Python."""
    segmenter, (path, _) = exported
    image = image_of(67, 91)
    np.save(tmp_path / "image.npy", image)
    blocked = ("torch", "torchvision", "timm", "accelerate", "safetensors", "yaml", "rich", "cv2", "onnx", "filelock")
    code = f"""{BLOCK % ((*blocked, "huggingface_hub"),)}
import numpy as np
from PIL import Image
import crisscross
from crisscross.cli import main
image = np.load({str(tmp_path / "image.npy")!r})
Image.fromarray(image).save({str(tmp_path / "image.png")!r})
labels = crisscross.predictor({str(path)!r}).predict(image).labels
assert main(["predict", {str(path)!r}, {str(tmp_path / "image.png")!r}, "--out", {str(tmp_path / "out")!r}]) == 0
written = np.asarray(Image.open({str(tmp_path / "out/labels/image.png")!r}))
assert np.array_equal(written, labels)
np.save({str(tmp_path / "labels.npy")!r}, labels)
"""
    run_python(code)
    assert (np.load(tmp_path / "labels.npy") == segmenter.predict(image).labels).mean() > 0.9999


@pytest.mark.slow
def test_the_slim_installation(exported, tmp_path):
    """In a new environment, by the line of docs/serving.md: images, a data set's folder, the service, `doctor`."""
    segmenter, (path, _) = exported
    expected = segmenter.predict(image := image_of(67, 91)).labels
    for folder in ("set/in", "set/out"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / folder / "a.png")
    (tmp_path / "set/dataset.yaml").write_text("images: in\nmasks: out\nclasses: [a, b, c]\n")
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.strip().startswith("pip install -r requirements-deploy"))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "slim"], check=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["PATH"] = f"{tmp_path / 'slim/bin'}{os.pathsep}{environment['PATH']}"
    subprocess.run(line, shell=True, cwd=ROOT, env=environment, check=True)
    for command in (f"predict {path} set --out out", "doctor"):
        done = subprocess.run(["crisscross", *command.split()], cwd=tmp_path, env=environment, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert [file.name for file in (tmp_path / "out/labels").rglob("*.png")] == ["a.png"]
    assert (np.asarray(Image.open(next((tmp_path / "out/labels").rglob("*.png")))) == expected).mean() > 0.9999
    command = ["crisscross", "serve", path, "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as service:
        try:
            address = re.search(r"http://\S+", service.stdout.readline())[0]
            found = {}
            for kind in ("labels", "polygons"):
                body = (tmp_path / "set/in/a.png").read_bytes()
                with urllib.request.urlopen(f"{address}/predict?format={kind}", body) as answer:
                    found[kind] = answer.read()
        finally:
            service.send_signal(signal.SIGINT)
    assert service.returncode == 0 and json.loads(found["polygons"])["polygons"]
    assert (np.asarray(Image.open(io.BytesIO(found["labels"]))) == expected).mean() > 0.9999


def test_camvid_light_exports(one_thread, tmp_path, capsys):
    """With TensorFlow's padding in four layers, and its weights; at sizes of every parity."""
    assert main(["export", "camvid-light", "--to", "onnx", "--out", str(tmp_path), "--count", "1"]) == 0
    facts = json.loads((tmp_path / "parity.json").read_text())
    assert facts["passed"] and facts["equal_labels"] > 0.9999
    assert open_exported(tmp_path / "model.onnx").classes == crisscross.load("camvid-light").classes
    assert "logits at 163 x 97" in capsys.readouterr().out


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_is_timms(kernel, stride, dilation):
    theirs = Conv2dSame(3, 4, kernel, stride, dilation=dilation)
    ours = SameConv2d(theirs)
    for height in range(kernel * dilation, kernel * dilation + 2 * stride + 1):
        x = torch.randn(1, 3, height, height + 4)
        assert torch.equal(theirs(x), ours(x))


def test_only_padding_that_onnx_can_name_is_marked():
    net = nn.Sequential(Conv2dSame(3, 4, 3, 2), Conv2dSame(4, 4, 4, 2), Conv2dSame(4, 4, 3, 2, dilation=2))
    assert without_same_padding(net, marked=True) == ["0.weight"]
    assert [type(layer) for layer in net] == [nn.Conv2d, SameConv2d, SameConv2d]


class Operator(nn.Module):
    def forward(self, query, key, value):
        return crisscross.criss_cross_attention(query, key, value)


def test_the_operator_exports_alone(tmp_path):
    queries = [torch.randn(2, channels, 5, 7) for channels in (4, 4, 16)]
    assert export_module(Operator(), queries, tmp_path / "attention.onnx") < 1e-4
    assert (tmp_path / "attention.onnx").is_file()


def passed(precision="float32", largest=1e-5, equal=1.0, miou=None):
    return Parity(precision, "x", (AtSize(1, 1, largest, 0.0, 1.0),), 1, equal, miou, (1.0, 1.0)).passed


def test_limits():
    assert passed() and not passed(largest=1.1e-3) and not passed(largest=float("nan")) and not passed(equal=0.9998)
    assert passed("float16", 0.1, 0.996) and not passed("float16", 0.1, 0.994)
    assert passed("int8", 1.0, 0.981) and not passed("int8", 1.0, 0.979)
    assert passed("int8", 1.0, 0.9, (0.65, 0.6451)) and not passed("int8", 1.0, 0.999, (0.65, 0.6449))


def test_a_file_that_differs_is_kept_and_said(exported, tmp_path, monkeypatch, capsys):
    """The file of another network in the place of the right one."""
    _, (path, _) = exported
    monkeypatch.setattr(
        "crisscross.deploy.exporting._write",
        lambda *rest: rest[1].joinpath("model.onnx").write_bytes(path.read_bytes()),
    )
    torch.manual_seed(1)
    other = tiny("slide")
    crisscross.save(other, tmp_path / "other.safetensors")
    assert main(["export", str(tmp_path / "other.safetensors"), "--to", "onnx", "--out", str(tmp_path / "out")]) == 1
    assert (tmp_path / "out/model.onnx").read_bytes() == path.read_bytes()
    assert not json.loads((tmp_path / "out/parity.json").read_text())["passed"]
    assert "differs from the network: logits differ by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "tensorrt"}, "unknown target 'tensorrt'; known: onnx, openvino, torch"),
        ({"precision": "int4"}, "unknown precision 'int4'"),
        ({"to": "torch", "precision": "int8"}, "int8 is for onnx and openvino"),
        ({"images": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_senseless_requests(options, message, tmp_path):
    with pytest.raises(CrissCrossError, match=message):
        export(tiny(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert main(["export", "camvid-light", "--to", "onnx", "--out", str(tmp_path / "out/deeper")]) == 2
    assert f"--out {tmp_path / 'out/deeper'}: {tmp_path / 'out'} is a file; name a folder" in capsys.readouterr().err


def test_an_operation_that_the_target_lacks(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).real

    with pytest.raises(CrissCrossError, match=r"to ONNX: it uses aten.linalg_eig, which has no counterpart"):
        export_module(Odd(), [torch.randn(1, 2, 4, 4)], tmp_path / "odd.onnx")
    assert not (tmp_path / "odd.onnx").exists()


def test_a_comparison_that_is_interrupted_leaves_no_older_one(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_write", lambda network, folder, *words: (folder / "model.onnx").write_bytes(b""))
    (tmp_path / "parity.json").write_text('{"passed": true}')

    def stop(what, finished, total):
        if what == "compare":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(small_segmenter(), tmp_path, count=1, step=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "model.onnx"]


def test_an_operation_that_a_target_cannot_save(tmp_path):
    with pytest.raises(CrissCrossError, match=r"cannot be exported to torch\.export: .*ceil"):
        export(small_segmenter(), tmp_path, "torch", count=1)
    assert list(tmp_path.iterdir()) == []
