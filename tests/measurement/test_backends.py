"""`--backend`: what is taken, when it is measured and remembered, and that wrong labels are refused."""

import json
import sys

import numpy as np
import pytest
import torch
from coarse_networks import image_of, small_segmenter

from crisscross import CrissCrossError, files
from crisscross.deploy.opening import ExportedPredictor
from crisscross.inference import Predictor
from crisscross.measurement import backends as subject
from crisscross.measurement.backends import check_backend, on_backend

pytestmark = pytest.mark.usefixtures("one_thread", "exports")

IMAGE = image_of(64, 96)


def never():
    raise AssertionError("no image is needed")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "user_cache", lambda name: tmp_path / name)
    return tmp_path / "backends"


@pytest.fixture
def runtimes(monkeypatch, cache):
    """In place of exported files: predictors that label as the network does, and the names of those opened."""
    opened, network = [], small_segmenter()

    def opener(name):
        def open_file(path):
            assert path.is_file()
            opened.append(name)
            return (lambda card: lambda x: logits[name](x)), ""

        return open_file

    def own(x):
        with torch.inference_mode():
            return network.coarse(torch.from_numpy(x)).main.numpy()

    logits = dict.fromkeys(subject.RUNTIMES, own)
    monkeypatch.setattr(subject, "write_onnx", lambda network, path, passport: path.write_text("exported"))
    for name, runtime in subject.RUNTIMES.items():
        monkeypatch.setitem(subject.RUNTIMES, name, runtime._replace(package="json", open=opener(name)))
    return network, opened, logits


@pytest.fixture
def clock(monkeypatch):
    """Seconds that each way takes; the work is done all the same."""
    seconds = {"": 1.0, "torch": 4.0, "optimize": 3.0, "onnx": 2.0, "openvino": 1.0}

    def interleave(works, *words):
        for work in works.values():
            work()
        return {name: seconds[name] for name in works}

    monkeypatch.setattr(subject, "interleave", interleave)
    return seconds


def test_a_few_images_are_not_worth_a_measurement(runtimes, capsys):
    network, opened, _ = runtimes
    assert on_backend(network, "auto", 19, never) is network and not opened
    assert capsys.readouterr().err.startswith("backend: PyTorch: so few images (19)")


@pytest.mark.parametrize(("each", "taken"), [(2.9, "PyTorch: about 58 s"), (3.1, "OpenVINO: the fastest exact one")])
def test_neither_is_a_minute_of_work(each, taken, runtimes, clock, capsys):
    network, opened, _ = runtimes
    clock[""] = each
    found = on_backend(network, "auto", 20, lambda: IMAGE)
    assert isinstance(found, Predictor) == (each > 3) == bool(opened)
    assert f"backend: {taken}" in capsys.readouterr().err


def test_the_fastest_exact_one_is_taken_and_remembered(runtimes, clock, cache, monkeypatch, capsys):
    network, opened, logits = runtimes
    own = logits["onnx"]
    # The fastest has a wrong label in one corner: 8 x 8 of 6144 pixels are one percent.
    logits["openvino"] = lambda x: own(x) * np.where(np.arange(own(x).shape[-1]) == 0, -1, 1).astype(np.float32)
    expected = network.predict(IMAGE).labels
    assert isinstance(found := on_backend(network, "auto", None, lambda: IMAGE), ExportedPredictor)
    assert opened == ["onnx", "openvino", "onnx"] and np.array_equal(found.predict(IMAGE).labels, expected)
    assert "backend: ONNX Runtime: the fastest exact one here (PyTorch 4000 ms" in capsys.readouterr().err
    # For another start no image is needed, however little there is to do.
    opened.clear()
    assert isinstance(on_backend(small_segmenter(), "auto", 1, never), ExportedPredictor) and opened == ["onnx"]
    assert "as measured before" in capsys.readouterr().err
    # Other weights, and another version of a runtime, are measured anew.
    other = small_segmenter()
    other.head.classify.bias.data += 1
    assert on_backend(other, "auto", 1, never) is other
    monkeypatch.setattr(subject, "version", lambda package: "99")
    assert on_backend(network, "auto", 1, never) is network


