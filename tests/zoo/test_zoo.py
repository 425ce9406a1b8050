"""The published tables: every number, every recipe and every network against what is known about them from outside."""

import re
from dataclasses import replace

import pytest
import torch
from paths import ROOT

from crisscross.checkpoints.publishers.table import PADDLESEG
from crisscross.cli import main
from crisscross.config import OptimConfig, load_experiment
from crisscross.config.heads import AuxHeadConfig, CCNetConfig
from crisscross.data.palette import default_palette
from crisscross.models import Segmenter
from crisscross.zoo import OURS, PUBLISHED, published, recipe
from crisscross.zoo.published_networks import ALIASES
from crisscross.zoo.tables import published_tables
from scripts.zoo_page import page

FACTS = ROOT.parent / "shared" / "docs" / "ccnet-facts.md"
CLASSES = {"cityscapes": 19, "ade20k": 150, "voc2012aug": 21}
# Backbone; head and auxiliary head by number of classes. Counted in MMSegmentation.
PARAMETERS = {50: 23_527_264, 101: 42_519_392}
HEADS = {19: 23_934_100 + 2_364_691, 150: 24_001_303 + 2_398_358, 21: 23_935_126 + 2_365_205}


def test_the_table_is_the_published_one():
    """Column sums, worked out by hand from the published tables, and some rows in full."""
    rows = list(PUBLISHED.values())
    assert len(rows) == len(ALIASES) == 16
    assert sum(round(100 * row.miou) for row in rows) == 110_496
    assert sum(round(100 * row.miou_tta) for row in rows) == 112_616
    assert sum(row.memory or 0 for row in rows) == pytest.approx(69.5)
    assert sum(row.fps or 0 for row in rows) == pytest.approx(77.16)
    assert published("ccnet_r50-d8_512x1024_40k_cityscapes").name == "ccnet_r50-d8_4xb2-40k_cityscapes-512x1024"
    row = published("ccnet_r101-d8_4xb4-160k_ade20k-512x512")
    assert (row.depth, row.crop, row.iterations, row.miou, row.miou_tta) == (101, (512, 512), 160_000, 43.71, 45.04)
    assert (row.memory, row.fps) == (None, None)
    assert row.url == (
        "https://download.openmmlab.com/mmsegmentation/v0.5/ccnet/ccnet_r101-d8_512x512_160k_ade20k/"
        "ccnet_r101-d8_512x512_160k_ade20k_20200616_000644-e849e007.pth"
    )
    row = published("ccnet_r101-d8_4xb2-40k_cityscapes-769x769")
    assert (row.miou, row.miou_tta, row.memory, row.fps) == (76.94, 78.62, 10.7, 1.01)
    assert published("no such row") is None


@pytest.mark.skipif(not FACTS.is_file(), reason="the list of facts is not beside this checkout (../shared/docs)")
def test_every_number_of_every_row():
    found = []
    for line in FACTS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 12 and cells[0].isdecimal():
            found.append(cells)
    assert len(found) == 16
    for cells, row in zip(found, PUBLISHED.values(), strict=True):
        _, name, _, _, iterations, batch, mode, miou, tta, memory, fps, file = cells
        assert row.name == name and f"{row.iterations // 1000}k" == iterations
        assert [row.miou, row.miou_tta] == [float(miou), float(tta)]
        assert [row.memory, row.fps] == [None if x == "-" else float(x) for x in (memory, fps)]
        older, _, stamp = file.partition(" / ")
        assert row.file == f"{older}_{stamp}.pth"
        experiment = recipe(name)
        assert experiment.train.batch == eval(batch.replace("x", "*"))
        assert experiment.inference.mode == mode


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_each_recipe_by_hand(name):
    experiment, row = recipe(name), PUBLISHED[name]
    assert experiment.name == name and recipe(row.older_name) == experiment
    model, train = experiment.model, experiment.train
    assert (model.backbone, model.output_stride, model.head.recurrence) == (f"resnet{row.depth}c", 8, 2)
    assert (model.head, model.aux_head, model.variant) == (CCNetConfig(), AuxHeadConfig(), "mmseg")
    assert (model.head.channels, model.head.reduction, model.head.dropout) == (512, 8, 0.1)
    assert (model.aux_head.channels, model.aux_head.dropout) == (256, 0.1)
    # Optimizer, loss and distortion are those of all rows; PyTorch's own mean would divide by valid pixels.
    assert experiment.optim == OptimConfig("sgd", 0.01, 0.9, 5e-4, 0.9, 1e-4, 0)
    assert (experiment.loss.normalizer, experiment.loss.aux_weight) == ("all", 0.4)
    assert experiment.augment.distortion and experiment.augment.flip == 0.5
    assert (experiment.augment.ratio, experiment.augment.max_fraction) == ((0.5, 2.0), 0.75)
    assert experiment.augment.crop == row.crop
    assert experiment.augment.scale == experiment.preprocess.scale
    expected = {
        ("cityscapes", (512, 1024)): ((2048, 1024), 8, "whole", False, "mean"),
        ("cityscapes", (769, 769)): ((2049, 1025), 8, "slide", True, "mean"),
        ("ade20k", (512, 512)): ((2048, 512), 16, "whole", False, "mean"),
        ("voc2012aug", (512, 512)): ((2048, 512), 16, "whole", False, "black"),
    }[row.data, row.crop]
    found = (experiment.preprocess.scale, train.batch, experiment.inference.mode, model.align_corners)
    assert (*found, experiment.augment.pad) == expected
    assert (experiment.inference.window, experiment.inference.stride) == ((769, 769), (513, 513))
    intervals = {20_000: 2_000, 40_000: 4_000, 80_000: 8_000, 160_000: 16_000}
    assert train.validate_every == train.checkpoint_every == intervals[train.iterations]
    assert (experiment.data.train_split, experiment.data.val_split) == ("train", "val")


