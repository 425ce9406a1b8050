"""The attention of a pixel against dense matrices, and what switching it off changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from clip_networks import network as clip_network
from instances_data import tiny, with_classes
from networks import narrow
from PIL import Image
from torch import nn

import crisscross
from crisscross import CrissCrossAttention, CrissCrossAttention3d, RecurrentCrissCrossAttention
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.errors import CrissCrossError
from crisscross.explanation import explain, figure
from crisscross.explanation.attention import look
from crisscross.explanation.pixel import cells
from crisscross.instances.network import InstanceSegmenter
from crisscross.models import create_segmenter

pytestmark = pytest.mark.usefixtures("one_thread")


def dense(layer, x, axis="both"):
    """The attention matrix [P, P] of one image, by a mask over all pairs of positions."""
    q, k = (project(x)[0].flatten(1).double() for project in (layer.query, layer.key))
    places = torch.stack(torch.meshgrid(*map(torch.arange, x.shape[2:]), indexing="ij")).flatten(1)
    same = places[:, :, None] == places[:, None, :]
    # All coordinates but one agree; which one may differ is the axis.
    lines = {"row": [-1], "column": [-2], "both": range(len(places))}[axis]
    others = [[d for d in range(len(places)) if d != line % len(places)] for line in lines]
    seen = torch.stack([same[rest].all(0) for rest in others]).any(0)
    logits = (q.t() @ k) * (layer.scale or 1.0)
    return logits.masked_fill(~seen, -torch.inf).softmax(-1)


@pytest.mark.parametrize(
    ("layer", "size", "cell"),
    [
        (lambda: CrissCrossAttention(16, 4), (5, 7), (3, 2)),
        (lambda: CrissCrossAttention(16, 4, axis="row"), (5, 7), (0, 6)),
        (lambda: CrissCrossAttention(16, 4, axis="column", scale=0.5), (5, 7), (4, 0)),
        (lambda: CrissCrossAttention3d(16, 4), (3, 4, 5), (1, 2, 4)),
    ],
)
def test_passes_are_rows_of_the_matrix_and_all_of_them_its_product(layer, size, cell):
    torch.manual_seed(0)
    made = layer()
    inputs = [torch.randn(1, 16, *size) for _ in range(3)]
    found = look("a", made, inputs, cell)
    place = np.ravel_multi_index(cell, size)
    matrices = [dense(made, x, made.axis).detach() for x in inputs]
    for one, matrix in zip(found.passes, matrices, strict=True):
        np.testing.assert_allclose(one.ravel(), matrix[place], atol=1e-6)
        assert one.sum() == pytest.approx(1, abs=1e-5)
    products = [matrices[0], matrices[1] @ matrices[0], matrices[2] @ matrices[1] @ matrices[0]]
    for one, product in zip(found.together, products, strict=True):
        np.testing.assert_allclose(one.ravel(), product[place], atol=1e-6)
        assert one.sum() == pytest.approx(1, abs=1e-5)
    assert found.effective is found.together[2]
    if made.axis == "both":
        assert found.effective.min() > 0


def test_position_biases_are_part_of_the_logits():
    torch.manual_seed(0)
    layer = CrissCrossAttention(16, 4, position_bias=2)
    torch.nn.init.normal_(layer.row_bias, std=3)
    x = torch.randn(1, 16, 4, 6)
    (found,) = look("a", layer, [x], (1, 2)).passes
    q, k = layer.query(x)[0, :, 1, 2], layer.key(x)[0, :, 1]
    bias = layer.row_bias[(torch.arange(6) - 2).clamp(-2, 2) + 2]
    expected = (q @ k + bias).softmax(-1).detach().numpy()
    row = found[1]
    np.testing.assert_allclose(row / row.sum(), expected, atol=1e-6)


def segmenter(recurrence=2, gate=0.7):
    torch.manual_seed(0)
    model = ModelConfig(backbone="test_resnet", **narrow(recurrence=recurrence))
    made = create_segmenter(Experiment(model=model, data=DataConfig(classes=("sky", "road", "car")))).eval()
    if recurrence:
        made.head.attend.attention.gamma.data.fill_(gate)
    return made


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (72, 104, 3), dtype=np.uint8)


def test_probabilities_are_those_of_predict_with_and_without_the_gate(image):
    network = segmenter()
    found = explain(network, image, (30, 50))
    expected = network.predict(image, probabilities=True)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities[:, 50, 30])
    plain = segmenter(gate=0.0).predict(image, probabilities=True)
    np.testing.assert_array_equal(found.labels_without, plain.labels)
    np.testing.assert_array_equal(found.without, plain.probabilities[:, 50, 30])
    assert found.changed == (expected.labels != plain.labels).mean()
    name, value = found.top(1)[0]
    assert name == network.classes[expected.labels[50, 30]] and value == found.probabilities.max()
    # The network is as it was: gate, hooks, results.
    assert network.head.attend.attention.gamma.item() == pytest.approx(0.7)
    assert not network.head.attend.attention._forward_pre_hooks
    np.testing.assert_array_equal(network.predict(image).labels, expected.labels)


def test_the_cell_is_the_one_whose_part_of_the_image_holds_the_pixel(image):
    network = segmenter()
    # 72 x 104 is filled up to 96 x 128, cells of 8 pixels.
    inference = replace(network.experiment.inference, pad_to=(96, 128))
    network.experiment = replace(network.experiment, inference=inference)
    (layer,) = explain(network, image, (30, 50)).layers
    assert layer.effective.shape == (12, 16)
    assert layer.cell == (50 // 8, 30 // 8) and len(layer.passes) == 2
    assert cells(104, 104 / 128, 16).tolist() == [x // 8 for x in range(104)]


def test_clips_are_explained_in_their_labeled_frame(image):
    network = clip_network(3, "last")
    found = explain(network, image, (10, 20))
    (layer,) = found.layers
    assert layer.effective.shape[0] == 3 and layer.cell[0] == 2
    assert layer.effective.sum() == pytest.approx(1, abs=1e-4)
    assert figure(found).width > 600
    assert len(found.frames) == 1


def test_frames_of_a_clip_are_shown_in_order(image):
    network = clip_network(3, "last")
    for layer in (module for module in network.modules() if isinstance(module, CrissCrossAttention3d)):
        layer.gamma.data.fill_(2.0)
    frames = [image, np.roll(image, 9, 1), 255 - image]
    found = explain(network, frames, (10, 20))
    # The third frame is the first whose clip is filled up by nothing.
    expected = [*network.predictor.label_frames(frames)]
    np.testing.assert_array_equal(found.labels, expected[2])
    assert (found.labels != explain(network, frames[2], (10, 20)).labels).any()
    np.testing.assert_array_equal(found.image, frames[2])
    np.testing.assert_array_equal(found.frames, frames)
    weights = found.layers[0].passes[0]
    row, column = found.layers[0].cell[1:]
    assert weights[0, row, column] != weights[1, row, column]
    for given, message in ((frames[:2], "clips of 3 frames, got 2"), ([*frames[:2], image[:50]], "must have one size")):
        with pytest.raises(CrissCrossError, match=message):
            explain(network, given, (10, 20))
    with pytest.raises(CrissCrossError, match="takes a single image, got 3"):
        explain(segmenter(), frames, (10, 20))


def test_inserted_attention_and_instances(image):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), RecurrentCrissCrossAttention(16), nn.Conv2d(16, 4, 1)).eval()
    found = explain(plain, torch.randn(1, 3, 20, 30), (29, 19))
    (layer,) = found.layers
    assert (layer.name, layer.cell, found.probabilities) == ("1.attention", (9, 14), None)
    network = InstanceSegmenter(with_classes(tiny()), initialize=False).eval()
    (layer,) = explain(network, image, (103, 71)).layers
    assert layer.name == "backbone.body.layer3.attention.attention" and len(layer.passes) == 2
    assert layer.effective.sum() == pytest.approx(1, abs=1e-4)


def test_what_cannot_be_explained_is_one_line(image):
    for at in ((104, 0), (0, 72), (-1, 5)):
        with pytest.raises(CrissCrossError, match=r"outside of the image, which is 104 x 72 pixels"):
            explain(segmenter(), image, at)
    for at in ((1.5, 2), (1,), (1, 2, 3), ("1", 2), None):
        with pytest.raises(CrissCrossError, match="not a pixel"):
            explain(segmenter(), image, at)
    assert explain(segmenter(), image, (np.int64(3), np.int64(4))).at == (3, 4)
    with pytest.raises(CrissCrossError, match="has no criss-cross attention"):
        explain(segmenter(recurrence=0), image, (1, 1))
    with pytest.raises(CrissCrossError, match="network with its weights"):
        explain(segmenter().predictor, image, (1, 1))


def test_the_command_writes_figure_and_arrays(tmp_path, image, capsys):
    from crisscross.cli import main

    crisscross.save(segmenter(), tmp_path / "net.safetensors")
    Image.fromarray(image).save(tmp_path / "a.png")
    words = ["explain", str(tmp_path / "net.safetensors"), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main([*words, "--at", "30,50", "--arrays"]) == 0
    told = capsys.readouterr().out
    assert "gate 0.700, 2 passes" in told and "attention changes" in told
    arrays = np.load(tmp_path / "out/a-30-50.npz")
    assert arrays["head.attend.attention.effective"].sum() == pytest.approx(1, abs=1e-4)
    with Image.open(tmp_path / "out/a-30-50.png") as sheet:
        assert sheet.width == 3 * (400 + 16) + 16
    for at, message in (("200,1", "outside of the image"), ("1;2", "write X,Y")):
        assert main([*words, "--at", at]) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-30-50.npz", "a-30-50.png"]
