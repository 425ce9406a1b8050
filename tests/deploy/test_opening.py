"""Files that nobody should mistake for an exported network, and those of other people."""

import json

import numpy as np
import onnx
import openvino
import pytest
import torch
from coarse_networks import small_segmenter
from fresh_python import BLOCK, run_python
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import crisscross
from crisscross.cli import main
from crisscross.data import scenes
from crisscross.data.scenes import write_scenes
from crisscross.deploy import exported_kind, open_exported
from crisscross.deploy.exporting import export
from crisscross.deploy.passport import Passport
from crisscross.deploy.targets import save_openvino
from crisscross.errors import CrissCrossError
from crisscross.inference import Card
from crisscross.metrics import ConfusionMatrix

CLASSES, FOLDERS = ("dark", "light"), ("images", "masks")


def write(path, height="h", channels=3, outputs=4, text=None, classes=2, kind=TensorProto.FLOAT, opset=18):
    """A network that says 1 where the red channel is above its mean; more classes never win."""
    weight = np.zeros((classes, 3, 1, 1), np.float32)
    weight[1, 0] = 1
    nodes = [helper.make_node("Cast", ["x"], ["c"], to=1), helper.make_node("Conv", ["c", "w"], ["z"])]
    nodes.append(helper.make_node("Identity" if outputs == 4 else "Flatten", ["z"], ["y"]))
    shape = ["b", classes, "h2", "w2"] if outputs == 4 else ["b", "k"]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("x", kind, ["b", channels, height, height])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    if text is not None:
        helper.set_model_props(model, {"crisscross": text})
    onnx.save(model, path)
    return path


@pytest.fixture
def image():
    found = np.zeros((40, 50, 3), np.uint8)
    found[:, 25:] = 255
    return found


def test_a_file_of_someone_else_needs_a_card(tmp_path, image, capsys):
    path, card = write(tmp_path / "theirs.onnx"), tmp_path / "card.json"
    with pytest.raises(CrissCrossError, match=r"does not say its classes and preprocessing.*--card FILE"):
        open_exported(path)
    card.write_text(json.dumps({"classes": CLASSES}))
    found = crisscross.predictor(path, card=card)
    assert found.classes == CLASSES
    assert np.array_equal(found.predict(image).labels, image[..., 0] // 255)
    np.save(tmp_path / "image.npy", image)
    words = ["predict", str(path), str(tmp_path / "image.npy"), "--out", str(tmp_path / "out"), "--big"]
    assert main(words) == 2 and "--card FILE" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--card", str(card)]) == 0 and (tmp_path / "out/labels/image.png").is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be a mapping"),
        ('{"classes": []}', '"classes" is missing'),
        ('{"classes": ["a", "b"], "preprocess": {"mean": 3}}', "preprocess.mean"),
        ('{"classes": ["a", "b"], "format": "crisscross-export-9"}', "written by another version"),
        ('{"classes": ["a", "b"], "oops": 1}', "oops"),
    ],
)
def test_damaged_cards(tmp_path, text, message):
    path = write(tmp_path / "model.onnx", text=text)
    with pytest.raises(CrissCrossError, match=message) as caught:
        open_exported(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"height": 64}, "takes images of 64 x 64 alone"),
        ({"channels": 1}, r"takes float \[b, 1, h, h\] .* needed is one input"),
        ({"outputs": 2}, r"gives float \[b, .*\]; needed"),
        ({"kind": TensorProto.UINT8}, r"takes uint8 \[b, 3, h, h\] .* needed is one input, float"),
        ({"classes": 3}, r"model\.onnx: gives logits of 3 classes, but its card names 2"),
        ({"opset": 99}, r"cannot read it: FAIL : ONNX Runtime only.* Opset 99 is .*; update ONNX Runtime \("),
    ],
)
def test_networks_that_do_not_fit(tmp_path, shape, message):
    with pytest.raises(CrissCrossError, match=message):
        open_exported(write(tmp_path / "model.onnx", text='{"classes": ["a", "b"]}', **shape))


@pytest.mark.parametrize("suffix", ["onnx", "xml", "pt2"])
def test_files_of_no_runtime(tmp_path, suffix, capsys):
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(b"nothing")
    with pytest.raises(CrissCrossError, match="cannot read it"):
        open_exported(path)
    with pytest.raises(CrissCrossError, match="no such file"):
        open_exported(tmp_path / f"other.{suffix}")


def test_options_that_an_exported_file_does_not_take(tmp_path, capsys):
    path = write(tmp_path / "model.onnx", text='{"classes": ["a", "b"]}')
    with pytest.raises(CrissCrossError, match=r"exported network \(ONNX\); crisscross.predictor opens it"):
        crisscross.load(path)
    (tmp_path / "image.png").write_bytes(b"")
    for words in (["--optimize"], ["--precision", "bf16"], ["--weights", "x.pth"]):
        assert main(["predict", str(path), str(tmp_path / "image.png"), "--out", str(tmp_path / "o"), *words]) == 2
        assert f"{words[0]}: {path} is an exported network" in capsys.readouterr().err
    for device in ("cuda", "gpu"):
        assert main(["predict", str(path), str(tmp_path / "image.png"), "--device", device]) == 2
        assert f"--device {device}: {path} is an exported network" in capsys.readouterr().err
    assert exported_kind("a.ONNX") == "ONNX" and not exported_kind("a.pth") and not exported_kind(3)