def test_pytorch_may_be_the_fastest(runtimes, clock):
    network, *_ = runtimes
    clock["torch"] = 0.5
    assert on_backend(network, "auto", None, lambda: IMAGE) is network
    clock["torch"], clock["optimize"] = 5.0, 0.5
    other = small_segmenter(std=(1.0, 2.0, 3.0))
    found = on_backend(other, "auto", None, lambda: IMAGE)
    assert found.rewritten and np.array_equal(found.predict(IMAGE).labels, other.predict(IMAGE).labels)


def test_what_cannot_be_exported_stays_with_pytorch(cache, capsys):
    layer = torch.nn.Linear(2, 2)
    assert on_backend(layer, "auto", None, never) is layer
    assert "backend: PyTorch: Linear does not label pixels" in capsys.readouterr().err
    with pytest.raises(CrissCrossError, match="Linear does not label pixels"):
        on_backend(layer, "onnx", None, never)


def test_a_named_runtime_is_compared_once(runtimes, cache):
    network, _, logits = runtimes
    own = logits["onnx"]
    logits["onnx"] = lambda x: -own(x)
    with pytest.raises(CrissCrossError, match=r"--backend onnx: ONNX Runtime gives .*% of the network's labels"):
        on_backend(network, "onnx", 1, lambda: IMAGE)
    logits["onnx"] = own
    assert isinstance(on_backend(network, "onnx", 1, lambda: IMAGE), ExportedPredictor)
    on_backend(network, "onnx", 1, never)
    (notes,) = cache.glob("*/backends.json")
    assert json.loads(notes.read_text())["exact"] == ["onnx"]
    # A spoiled note is no obstacle.
    for text in ("{", "[1]"):
        notes.write_text(text)
        on_backend(network, "onnx", 1, lambda: IMAGE)


def test_what_was_measured_before_may_be_gone(runtimes, clock, monkeypatch, capsys):
    network, *_ = runtimes
    on_backend(network, "auto", None, lambda: IMAGE)

    def gone(path):
        raise CrissCrossError("not installed any more")

    monkeypatch.setitem(subject.RUNTIMES, "openvino", subject.RUNTIMES["openvino"]._replace(open=gone))
    capsys.readouterr()
    assert on_backend(network, "auto", None, never) is network
    assert capsys.readouterr().err == "backend: PyTorch: not installed any more\n"


@pytest.mark.parametrize("damage", [b"", b"exp", b"Exported", None])
@pytest.mark.parametrize("backend", ["onnx", "auto"])
def test_a_damaged_file_is_made_anew(damage, backend, runtimes, clock, cache, capsys):
    network, *_ = runtimes
    clock["openvino"] = 9.0
    on_backend(network, backend, None, lambda: IMAGE)
    (file,) = cache.glob("*/model.onnx")
    on_backend(network, backend, None, never)
    assert capsys.readouterr().err.count("exporting the network") == 1
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    assert isinstance(on_backend(network, backend, None, never), ExportedPredictor)
    assert file.read_bytes() == b"exported" and capsys.readouterr().err.count("exporting the network") == 1


def test_another_version_of_a_runtime_needs_no_other_file(runtimes, clock, monkeypatch, capsys):
    network, *_ = runtimes
    for number in ("1", "2"):
        monkeypatch.setattr(subject, "version", lambda package, number=number: number)
        on_backend(network, "onnx", None, lambda: IMAGE)
    assert capsys.readouterr().err.count("exporting the network") == 1


def test_files_of_networks_that_are_no_longer_used_are_removed(runtimes, cache, monkeypatch):
    monkeypatch.setattr(subject, "KEPT", 2)
    for gain in (1.0, 2.0, 3.0):
        on_backend(small_segmenter(std=(gain, 1.0, 1.0)), "onnx", 1, lambda: IMAGE)
    assert len(list(cache.glob("*/model.onnx"))) == 2


@pytest.mark.parametrize(("name", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_runtime_is_one_line(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CrissCrossError, match=rf"--backend {name} needs {package}: run `pip install '.\[{name}\]'`"):
        check_backend(name)
    with pytest.raises(CrissCrossError, match="backend must be one of torch, onnx, openvino, auto, got 'tvm'"):
        check_backend("tvm")


@pytest.mark.slow
def test_real_runtimes(cache, capsys):
    network = small_segmenter()
    expected = network.predict(IMAGE).labels
    for name in ("onnx", "openvino", "auto"):
        found = on_backend(network, name, None, lambda: IMAGE)
        assert np.array_equal(found.predict(IMAGE).labels, expected)
    assert "OpenVINO" in capsys.readouterr().err
