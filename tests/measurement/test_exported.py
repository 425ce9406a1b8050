"""Exported variants label as the network does, and what is not installed is named with its cure."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from coarse_networks import small_segmenter

from crisscross.data.scenes import draw_scene
from crisscross.deploy.passport import Passport
from crisscross.deploy.samples import Samples, samples_of
from crisscross.hardware import BFLOAT16, processor
from crisscross.inference import Card
from crisscross.measurement import exported as subject
from crisscross.measurement.exported import exported_variants

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = torch.from_numpy(draw_scene(5, 64, 96)[0]).permute(2, 0, 1)
PRECISIONS = {"ONNX Runtime": ["fp32", "fp16", "int8"], "OpenVINO": ["fp32", "bf16", "fp16", "int8"]}


def scenes(network) -> Samples:
    return samples_of(None, Passport(Card.of(network.experiment)), 2)


@pytest.fixture
def stubs(monkeypatch):
    """Nothing is exported: whatever would write or open a file leaves an empty one behind."""

    def opened(path, *words, **options):
        path.touch()
        return (lambda card: lambda x: x), ""

    def made(*words, **options):
        path = next(word for word in words if isinstance(word, Path) and word.name != "plain.onnx")
        path.with_suffix(".bin").touch()
        return opened(path), path

    monkeypatch.setattr(subject, "write_onnx", lambda network, path, *words: path.touch())
    monkeypatch.setattr(subject, "open_onnx", opened)
    monkeypatch.setattr(subject, "open_openvino", opened)
    for name in ("_onnx_half", "_onnx_int8", "_openvino", "_openvino_int8"):
        monkeypatch.setattr(subject, name, made)


@pytest.mark.slow
def test_every_precision_labels_as_the_network_does(monkeypatch, tmp_path):
    bfloat16_here = processor()[1] & set(BFLOAT16)
    monkeypatch.setattr(subject, "processor", lambda: ("some", {"amx_bf16"}))
    network = small_segmenter()
    found, reasons = exported_variants(network, tmp_path, scenes(network))
    assert not reasons
    assert [(one.name, one.precision) for one in found] == [
        (n, p) for n, several in PRECISIONS.items() for p in several
    ]
    expected = network.predict(IMAGE.permute(1, 2, 0).numpy()).labels
    assert len(np.unique(expected)) > 1
    for one in found:
        same = (one.labels(IMAGE).numpy() == expected).mean()
        assert same == 1 if one.precision == "fp32" else same > 0.9, one
    if bfloat16_here:
        x = np.ones((1, 3, 64, 96), np.float32)
        stages = {one.precision: one.predictor.stages for one in found if one.name == "OpenVINO"}
        by = {precision: own.decode([own.encode(x)], [0]) for precision, own in stages.items()}
        assert 1e-6 < np.abs(by["bf16"] - by["fp32"]).max() < 0.1 * np.abs(by["fp32"]).max()
    sizes = {(one.name, one.precision): one.weight_bytes for one in found}
    weights = sum(tensor.nbytes for tensor in network.parameters())
    assert sizes["OpenVINO", "fp32"] == sizes["OpenVINO", "bf16"] == pytest.approx(weights, rel=0.1)
    assert sizes["OpenVINO", "fp16"] == pytest.approx(weights / 2, rel=0.1)


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize(
    ("features", "precisions"),
    [
        ({"avx512_vnni"}, {"fp32", "fp16"}),
        ({"avx512f", "avx512_bf16"}, {"fp32", "bf16", "fp16"}),
        # The system does not say: OpenVINO would compute in float32 and not tell.
        (set(), {"fp32", "fp16"}),
    ],
)
def test_bfloat16_is_left_out_where_the_processor_lacks_it_and_int8_unless_asked_for(
    features, precisions, monkeypatch, tmp_path
):
    monkeypatch.setattr(subject, "processor", lambda: ("some", features))
    found, _ = exported_variants(small_segmenter(), tmp_path)
    assert {one.precision for one in found} == precisions


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize("missing", ["onnxruntime", "openvino"])
def test_a_runtime_that_is_not_installed_is_named_with_its_cure(missing, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    found, reasons = exported_variants(small_segmenter(), tmp_path)
    left, extra = ("OpenVINO", "onnx") if missing == "onnxruntime" else ("ONNX Runtime", "openvino")
    assert {one.name for one in found} == {left} and len(reasons) == 1
    assert f"needs {missing}: run `pip install '.[{extra}]'`" in reasons[0]


def test_without_either_nothing_is_exported(monkeypatch, tmp_path):
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    found, reasons = exported_variants(small_segmenter(), tmp_path)
    assert not found and len(reasons) == 2 and not list(tmp_path.iterdir())
