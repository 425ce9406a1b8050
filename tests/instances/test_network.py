"""Mask R-CNN with attention: torchvision's network at the start, and attention where the paper has it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from instances_data import tiny, with_classes
from PIL import Image
from torch import nn
from torchvision.models import resnet
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from crisscross.config import override
from crisscross.errors import CrissCrossError
from crisscross.instances.config import InstanceExperiment
from crisscross.instances.network import (
    AttendedStage,
    InstanceSegmenter,
    create_backbone,
    fill_body,
    fill_from_mask_rcnn,
    torchvision_classes,
)
from crisscross.instances.weights import load_instances, recipe
from crisscross.layers import RecurrentCrissCrossAttention
from crisscross.layers.nonlocal_block import NonLocalBlock
from crisscross.zoo import INSTANCE_RECIPES

pytestmark = pytest.mark.usefixtures("one_thread")


def published(*words):
    """The published R-50 on small images, with torchvision's 90 classes."""
    small = ("preprocess.short=128", "preprocess.long=213", "proposals.test=100", "inference.detections=20")
    classes = torchvision_classes()
    experiment = override(recipe("maskrcnn_r50_fpn_rcca_coco"), [*small, *words])
    return with_classes(experiment, classes, tuple(range(1, len(classes) + 1)))


@pytest.fixture(scope="module")
def torchvisions():
    """torchvision's Mask R-CNN R-50 with weights by chance; some detections are sure enough to be kept."""
    torch.manual_seed(0)
    options = {"rpn_pre_nms_top_n_test": 100, "rpn_post_nms_top_n_test": 100, "box_detections_per_img": 20}
    body = resnet_fpn_backbone(backbone_name="resnet50", weights=None)
    return MaskRCNN(body, 91, min_size=128, max_size=213, **options).eval()


def found_in(network, image):
    with torch.no_grad():
        return network.eval()([image])[0]


@pytest.mark.parametrize("attention", ["rcca", "nonlocal", "none"])
def test_torchvisions_weights_give_its_very_output_at_the_start(torchvisions, attention):
    segmenter = InstanceSegmenter(published(f"model.attention={attention}"))
    assert len(fill_from_mask_rcnn(segmenter, torchvisions.state_dict(), "torchvision")) == 90
    image = torch.rand(3, 96, 128, generator=torch.Generator().manual_seed(1))
    wanted, got = found_in(torchvisions, image), found_in(segmenter, image)
    assert len(wanted["scores"]) == 20 and wanted["masks"].shape == (20, 1, 96, 128)
    for key in ("boxes", "labels", "scores", "masks"):
        assert torch.equal(wanted[key], got[key]), key
    if attention == "none":
        return
    # The same image through an open gate: attention is really on the way.
    stage = segmenter.backbone.body.layer3
    gate = stage.attention.attention.gamma if attention == "rcca" else stage.attention.output.weight
    nn.init.normal_(gate, 0.5, 0.1)
    assert not torch.equal(found_in(segmenter, image)["scores"], wanted["scores"])


def old_names(state):
    """Names of torchvision's published file, which is older than its present network."""
    renamed = {}
    for key, value in state.items():
        for block in ("inner_blocks", "layer_blocks"):
            for n in range(4):
                key = key.replace(f"{block}.{n}.0.", f"{block}.{n}.")
        key = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for n in range(4):
            key = key.replace(f"roi_heads.mask_head.{n}.0.", f"roi_heads.mask_head.mask_fcn{n + 1}.")
        renamed[key] = value
    return renamed


def test_the_names_of_torchvisions_published_file_are_known(torchvisions, tmp_path):
    state = old_names(torchvisions.state_dict())
    assert "backbone.fpn.inner_blocks.0.weight" in state and "roi_heads.mask_head.mask_fcn4.bias" in state
    file = tmp_path / "maskrcnn.pth"
    torch.save(state, file)
    # torchvision itself reads these names.
    torchvisions.load_state_dict(state)
    segmenter = load_instances("maskrcnn_r50_fpn_rcca_coco", weights=file)
    assert segmenter.classes[0] == "person" and len(segmenter.classes) == 90 and not segmenter.training
    for key, value in torchvisions.state_dict().items():
        assert torch.equal(segmenter.state_dict()[key], value), key
    assert segmenter.backbone.body.bn1.eps == 1e-5


def test_attention_stands_right_before_the_last_block_of_res4():
    torch.manual_seed(0)
    for name, blocks in (("resnet50", 6), ("resnet101", 23)):
        with torch.device("meta"):
            stage = create_backbone(replace(InstanceExperiment().model, backbone=name)).body.layer3
        assert isinstance(stage, AttendedStage) and stage.blocks == blocks
        assert isinstance(stage.attention, RecurrentCrissCrossAttention)
        assert stage.attention.recurrence == 2 and stage.attention.attention.channels == 1024
    log = []
    stage = AttendedStage([Said("a", log), Said("b", log), Said("c", log)], Said("attention", log))
    stage(torch.zeros(1))
    assert log == ["a", "b", "attention", "c"]


