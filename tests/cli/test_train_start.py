"""`crisscross train` from other weights, and without a network."""

import re
import socket

import pytest
import torch
import yaml
from huggingface_hub import constants
from shapes_data import experiment, write_shapes

import crisscross
from crisscross.checkpoints import native
from crisscross.cli import main
from crisscross.config import to_yaml

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ("train.iterations=1", "optim.warmup=0", "augment.crop=[64, 64]", "train.batch=2")


@pytest.fixture
def folder(tmp_path):
    root = write_shapes(tmp_path / "shapes")
    (root / "dataset.yaml").write_text("classes: [road, Disc, car]\n")
    return root


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise AssertionError("a server was asked")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def start(recipe, folder, out, *words, changes=SMALL):
    changes = [word for change in changes for word in ("--set", change)]
    options = ["--workers", "0", "--device", "cpu"]
    return main(["train", recipe, "--data", str(folder), "--out", str(out), *options, *words, *changes])


def facts(run):
    return native.read_facts(run / "last.safetensors")


def test_the_readmes_training_line_needs_no_network(folder, no_network, tmp_path, capsys):
    out = tmp_path / "run"
    assert start("ccnet-light", folder, out) == 0
    line = (
        "the ImageNet weights of tf_efficientnet_lite0 are not in the cache, and downloads are off: the backbone "
        "starts from that of camvid-light; license cc-by-nc-4.0, not for commercial use, as the weights of this run"
    )
    shown = capsys.readouterr().err
    assert shown.count(line) == 1
    theirs, ours = crisscross.load("camvid-light").backbone.net, crisscross.load(out).backbone.net
    # Frozen, so that they are the same after a step.
    assert torch.equal(ours.conv_stem.weight, theirs.conv_stem.weight)
    stored = facts(out)
    assert stored["license"] == "cc-by-nc-4.0"
    assert stored["backbone_weights"]["file"] == "camvid-light.safetensors"
    # A resumed run has it still, and so has the card of what is published of it.
    assert main(["train", "--resume", str(out), "--set", "train.iterations=2"]) == 0
    assert facts(out)["license"] == "cc-by-nc-4.0"
    assert "ImageNet" not in capsys.readouterr().err
    assert main(["convert", str(out), str(tmp_path / "card")]) == 0
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-nc-4.0"
    assert "## License\n\n`cc-by-nc-4.0`." in card
    # A network that is trained from this one has it, too.
    assert start("ccnet-light", folder, tmp_path / "next", "--init", str(out)) == 0
    assert facts(tmp_path / "next")["license"] == "cc-by-nc-4.0"


def test_a_backbone_without_weights_here_is_one_line(folder, no_network, tmp_path, capsys):
    assert start("ccnet-r50", folder, tmp_path / "run") == 2
    line = capsys.readouterr().err.strip()
    assert line == (
        "crisscross: no pretrained weights for resnet50c are available (not in the cache, and downloads are off); give "
        "a local file or a run with --backbone-weights FILE, or start from scratch with --set model.pretrained=false"
    )


def test_a_network_of_the_zoo_starts_one_of_other_classes(folder, no_network, tmp_path, capsys):
    assert start("ccnet-light", folder, tmp_path / "run", "--init", "camvid-light") == 0
    shown = capsys.readouterr().err
    assert "keep their rows for road, car and start anew for Disc" in shown
    assert crisscross.load(tmp_path / "run").classes == ("road", "Disc", "car")


def test_a_run_gives_its_backbone(folder, no_network, tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(to_yaml(experiment(*SMALL)))
    assert start(str(tmp_path / "tiny.yaml"), folder, tmp_path / "first", changes=()) == 0
    words = ("--backbone-weights", str(tmp_path / "first"))
    frozen = ("optim.lr=1e-9", "optim.eta_min=0", "model.pretrained=true")
    assert start(str(tmp_path / "tiny.yaml"), folder, tmp_path / "second", *words, changes=frozen) == 0
    shown = capsys.readouterr().err
    assert f"--backbone-weights {tmp_path / 'first'}: the backbone is taken over, the heads start anew" in shown
    first, second = (crisscross.load(tmp_path / name) for name in ("first", "second"))
    assert torch.allclose(first.backbone.net.conv1[0].weight, second.backbone.net.conv1[0].weight, atol=1e-6)
    assert not torch.allclose(first.head.classify.weight, second.head.classify.weight, atol=1e-6)


def test_another_backbone_says_what_it_brings(folder, no_network, tmp_path, capsys):
    words = ["model.backbone=test_resnet", "model.pretrained=false", "model.output_stride=8"]
    assert start("ccnet-light", folder, tmp_path / "run", changes=(*SMALL, *words)) == 0
    shown = capsys.readouterr()
    assert re.search(r"model\.backbone=test_resnet: .* are its own; model\.frozen=.* is dropped", shown.err)
    assert crisscross.load(tmp_path / "run").experiment.model.frozen == ()


def test_a_run_is_not_written_among_the_images(folder, capsys):
    before = sorted(folder.rglob("*"))
    assert start("ccnet-light", folder, folder / "images" / "..") == 2
    assert "is the data set's own folder; a run needs one of its own" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before
