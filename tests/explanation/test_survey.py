"""What attention does over a data set, against scores and sums that are made image by image."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from clip_networks import network as clip_network
from networks import narrow
from small_data import CLASSES, write_folder

import crisscross
from crisscross.cli import main
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.data import open_dataset
from crisscross.data.files.reading import read_pair
from crisscross.errors import CrissCrossError
from crisscross.explanation import survey_network
from crisscross.explanation.attention import recorded
from crisscross.explanation.page import render
from crisscross.explanation.spread import spread
from crisscross.explanation.survey import densest
from crisscross.models import create_segmenter

pytestmark = pytest.mark.usefixtures("one_thread")


def segmenter(gate=3.0, recurrence=2):
    torch.manual_seed(0)
    data = DataConfig(name="folder", classes=CLASSES, val_split="val")
    model = ModelConfig(backbone="test_resnet", **narrow(recurrence=recurrence))
    made = create_segmenter(Experiment(model=model, data=data)).eval()
    if recurrence:
        made.head.attend.attention.gamma.data.fill_(gate)
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "set", {"train": 1, "val": 5}, 64, 96)


@pytest.fixture(scope="module")
def found(data):
    return survey_network(segmenter(), open_dataset("folder", data), "val", 5)


def test_scores_are_those_of_evaluate_with_the_gate_open_and_closed(found, data):
    for counts, gate in ((found.counts, 3.0), (found.counts_without, 0.0)):
        expected = crisscross.evaluate(segmenter(gate), data, "val", name="folder", workers=0, progress=False)
        np.testing.assert_array_equal(counts, expected.confusion)
    assert (found.counts != found.counts_without).any()
    facts = found.facts()
    assert facts["miou"] == pytest.approx(crisscross.metrics.scores(found.counts).miou)


def test_changes_and_entropies_are_counted_by_the_true_class(found, data):
    dataset, network = open_dataset("folder", data), segmenter()
    changed, cells, entropy, weight, pixels = (np.zeros(3) for _ in range(5))
    for pair in dataset.splits["val"]:
        image, truth = read_pair(pair, dataset)
        with recorded(network) as inputs:
            labels = network.predict(image).labels
        without = segmenter(0.0).predict(image).labels
        # Cells of 8 pixels; the pixel in the middle of the first is the one at 4.
        middle = truth[4::8, 4::8]
        second = spread(network.head.attend.attention, inputs["head.attend.attention"][1])
        for k in range(3):
            changed[k] += ((labels != without) & (truth == k)).sum()
            cells[k] += (middle == k).sum()
            entropy[k] += second.entropy[middle == k].sum()
            weight[k] += second.weight["column"][middle == k].sum()
            pixels[k] += 8 * second.reach["column"][middle == k].sum()
    np.testing.assert_array_equal(found.changed, changed)
    (layer,) = found.layers
    assert (layer.name, layer.gate, len(layer.passes)) == ("head.attend.attention", 3.0, 2)
    one = layer.passes[1]
    np.testing.assert_array_equal(one.cells, cells)
    assert cells.min() > 0 and changed.min() > 0
    for k in range(3):
        assert one.mean_entropy(k) == pytest.approx(entropy[k] / cells[k], rel=1e-5)
        assert one.mean_distance("column", k) == pytest.approx(pixels[k] / weight[k], rel=1e-5)
    assert one.mean_entropy() == pytest.approx(entropy.sum() / cells.sum(), rel=1e-5)
    # 8 rows and 12 columns of cells: the mean of |i - j| over all pairs, and over pairs of different ones.
    rows, columns = np.arange(12), np.arange(8)
    assert one.equal_distance("row") == pytest.approx(8 * np.abs(rows[:, None] - rows).mean())
    assert one.equal_distance("column") == pytest.approx(8 * np.abs(columns[:, None] - columns).sum() / (8 * 7))


def test_examples_are_pixels_that_change(found):
    shares = [one.changed for *_, one in found.examples]
    assert len(shares) == 4 and shares == sorted(shares, reverse=True) and shares[-1] > 0
    for _, truth, one in found.examples:
        x, y = one.at
        assert one.labels[y, x] != one.labels_without[y, x] and truth.shape == one.labels.shape


def test_the_densest_of_the_marked_pixels():
    marked = np.zeros((60, 80), bool)
    assert densest(marked) == (40, 30)
    marked[2, 3] = True
    assert densest(marked) == (3, 2)
    marked[40:43, 70:73] = True
    assert densest(marked) == (71, 41)


def test_images_are_spread_evenly_over_the_split_and_clips_stand_still(data):
    dataset = open_dataset("folder", data)
    assert survey_network(segmenter(), dataset, "val", 2).images == 2
    network = clip_network(3, "last")
    with pytest.raises(CrissCrossError, match="has 3 classes, the network 2"):
        survey_network(network, dataset, "val")
    two = replace(dataset, classes=network.classes, palette=network.predictor.palette, void=(2,))
    (layer,) = survey_network(network, two, "val", 1).layers
    assert [*layer.passes[0].weight] == ["row", "column", "time"] and layer.sides[1] > 0


def test_the_page_needs_no_other_file(found):
    html = render(found, "net <1>", "5 of 5 images.", "crisscross explain net")
    assert "net &lt;1&gt;" in html and "<1>" not in html
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?://|<script", html)
    # `i` is a swatch there.
    assert "<i>" not in html
    # As on the pages of `evaluate` and of a training.
    assert f">{found.facts()['miou']:.3f}<" in html
    for words in ("Attention switched off", "Layer head.attend.attention", "Effective receptive field", "gate"):
        assert words in html


def test_the_command_writes_page_and_numbers(tmp_path, data, capsys):
    crisscross.save(segmenter(), tmp_path / "net.safetensors")
    words = ["explain", str(tmp_path / "net.safetensors"), "--data", str(data), "--split", "val", "--images", "3"]
    assert main([*words, "--report", str(tmp_path / "out")]) == 0
    assert "gate 3.000" in capsys.readouterr().out
    facts = json.loads((tmp_path / "out/explanation.json").read_text())
    assert facts["images"] == 3 and facts["images_in_split"] == 5 and [*facts["classes"]] == [*CLASSES]
    assert facts["layers"][0]["passes"][1]["classes"]["door"]["positions"] > 0
    assert (tmp_path / "out/explanation.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["explanation.html", "explanation.json"]