class Said(nn.Module):
    def __init__(self, name, log):
        super().__init__()
        self.name, self.log = name, log

    def forward(self, x):
        self.log.append(self.name)
        return x


def test_the_stage_is_its_blocks_with_attention_between():
    torch.manual_seed(0)
    segmenter = InstanceSegmenter(tiny())
    stage = segmenter.backbone.body.layer3.eval()
    nn.init.constant_(stage.attention.attention.gamma, 0.7)
    x = torch.randn(2, 128, 8, 12)
    with torch.no_grad():
        assert torch.equal(stage(x), stage[1](stage.attention(stage[0](x))))


def test_the_nonlocal_block_is_its_definition():
    torch.manual_seed(0)
    block = NonLocalBlock(8)
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(block(x), x)
    nn.init.normal_(block.output.weight)
    q, k, v = (layer(x).reshape(2, 4, 35) for layer in (block.query, block.key, block.value))
    wanted = torch.zeros(2, 4, 35)
    for b in range(2):
        for place in range(35):
            weights = torch.softmax(torch.stack([q[b, :, place] @ k[b, :, other] for other in range(35)]), 0)
            wanted[b, :, place] = (v[b] * weights).sum(1)
    torch.testing.assert_close(block(x), x + block.output(wanted.reshape(2, 4, 5, 7)), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="reduction"):
        NonLocalBlock(4, 8)


@pytest.mark.parametrize("layers", range(6))
def test_only_the_last_stages_learn(layers):
    body = create_backbone(override(tiny(), [f"model.trainable_layers={layers}"]).model).body
    learning = {
        name.split(".")[0] for name, p in body.named_parameters() if p.requires_grad and "attention" not in name
    }
    wanted = {"layer4", "layer3", "layer2", "layer1", "conv1"}
    assert learning == set(("layer4", "layer3", "layer2", "layer1", "conv1")[:layers]) and learning <= wanted
    assert all(p.requires_grad for p in body.layer3.attention.parameters())
    # Frozen norms hold no parameters at all.
    assert not any("bn" in name for name, _ in body.named_parameters())


def test_a_resnets_weights_fill_the_body_alone():
    torch.manual_seed(0)
    segmenter, source = InstanceSegmenter(tiny()), resnet.resnet18(weights=None)
    before = segmenter.backbone.body.layer3.attention.attention.value.weight.clone()
    fill_body(segmenter, source.state_dict(), "r18")
    assert torch.equal(segmenter.backbone.body.layer3[1].conv2.weight, source.layer3[1].conv2.weight)
    assert torch.equal(segmenter.backbone.body.layer3.attention.attention.value.weight, before)
    with pytest.raises(CrissCrossError, match=r"file: not weights of resnet18: bn1.weight is missing"):
        fill_body(segmenter, {"conv1.weight": source.conv1.weight}, "file")
    with pytest.raises(
        CrissCrossError, match=r"file: not weights of resnet18: size mismatch for layer1.0.conv1.weight"
    ):
        fill_body(segmenter, resnet.resnet50(weights=None).state_dict(), "file")


def test_other_classes_start_anew_and_those_of_the_same_name_keep_their_rows():
    torch.manual_seed(0)
    given = InstanceSegmenter(tiny("model.attention=none"))
    other = InstanceSegmenter(with_classes(tiny(), ("a", "Bar", "c"), (1, 2, 3)))
    box, mask = other.roi_heads.box_predictor, other.roi_heads.mask_predictor.mask_fcn_logits
    before = {name: layer.weight.clone() for name, layer in (("box", box.bbox_pred), ("mask", mask))}
    theirs = given.roi_heads.box_predictor
    assert fill_from_mask_rcnn(other, given.state_dict(), "given", ("disc", "bar")) == {1: 1}
    # The background, then the classes: four rows each for the boxes.
    assert torch.equal(box.cls_score.weight[[0, 2]], theirs.cls_score.weight[[0, 2]])
    assert torch.equal(box.bbox_pred.weight[8:12], theirs.bbox_pred.weight[8:12])
    assert torch.equal(mask.weight[2], given.roi_heads.mask_predictor.mask_fcn_logits.weight[2])
    assert torch.equal(box.bbox_pred.weight[4:8], before["box"][4:8])
    assert torch.equal(mask.weight[[1, 3]], before["mask"][[1, 3]])
    assert torch.equal(other.roi_heads.box_head.fc6.weight, given.roi_heads.box_head.fc6.weight)
    # Nothing names the classes of the file, and it has another number of them.
    assert fill_from_mask_rcnn(other, given.state_dict(), "given") == {}
    with pytest.raises(CrissCrossError, match=r"given: not weights of this Mask R-CNN: size mismatch for "):
        fill_from_mask_rcnn(InstanceSegmenter(tiny("model.box_features=16")), given.state_dict(), "given")


