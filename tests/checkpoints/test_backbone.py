"""Weights of a backbone from our own files, torchvision's, MMSegmentation's and the authors'."""

import pytest
import timm
import torch
from forward_passes import filled
from networks import narrow
from published_layouts import R50, authors_keys, backbone_keys, mmseg_keys
from safetensors.torch import save_file

import crisscross
from crisscross.checkpoints.backbone import find_backbone_weights, shipped_backbone
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.errors import CrissCrossError
from crisscross.models import create_segmenter
from crisscross.models.backbones import create_backbone, load_backbone_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def filled_from(source, name, **options):
    backbone = create_backbone(name, **options)
    found = find_backbone_weights(source)
    load_backbone_weights(backbone, found.tensors, str(source))
    return backbone.net.state_dict(), found


def test_a_run_of_ours(tmp_path):
    torch.manual_seed(0)
    model = ModelConfig("test_resnet", **narrow())
    theirs = create_segmenter(Experiment(model=model, data=DataConfig(classes=("a", "b"))))
    crisscross.save(theirs, tmp_path / "best.safetensors", facts={"license": "mit"})
    got, found = filled_from(tmp_path, "test_resnet")
    assert all(torch.equal(value, got[key]) for key, value in theirs.backbone.net.state_dict().items())
    assert found.license == "mit" and found.path == tmp_path / "best.safetensors"


def test_weights_of_the_zoo_by_name():
    got, found = filled_from("camvid-light", "tf_efficientnet_lite0", output_stride=16)
    theirs = crisscross.load("camvid-light").backbone.net.state_dict()
    assert all(torch.equal(value, got[key]) for key, value in theirs.items())
    assert found.license == "cc-by-nc-4.0"
    assert shipped_backbone("tf_efficientnet_lite0") == "camvid-light" and shipped_backbone("resnet50c") is None


@pytest.mark.parametrize("place", ["", "backbone.", "backbone.body."])
def test_resnets_of_torchvision_alone_and_in_its_networks(tmp_path, place):
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18").state_dict()
    # torchvision has the same names.
    tensors = {f"{place}{key}": value for key, value in theirs.items()} | {"classifier.4.bias": torch.zeros(21)}
    torch.save(tensors, tmp_path / "net.pth")
    got, _ = filled_from(tmp_path / "net.pth", "resnet18", output_stride=32)
    assert all(torch.equal(value, theirs[key]) for key, value in got.items())


@pytest.mark.parametrize("kind", ["ccnet", "another head", "backbone alone"])
def test_mmsegmentations_resnets(tmp_path, kind):
    keys = mmseg_keys(R50, 19, 16, 8) if kind == "ccnet" else dict(backbone_keys(R50))
    tensors = filled(keys)
    if kind == "backbone alone":
        tensors = {key.removeprefix("backbone."): value for key, value in tensors.items()}
    elif kind == "another head":
        tensors |= {"decode_head.conv_seg.bias": torch.zeros(19)}
    torch.save({"meta": {}, "state_dict": tensors}, tmp_path / "net.pth")
    got, _ = filled_from(tmp_path / "net.pth", "resnet50c")
    start = "" if kind == "backbone alone" else "backbone."
    assert torch.equal(got["conv1.3.weight"], tensors[f"{start}stem.3.weight"])
    assert torch.equal(got["bn1.running_var"], tensors[f"{start}stem.7.running_var"])
    assert torch.equal(got["layer4.2.conv3.weight"], tensors[f"{start}layer4.2.conv3.weight"])


def test_the_authors_backbone_alone(tmp_path):
    tensors = {key: value for key, value in filled(authors_keys(R50)).items() if not key.startswith(("head", "dsn"))}
    torch.save(tensors, tmp_path / "resnet.pth")
    got, _ = filled_from(tmp_path / "resnet.pth", "resnet50s")
    assert torch.equal(got["conv1.6.weight"], tensors["conv3.weight"])
    assert torch.equal(got["bn1.weight"], tensors["bn3.weight"])


def test_names_with_a_stem_that_are_timms_own_stay(tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model("test_convnext").state_dict()
    assert "stem.0.weight" in theirs
    save_file(theirs, tmp_path / "net.safetensors")
    got, _ = filled_from(tmp_path / "net.safetensors", "test_convnext", output_stride=32)
    assert torch.equal(got["stem_0.weight"], theirs["stem.0.weight"])


def test_nothing_of_that_name_and_another_network_are_one_line(tmp_path):
    with pytest.raises(CrissCrossError, match="nowhere: no such file or run folder, and no model of that name"):
        find_backbone_weights("nowhere")
    torch.save({"x": torch.zeros(1)}, tmp_path / "net.pth")
    with pytest.raises(CrissCrossError, match=r"net\.pth: not weights of this backbone: conv1\.weight is missing"):
        filled_from(tmp_path / "net.pth", "resnet18", output_stride=32)