@pytest.mark.parametrize("suffix", ["onnx", "xml", "pt2"])
def test_commands_that_need_the_weights(tmp_path, suffix, capsys):
    path = write(tmp_path / "model.onnx", text='{"classes": ["a", "b"]}').rename(tmp_path / f"model.{suffix}")
    for words in (["benchmark", path], ["convert", path, tmp_path / "new.safetensors"]):
        assert main([str(word) for word in words]) == 2
        assert f"{path}: an exported network; its weights are needed" in capsys.readouterr().err


def test_a_missing_runtime(tmp_path):
    path = write(tmp_path / "model.onnx", text='{"classes": ["a", "b"]}')
    code = f"""{BLOCK % (("onnxruntime",),)}
import contextlib, io
from crisscross.cli import main
error = io.StringIO()
with contextlib.redirect_stderr(error):
    code = main(["predict", {str(path)!r}, {str(path)!r}])
print(code, error.getvalue())
"""
    found = run_python(code)
    assert found.startswith("2 ") and "pip install '.[onnx]'" in found


def test_evaluate_takes_an_exported_file(tmp_path, capsys):
    """On the split of its card; the counts are those of the red channel."""
    write_scenes(tmp_path / "data", {"train": 1, "val": 1, "test": 2}, height=64, width=96)
    text = json.dumps({"classes": scenes.CLASSES, "data": {"name": "folder", "val_split": "val", "test_split": "test"}})
    path = write(tmp_path / "model.onnx", text=text, classes=len(scenes.CLASSES))
    words = ["evaluate", str(path), "--data", str(tmp_path / "data"), "--workers", "0", "--device", "cpu"]
    assert main([*words, "--json", str(tmp_path / "scores.json"), "--report", str(tmp_path)]) == 0
    page = (tmp_path / "evaluation.html").read_text()
    assert "<h1>model.onnx on data</h1>" in page and "<dd>as exported</dd>" in page and "<h2>Calibration</h2>" in page
    facts = json.loads((tmp_path / "scores.json").read_text())
    counts = ConfusionMatrix(len(scenes.CLASSES))
    for number in range(2):
        image, mask = (np.asarray(Image.open(tmp_path / f"data/{kind}/test_{number:04d}.png")) for kind in FOLDERS)
        counts.update((image[..., 0] > 123.675).astype(np.uint8), mask)
    assert facts["split"] == "test" and facts["images"] == 2
    assert np.array_equal(facts["confusion"], counts.counts)
    assert main([*words, "--precision", "bf16"]) == 2 and "--precision: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("precision", "capabilities", "hint"),
    [("int8", ["FP32", "BF16"], "bf16"), ("int8", ["FP32", "INT8"], "f32"), ("float32", ["FP32", "BF16"], "f32")],
)
def test_int8_files_compute_the_rest_in_bfloat16_where_the_cpu_has_it(
    precision, capabilities, hint, tmp_path, monkeypatch
):
    seen = []

    class Core(openvino.Core):
        def get_property(self, device, name):
            return capabilities

        def compile_model(self, model, device, options):
            seen.append(options["INFERENCE_PRECISION_HINT"])
            return super().compile_model(model, device, {})

    path = tmp_path / "model.xml"
    text = Passport(Card(CLASSES, ((0, 0, 0), (255, 0, 0))), precision=precision).text()
    save_openvino(openvino.Core().read_model(write(tmp_path / "plain.onnx")), path, text)
    monkeypatch.setattr(openvino, "Core", Core)
    assert open_exported(path).passport.precision == precision and seen == [hint]


def test_a_folder_with_an_exported_file_is_no_run(tmp_path):
    (tmp_path / "model.xml").write_text("<net/>")
    (tmp_path / "model.bin").write_bytes(b"")
    for call in (crisscross.load, crisscross.predictor):
        with pytest.raises(CrissCrossError) as caught:
            call(tmp_path)
        assert (
            str(caught.value) == f"{tmp_path}: a folder with an exported network: give its file, {tmp_path}/model.xml"
        )
    # Annotations are no network.
    (tmp_path / "model.bin").unlink()
    with pytest.raises(CrissCrossError) as caught:
        crisscross.load(tmp_path)
    assert "a folder with an exported network" not in str(caught.value)
    # Beside weights it is a run.
    (tmp_path / "best.safetensors").write_bytes(b"x")
    with pytest.raises(CrissCrossError, match=r"best\.safetensors"):
        crisscross.load(tmp_path)


def test_an_older_torch_is_told_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.13.1+cu130")
    with pytest.raises(CrissCrossError, match=r"free height and width needs torch 2\.14 or newer, this is 2\.13\.1"):
        export(small_segmenter(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