def test_short_sides_are_drawn_in_training_alone():
    torch.manual_seed(0)
    segmenter = InstanceSegmenter(tiny("augment.short=[32, 48]", "preprocess.short=64"))
    target = {"boxes": torch.tensor([[1.0, 1, 20, 20]]), "labels": torch.tensor([1])}
    image = torch.rand(3, 64, 96)
    segmenter.train()
    drawn = {segmenter.transform([image], [dict(target)])[0].image_sizes[0] for _ in range(20)}
    assert drawn == {(32, 48), (48, 72)}
    segmenter.eval()
    assert segmenter.transform([image])[0].image_sizes == [(64, 96)]


def test_predict_takes_an_image_and_gives_instances_in_its_pixels():
    torch.manual_seed(0)
    segmenter = InstanceSegmenter(tiny("inference.score=0", "inference.detections=7")).train()
    found = segmenter.predict(np.zeros((50, 70, 3), np.uint8))
    assert segmenter.training and len(found.scores) == 7
    assert found.masks.shape == (7, 50, 70) and found.masks.dtype == bool
    assert (found.boxes[:, 2] <= 70).all() and (found.boxes[:, 3] <= 50).all()
    assert set(found.labels.tolist()) <= {0, 1} and found.classes == ("disc", "bar")
    assert (np.diff(found.scores) <= 0).all()
    limit = float(found.scores[2])
    assert len(found.above(limit).boxes) == (found.scores >= limit).sum() < 7


def test_every_form_of_an_image_gives_the_same_instances(tmp_path):
    torch.manual_seed(0)
    segmenter = InstanceSegmenter(tiny("inference.score=0", "inference.detections=7"))
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "p.png")
    expected, gray = segmenter.predict(image), segmenter.predict(np.repeat(image[..., :1], 3, 2))
    forms = [
        tmp_path / "p.png",
        str(tmp_path / "p.png"),
        Image.fromarray(image),
        torch.from_numpy(image).permute(2, 0, 1),
    ]
    for found in (*segmenter.predict(forms), *map(segmenter.predict, forms)):
        assert np.array_equal(found.boxes, expected.boxes) and np.array_equal(found.masks, expected.masks)
    assert np.array_equal(segmenter.predict(image[..., 0]).boxes, gray.boxes)
    assert not np.array_equal(gray.boxes, expected.boxes)
    with pytest.raises(CrissCrossError, match="must be uint8"):
        segmenter.predict(torch.zeros(3, 50, 70))


@pytest.mark.parametrize("name", INSTANCE_RECIPES)
def test_recipes_are_published_schedules(name):
    experiment = recipe(name)
    assert experiment.name == name and experiment.task == "instances"
    if "small" in name:
        return
    optim, train = experiment.optim, experiment.train
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.02, 0.9, 1e-4)
    assert (train.iterations, optim.steps, optim.gamma, train.batch) == (90_000, (60_000, 80_000), 0.1, 16)
    assert (experiment.preprocess.short, experiment.preprocess.long, experiment.augment.flip) == (800, 1333, 0.5)
    assert experiment.model.trainable_layers == 3
    wanted = "rcca" if "rcca" in name else "nonlocal" if "nonlocal" in name else "none"
    assert experiment.model.attention == wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTANCE_RECIPES)
def test_recipes_are_built_and_take_a_step(name):
    torch.manual_seed(0)
    # Published in all but the size of the image, which a processor would take minutes for.
    experiment = with_classes(override(recipe(name), ["preprocess.short=192", "preprocess.long=320"]))
    segmenter = InstanceSegmenter(experiment).train()
    masks = torch.zeros(1, 96, 128, dtype=torch.uint8)
    masks[0, 20:70, 30:90] = 1
    target = {"boxes": torch.tensor([[30.0, 20, 90, 70]]), "labels": torch.tensor([2]), "masks": masks}
    losses = segmenter([torch.rand(3, 96, 128)], [target])
    assert sorted(losses) == ["loss_box_reg", "loss_classifier", "loss_mask", "loss_objectness", "loss_rpn_box_reg"]
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in segmenter.parameters() if p.grad is not None)
    gates = [
        p for name, p in segmenter.named_parameters() if name.endswith(("attention.gamma", "attention.output.weight"))
    ]
    assert len(gates) == (experiment.model.attention != "none") and all(p.grad.abs().sum() > 0 for p in gates)
