"""Half and double precision in prediction: networks that were cast, and --precision."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from instances_data import tiny as tiny_instances
from networks import narrow
from PIL import Image
from small_data import CLASSES, draw_image, draw_labels, write_folder
from torch import nn
from torch.nn import functional

import crisscross
from crisscross import hardware
from crisscross.api.networks import wanted
from crisscross.cli import main
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.instances.network import InstanceSegmenter
from crisscross.layers.modes import dtype_of

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGE = draw_image(3, 50, 70)


@pytest.fixture(scope="module")
def network() -> crisscross.Segmenter:
    """Its labels are all over the image, its logits apart from each other."""
    torch.manual_seed(0)
    model = ModelConfig(backbone="test_resnet", output_stride=8, **narrow(16, 0))
    made = crisscross.Segmenter(Experiment(model=model, data=DataConfig(classes=CLASSES))).eval()
    nn.init.constant_(made.head.attend.attention.gamma, 0.5)
    nn.init.normal_(made.head.classify.weight)
    return made


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    crisscross.save(network, path)
    return path


def logits(network: crisscross.Segmenter, image: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """As described: normalize, one pass in `dtype`, then resize in float32."""
    preprocess = network.experiment.preprocess
    x = (image - np.array(preprocess.mean, np.float32)) / np.array(preprocess.std, np.float32)
    with torch.no_grad():
        coarse = network.coarse(torch.from_numpy(x).float().permute(2, 0, 1)[None].to(dtype)).main.float()
    return functional.interpolate(coarse, image.shape[:2], mode="bilinear")[0].numpy()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_a_network_that_was_cast_predicts(network, dtype):
    cast = copy.deepcopy(network).to(dtype)
    expected, exact = logits(cast, IMAGE, dtype), logits(network, IMAGE, torch.float32)
    found = cast.predict(IMAGE, probabilities=True)
    assert (found.labels == expected.argmax(0)).mean() > 0.999
    odds = np.exp(expected - expected.max(0))
    assert found.probabilities.dtype == np.float32
    assert np.abs(found.probabilities - odds / odds.sum(0)).max() < 1e-5
    assert np.array_equal(cast.predict_big(IMAGE), found.labels)
    assert len(np.unique(found.labels)) > 1
    bound = {torch.float16: 2e-2, torch.bfloat16: 2e-1, torch.float64: 1e-4}[dtype]
    assert np.abs(expected - exact).max() < bound * np.abs(exact).max()


def test_norms_may_stay_in_float32():
    parts = nn.ModuleList([nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1).half(), nn.Linear(3, 3)])
    assert dtype_of(parts) == torch.float16
    # Weights that are only kept in 8 bits say nothing; what they are used in is that of the rest.
    conv = nn.Conv2d(3, 3, 1).to(torch.float8_e4m3fn)
    assert dtype_of(nn.ModuleList([conv, nn.BatchNorm2d(3).bfloat16()])) == torch.bfloat16
    assert dtype_of(nn.ReLU()) == torch.float32


def test_logits_beyond_half_precision_are_an_error(network):
    cast = copy.deepcopy(network)
    nn.init.constant_(cast.head.classify.bias, 1e5)
    assert len(np.unique(cast.predict(IMAGE).labels)) > 1
    with pytest.raises(CrissCrossError, match="numbers overflow; run it in bf16 or fp32"):
        cast.half().predict(IMAGE)


def test_mask_rcnn_predicts_in_float32_and_float64():
    torch.manual_seed(0)
    made = InstanceSegmenter(tiny_instances("inference.score=0", "inference.detections=3")).eval()
    expected, found = made.predict(IMAGE), copy.deepcopy(made).double().predict(IMAGE)
    assert np.abs(found.boxes - expected.boxes).max() < 1e-2 and len(found.boxes) == 3
    with pytest.raises(CrissCrossError, match=r"predicts in float32 or float64, its weights are torch\.float16"):
        made.half().predict(IMAGE)


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", None)])
def test_evaluate_in_a_precision(network, weights, tmp_path, capsys, name, dtype):
    data, facts = write_folder(tmp_path / "data", {"train": 1, "val": 2}, 40, 56), tmp_path / "facts.json"
    words = ["evaluate", str(weights), "--data", str(data), "--name", "folder", "--split", "val", "--json", str(facts)]
    assert main([*words, "--workers", "0", "--device", "cpu", "--precision", name]) == 0
    counts = np.zeros((3, 3), np.int64)
    for index in (1, 2):
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            labels = logits(network, draw_image(index, 40, 56), torch.float32).argmax(0)
        truth = draw_labels(index, 40, 56)
        np.add.at(counts, (truth[truth != 255], labels[truth != 255]), 1)
    known = json.loads(facts.read_text())
    # Another memory format is another order of sums.
    assert np.abs(np.array(known["confusion"]) - counts).sum() < 0.03 * counts.sum()
    assert known["precision"] == name and f"computed in {name}" in capsys.readouterr().out


@pytest.fixture
def seen(monkeypatch):
    """The dtypes of the logits that networks gave."""
    dtypes, coarse = [], crisscross.Segmenter.coarse

    def recorded(self, x):
        found = coarse(self, x)
        dtypes.append(found.main.dtype)
        return found

    monkeypatch.setattr(crisscross.Segmenter, "coarse", recorded)
    return dtypes


def test_predict_in_a_precision(network, weights, tmp_path, seen, monkeypatch, capsys):
    monkeypatch.setattr(hardware, "processor", lambda: ("some", {"avx2", "avx512_bf16"}))
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    with torch.autocast("cpu", torch.float16):
        expected = logits(network, IMAGE, torch.float32).argmax(0)
    for more in ([], ["--big"]):
        out = tmp_path / f"out{len(more)}"
        words = ["predict", str(weights), str(tmp_path / "a.png"), "--device", "cpu", "--precision", "fp16", *more]
        assert main([*words, "--out", str(out)]) == 0
        assert (np.asarray(Image.open(out / "labels" / "a.png")) == expected).mean() > 0.98
        warned = "crisscross: warning: --precision=fp16: this processor has no instructions for it"
        assert capsys.readouterr().err.count(warned) == 1
    assert set(seen) == {torch.float16}


def test_the_warning_comes_once_for_a_network_and_from_one_process(network, monkeypatch):
    monkeypatch.setattr(hardware, "processor", lambda: ("some", {"avx2"}))
    for rank, expected in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        source = wanted(network, precision="bf16")
        with warnings.catch_warnings(record=True) as seen:
            # As the command does: nothing is left out as a repetition.
            warnings.simplefilter("always")
            loaded = source.load("cpu", {})
            for _ in range(2):
                with source.computing(loaded):
                    pass
        assert len([one for one in seen if one.category is CrissCrossWarning]) == expected


def test_predict_a_video_in_a_precision(weights, tmp_path, seen):
    pytest.importorskip("av")
    from clip_networks import film

    source = film(tmp_path / "film.mp4", range(0, 80, 40))
    words = [
        "predict",
        str(weights),
        str(source),
        "--out",
        str(tmp_path / "out.mp4"),
        "--device",
        "cpu",
        "--precision",
        "bf16",
    ]
    assert main(words) == 0
    assert seen == [torch.bfloat16] * 2


def test_instances_have_no_precision_to_choose(tmp_path, capsys):
    words = ["--precision", "bf16", "--device", "cpu"]
    assert main(["evaluate", "maskrcnn_r50_fpn_rcca_coco", "--data", str(tmp_path), *words]) == 2
    assert "--precision is not available for instance segmentation" in capsys.readouterr().err
    assert main(["predict", "maskrcnn_r50_fpn_rcca_coco", str(tmp_path), *words]) == 2
    assert "--precision is not available for instance segmentation" in capsys.readouterr().err