@pytest.mark.parametrize("name", [name for name, row in PUBLISHED.items() if row.iterations != 80_000 or "ade" in name])
def test_each_network_has_the_published_size(name):
    row = PUBLISHED[name]
    classes = tuple(f"class {index}" for index in range(CLASSES[row.data]))
    experiment = recipe(name)
    data = replace(experiment.data, classes=classes, palette=default_palette(classes))
    with torch.device("meta"):
        network = Segmenter(replace(experiment, data=data), initialize=False)
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert counted == PARAMETERS[row.depth] + HEADS[len(classes)]


def test_the_page_is_up_to_date():
    assert (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8") == page(), (
        "write it again: python -m scripts.zoo_page > docs/zoo.md"
    )


def test_links_of_the_page_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", page())
    assert len(links) >= 6
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []


def test_the_command_prints_every_row_and_ours(capsys):
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = {line.split()[0] for line in lines if line.strip()}
    assert names >= PUBLISHED.keys() | OURS.keys()
    (row,) = [line.split() for line in lines if line.startswith("ccnet_r50-d8_4xb4-80k_ade20k-512x512")]
    assert row[1:] == ["R-50", "512x512", "80k", "8.8", "20.89", "41.78", "42.98", "-", "-"]
    assert {title: len(table) - 1 for title, table in published_tables().items()} == {
        "Cityscapes val": 8,
        "ADE20K val": 4,
        "Pascal VOC 2012 + Aug val": 4,
    }


def test_one_recipe_is_printed_as_a_file_that_can_be_used(capsys, tmp_path):
    name = "ccnet_r101-d8_4xb4-20k_voc12aug-512x512"
    assert main(["zoo", "ccnet_r101-d8_512x512_20k_voc12aug"]) == 0
    text = capsys.readouterr().out
    assert "# published: mIoU 77.27, ms+flip 79.02" in text and "-0007b61d.pth" in text
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert load_experiment(tmp_path / "mine.yaml") == recipe(name)


def test_an_unknown_name_names_the_near_miss(capsys):
    assert main(["zoo", "ccnet_r50-d8_4xb2-40k_cityscapes-512x1023"]) == 2
    assert "did you mean ccnet_r50-d8_4xb2-40k_cityscapes-512x1024" in capsys.readouterr().err


def test_the_recipe_of_paddleseg_is_the_network_of_its_weights():
    experiment = recipe("cityscapes-r101d-ohem")
    theirs = replace(PADDLESEG.experiment.model, backbone=PADDLESEG.backbones[23], pretrained=True)
    assert experiment.model == theirs
    # Their page and configuration: OHEM 0.7 / 10000 and 0.4 of the auxiliary loss, 60000 iterations of 769 x 769.
    loss, train = experiment.loss, experiment.train
    assert [term.name for term in loss.terms] == ["ohem"] and (loss.ohem.threshold, loss.ohem.keep) == (0.7, 10_000)
    assert (loss.aux_weight, train.iterations, experiment.augment.crop) == (0.4, 60_000, (769, 769))
