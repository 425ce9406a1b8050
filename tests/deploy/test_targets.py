"""Every target, precision and kind of network; most of them take minutes on a busy machine."""

import numpy as np
import pytest
import torch
from clip_networks import network
from coarse_networks import small_segmenter
from torch import nn

import crisscross
from crisscross import zoo
from crisscross.checkpoints import build
from crisscross.data.scenes import write_scenes
from crisscross.deploy import open_exported
from crisscross.deploy.exporting import export
from crisscross.deploy.modules import export_module
from crisscross.errors import CrissCrossError
from crisscross.surgery import insert_attention

pytestmark = pytest.mark.usefixtures("one_thread")
TARGETS = [
    ("openvino", "float32"),
    ("torch", "float32"),
    ("onnx", "float16"),
    ("openvino", "float16"),
    ("torch", "float16"),
    ("onnx", "int8"),
    ("openvino", "int8"),
]


def frames(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (9, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)[:67, :91] for _ in range(count)]


@pytest.mark.parametrize("label", ["middle", "every"])
@pytest.mark.parametrize("recurrence", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_clips_export(tmp_path, label, recurrence):
    segmenter = network(3, label, **{"model.head.recurrence": recurrence})
    nn.init.normal_(segmenter.head.classify.weight)
    path, found = export(segmenter, tmp_path, count=1)
    assert found.passed and found.equal == 1
    predictor, video = open_exported(path), frames(5)
    expected = list(segmenter.predictor.label_frames(video))
    assert len(expected) == 5 and len(np.unique(expected)) == 2
    for mine, theirs in zip(predictor.label_frames(video), expected, strict=True):
        assert (mine == theirs).mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize(("to", "precision"), TARGETS)
def test_camvid_light_to_every_target(tmp_path, to, precision):
    """With its weights; int8 is calibrated with drawn scenes, on which it was not trained."""
    path, found = export(crisscross.load("camvid-light"), tmp_path, to, precision, count=4)
    assert found.passed or (precision == "int8" and found.equal > 0.9), found.problems
    assert (found.sizes[0].largest > 1e-3) == (precision != "float32")
    predictor = open_exported(path)
    assert predictor.passport.precision == precision and predictor.card.classes[0] == "sky"


def test_masks_are_scored(tmp_path):
    """A folder that is a data set of the network's classes: its test split, and its training split for calibration."""
    write_scenes(tmp_path / "data", {"train": 2, "val": 1, "test": 3}, height=64, width=128)
    segmenter = build("demo", **{"data.classes": crisscross.data.scenes.CLASSES}).eval()
    found = export(segmenter, tmp_path / "out", images=tmp_path / "data", count=3).parity
    assert found.images == 3 and found.source.endswith("split test") and found.miou[0] == found.miou[1]


@pytest.mark.slow
def test_inserted_attention_exports(tmp_path):
    segmenter = small_segmenter()
    insert_attention(segmenter, "backbone.net.layer3", channels=segmenter.backbone.channels[-2])
    for name, gate in segmenter.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(gate, 0.6)
    assert export(segmenter, tmp_path, count=1).parity.passed


@pytest.mark.slow
@pytest.mark.parametrize("kind", [crisscross.RecurrentCrissCrossAttention, crisscross.RecurrentCrissCrossAttention3d])
def test_layers_export(tmp_path, kind):
    layer = kind(16)
    nn.init.constant_(layer.attention.gamma, 0.6)
    shape = (2, 16, 3, 5, 7) if "3d" in kind.__name__ else (2, 16, 5, 7)
    assert export_module(layer, [torch.randn(shape)], tmp_path / "layer.onnx") < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.RECIPES)
def test_every_recipe_exports(tmp_path, name):
    torch.manual_seed(0)
    options = {} if zoo.with_known_classes(zoo.recipe(name)).data.classes else {"data.classes": ["a", "b", "c"]}
    segmenter = build(name, pretrained=False, **options).eval()
    for key, gate in segmenter.named_parameters():
        if key.endswith("gamma"):
            nn.init.constant_(gate, 0.5)
    found = export(segmenter, tmp_path, count=1).parity
    assert found.passed, found.problems


def test_networks_that_cannot_be_exported(tmp_path):
    for wrong in (nn.Conv2d(3, 3, 1), crisscross.optimize(small_segmenter())):
        with pytest.raises(CrissCrossError, match=r"does not label pixels|export the original"):
            export(wrong, tmp_path)
