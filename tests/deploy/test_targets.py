"""Every target, precision and kind of network; most of them take minutes on a busy machine."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from clip_networks import network
from coarse_networks import small_segmenter
from PIL import Image
from torch import nn

import crisscross
from crisscross import zoo
from crisscross.checkpoints import build
from crisscross.data.scenes import CLASSES, PALETTE, draw_scene, write_scenes
from crisscross.deploy import open_exported
from crisscross.deploy.exporting import export
from crisscross.deploy.modules import export_module
from crisscross.deploy.parity import parity
from crisscross.deploy.passport import Passport
from crisscross.deploy.quantize import sensitive
from crisscross.deploy.samples import samples_of
from crisscross.errors import CrissCrossError
from crisscross.inference import Predictor
from crisscross.surgery import insert_attention

pytestmark = pytest.mark.usefixtures("one_thread", "exports")
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


@pytest.mark.parametrize("label", ["middle", pytest.param("every", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("recurrence", "pyramid"), [pytest.param(0, 0, marks=pytest.mark.slow), (3, 0), (3, 8)])
def test_clips_export(tmp_path, label, recurrence, pyramid):
    segmenter = network(3, label, **{"model.head.recurrence": recurrence, "model.head.pyramid": pyramid})
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
    path, found = export(crisscross.load("camvid-light"), tmp_path, to, precision)
    assert found.passed, found.problems
    assert (found.sizes[0].largest > 1e-3) == (precision != "float32")
    predictor = open_exported(path)
    assert predictor.passport.precision == precision and predictor.card.classes[0] == "sky"


def test_masks_are_scored(tmp_path):
    """A folder that is a data set of the network's classes: its test split, and its training split for calibration."""
    write_scenes(tmp_path / "data", {"train": 2, "val": 1, "test": 3}, height=64, width=128)
    card = replace(small_segmenter().predictor.card, classes=CLASSES, palette=PALETTE)
    samples = samples_of(tmp_path / "data", Passport(card), 2)
    assert samples.source.endswith("data, split test") and len(samples.check) == len(samples.calibrate) == 2
    assert not np.array_equal(samples.check[0], samples.calibrate[0])

    def says(shift):
        """The labels of the masks, moved by one class on every `shift`-th image."""
        turn = iter(range(100))
        masks = [np.where(mask == 255, 0, mask) for mask in samples.masks]
        maps = [(mask + (n % shift == shift - 1)) % len(CLASSES) for n, mask in enumerate(masks)]
        one_hot = [np.eye(len(CLASSES), dtype=np.float32)[labels].transpose(2, 0, 1)[None] for labels in maps]

        def logits_of(x):
            if x.shape[-2:] != (64, 128):
                return np.random.default_rng(0).random((len(x), len(CLASSES), 4, 4), np.float32)
            return one_hot[next(turn)]

        return Predictor(logits_of, card)

    found = parity(says(9), says(2), "int8", samples)
    assert found.equal == 0.5 and found.miou[0] == 1 and 0 < found.miou[1] < 0.7
    assert found.problems[0].endswith("points of mIoU are lost; at most 0.50 are allowed")


@pytest.mark.parametrize("folder", ["other classes", "images"])
def test_other_folders_are_images(tmp_path, folder):
    if folder == "images":
        Image.fromarray(draw_scene(0, 64, 128)[0]).save(tmp_path / "one.png")
    else:
        write_scenes(tmp_path, {"train": 2, "test": 2}, height=64, width=128)
    samples = samples_of(tmp_path, Passport(small_segmenter().predictor.card), 2)
    assert samples.source == str(tmp_path) and not samples.masks and 0 < len(samples.check) <= 2
    assert samples.calibrate[0].shape == (64, 128, 3)


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


@pytest.fixture(scope="module")
def r50(one_thread, tmp_path_factory):
    """A published R-50 with drawn weights and open gates, labeling by small windows; its file; a photograph."""
    torch.manual_seed(0)
    segmenter = build("ccnet_r50-d8_4xb2-40k_cityscapes-769x769", pretrained=False).eval()
    for key, gate in segmenter.named_parameters():
        if key.endswith("gamma"):
            nn.init.constant_(gate, 0.5)
    experiment = segmenter.experiment
    assert experiment.inference.mode == "slide" and segmenter.predictor.card.align_corners
    inference = replace(experiment.inference, window=(193, 193), stride=(129, 129), ratios=(0.5, 1.25))
    preprocess = replace(experiment.preprocess, scale=(320, 320))
    segmenter.experiment = replace(experiment, inference=inference, preprocess=preprocess)
    path, found = export(segmenter, tmp_path_factory.mktemp("r50"), count=1)
    assert found.passed, found.problems
    photo = Path(matplotlib.get_data_path(), "sample_data/grace_hopper.jpg")
    return segmenter, open_exported(path), np.asarray(Image.open(photo).convert("RGB"))[::2, ::2]


@pytest.mark.slow
@pytest.mark.parametrize("tta", [False, True], ids=["sliding", "multi-scale and flip"])
def test_an_r50_by_windows_and_scales(r50, tta):
    segmenter, predictor, image = r50
    expected, found = (one.predict(image, probabilities=True, tta=tta) for one in (segmenter, predictor))
    assert len(np.unique(expected.labels)) > 3
    assert (expected.labels == found.labels).mean() > 0.9999
    assert 0 < np.abs(expected.probabilities - found.probabilities).max() < 1e-4


def distinct_networks() -> dict[str, list[str]]:
    """Recipes by a text that is equal for those that differ in training alone."""
    found: dict[str, list[str]] = {}
    for name in zoo.RECIPES:
        experiment = zoo.with_known_classes(zoo.recipe(name))
        found.setdefault(f"{experiment.model} {len(experiment.data.classes)}", []).append(name)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("names", distinct_networks().values(), ids=" ".join)
def test_every_recipe_exports(tmp_path, names):
    """The recipes of a test have the same network. The image is labeled as it is, which changes nothing in the file."""
    torch.manual_seed(0)
    options = {} if zoo.with_known_classes(zoo.recipe(names[0])).data.classes else {"data.classes": ["a", "b", "c"]}
    segmenter = build(names[0], pretrained=False, **options).eval()
    experiment = segmenter.experiment
    inference = replace(experiment.inference, window=(257, 257), stride=(171, 171))
    preprocess = replace(experiment.preprocess, scale=None)
    segmenter.experiment = replace(experiment, inference=inference, preprocess=preprocess)
    for key, gate in segmenter.named_parameters():
        if key.endswith("gamma"):
            nn.init.constant_(gate, 0.5)
    found = export(segmenter, tmp_path, count=1).parity
    assert found.passed, found.problems


def test_what_int8_leaves_in_float32():
    """The first twelve convolutions, depthwise ones and the last, each once."""
    assert sensitive([(f"c{n}", n in (2, 13)) for n in range(16)]) == [*(f"c{n}" for n in range(12)), "c13", "c15"]
    assert sensitive([("a", False), ("b", True)]) == ["a", "b"]


def test_networks_that_cannot_be_exported(tmp_path):
    for wrong in (nn.Conv2d(3, 3, 1), crisscross.optimize(small_segmenter())):
        with pytest.raises(CrissCrossError, match=r"does not label pixels|export the original"):
            export(wrong, tmp_path)
