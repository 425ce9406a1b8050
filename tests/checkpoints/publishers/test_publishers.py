"""Weights of the authors, SSSegmentation and PaddleSeg: names, forward passes written out, and conversion back.

State dicts have each publisher's own names and shapes and are filled by formula; `crisscross.load` must give what
the publisher's own arithmetic gives.
"""

import pytest
import torch
from forward_passes import attention, bottleneck_keys, conv, difference, filled, norm, norm_keys
from published_layouts import (
    R50,
    R101,
    authors_keys,
    classifier_keys,
    mmseg_keys,
    projection_keys,
    resnet,
    with_both_signs,
)
from torch.nn import functional

import crisscross
from crisscross.checkpoints.publishers.table import (
    AUTHORS,
    MMSEG,
    PADDLESEG,
    PUBLISHERS,
    SSSEGMENTATION,
    from_publisher,
)
from crisscross.config import Experiment, InferenceConfig, ModelConfig, PreprocessConfig
from crisscross.config.heads import CCNetConfig, CE2PConfig
from crisscross.models import Segmenter

STRIDES, DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)


def leaky(x):
    return torch.where(x > 0, x, 0.01 * x)


def absolute_norm(tensors, key, x):
    mean, var, weight, bias = (
        tensors[f"{key}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * (weight.abs() + 1e-5) + bias


def authors_forward(tensors, x, ceil=True, contract=False, scale=absolute_norm, act=leaky, recurrence=2):
    """Coarse logits of head and auxiliary branch."""
    for index, stride in ((1, 2), (2, 1), (3, 1)):
        x = scale(tensors, f"bn{index}", conv(tensors, f"conv{index}", x, stride)).relu()
    x = functional.max_pool2d(x, 3, 2, 1, ceil_mode=ceil)
    maps = []
    for layer, (stride, dilation) in enumerate(zip(STRIDES, DILATIONS, strict=True), 1):
        block = 0
        while (key := f"layer{layer}.{block}") + ".conv1.weight" in tensors:
            here = dilation // 2 if contract and block == 0 and dilation > 1 else dilation
            out = scale(tensors, f"{key}.bn1", conv(tensors, f"{key}.conv1", x)).relu()
            out = scale(tensors, f"{key}.bn2", conv(tensors, f"{key}.conv2", out, 1 if block else stride, here)).relu()
            out = scale(tensors, f"{key}.bn3", conv(tensors, f"{key}.conv3", out))
            if block == 0:
                x = scale(tensors, f"{key}.downsample.1", conv(tensors, f"{key}.downsample.0", x, stride))
            x, block = (out + x).relu(), block + 1
        maps.append(x)
    attended = act(scale(tensors, "head.conva.1", conv(tensors, "head.conva.0", x)))
    for _ in range(recurrence):
        projections = [f"head.cca.{name}_conv" for name in ("query", "key", "value")]
        attended = attention(tensors, projections, "head.cca.gamma", attended)
    attended = act(scale(tensors, "head.convb.1", conv(tensors, "head.convb.0", attended)))
    joined = conv(tensors, "head.bottleneck.0", torch.cat([x, attended], 1))
    main = conv(tensors, "head.bottleneck.3", act(scale(tensors, "head.bottleneck.1", joined)))
    aux = act(scale(tensors, "dsn.1", conv(tensors, "dsn.0", maps[2])))
    return main, conv(tensors, "dsn.3", aux)


@pytest.fixture(scope="module")
def authors_tensors():
    return with_both_signs(filled(authors_keys(R50, classes=7, channels=32, aux_channels=16)))


@torch.no_grad()
def test_the_authors_weights_give_the_authors_logits(authors_tensors):
    segmenter = crisscross.load({f"module.{key}": entry for key, entry in authors_tensors.items()})
    # 60 x 44 becomes 30 x 22 in the stem, which pooling rounds up to 16 x 12.
    x = torch.randn(1, 3, 60, 44, generator=torch.Generator().manual_seed(0))
    main, aux = authors_forward(authors_tensors, x)
    assert main.shape == (1, 7, 8, 6)
    maps = segmenter.backbone(x)
    assert difference(segmenter.head(maps).main, main) < 1e-4
    assert difference(segmenter.aux_head(maps[-2]), aux) < 1e-4
    # Each of their peculiarities shows in the logits: with the usual arithmetic they are others.
    for wrong in ({"contract": True}, {"scale": norm}, {"act": torch.relu}, {"recurrence": 1}):
        assert difference(authors_forward(authors_tensors, x, **wrong)[0], main) > 0.003, wrong
    assert authors_forward(authors_tensors, x, ceil=False)[0].shape == (1, 7, 8, 6)
    assert difference(authors_forward(authors_tensors, x, ceil=False)[0], main) > 0.01


def test_the_experiment_of_the_authors_weights(authors_tensors):
    experiment = AUTHORS.convert(authors_tensors)[1]
    assert experiment.preprocess == PreprocessConfig((104.00698793, 116.66876762, 122.67891434), (1, 1, 1), "bgr")
    assert experiment.inference == InferenceConfig(mode="slide", window=(769, 769), stride=(513, 513))
    assert experiment.model.align_corners and experiment.model.head.recurrence == 2
    segmenter = crisscross.load(authors_tensors)
    # Red comes in first and reaches the network last, minus the mean of red.
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    image[0] = 255
    expected = [-104.00698793, -116.66876762, 255 - 122.67891434]
    assert segmenter.preprocess(image)[0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-4)


def sequence_keys(prefix, outer, inner):
    return {f"{prefix}.0.weight": (outer, inner, 3, 3)} | dict(norm_keys(f"{prefix}.1", outer))


def sss_keys(blocks, classes=19, channels=512, aux_channels=512):
    parts = {key: shape for key, shape in mmseg_keys(blocks).items() if key.startswith("backbone.")}
    keys = {key.replace("backbone.", "backbone_net.", 1): shape for key, shape in parts.items()}
    keys |= sequence_keys("conv_before_cca", channels, 2048) | sequence_keys("conv_after_cca", channels, channels)
    keys |= projection_keys([f"cca.{name}_conv" for name in ("query", "key", "value")], channels)
    keys |= {"cca.gamma.scale": ()} | sequence_keys("decoder", channels, 2048 + channels)
    keys |= classifier_keys("decoder.4", classes, channels) | sequence_keys("auxiliary_decoder", aux_channels, 1024)
    return keys | classifier_keys("auxiliary_decoder.4", classes, aux_channels)


def sss_forward(tensors, third, fourth):
    """Heads on the backbone's maps."""

    def sequence(key, x):
        return norm(tensors, f"{key}.1", conv(tensors, f"{key}.0", x)).relu()

    attended = sequence("conv_before_cca", fourth)
    for _ in range(2):
        projections = [f"cca.{name}_conv" for name in ("query", "key", "value")]
        attended = attention(tensors, projections, "cca.gamma.scale", attended)
    joined = torch.cat([fourth, sequence("conv_after_cca", attended)], 1)
    main = conv(tensors, "decoder.4", sequence("decoder", joined))
    return main, conv(tensors, "auxiliary_decoder.4", sequence("auxiliary_decoder", third))


@torch.no_grad()
def test_sssegmentations_weights_give_its_logits():
    tensors = filled(sss_keys(R50, classes=7, channels=32, aux_channels=16))
    segmenter = crisscross.load({"model": tensors, "cur_epoch": 60, "optimizer": {}})
    x = torch.randn(1, 3, 33, 41, generator=torch.Generator().manual_seed(0))
    # The backbone is MMSegmentation's, tensor by tensor.
    third, fourth = resnet({key.replace("backbone_net.", "backbone."): entry for key, entry in tensors.items()}, x)
    main, aux = sss_forward(tensors, third, fourth)
    maps = segmenter.backbone(x)
    assert difference(segmenter.head(maps).main, main) < 1e-4
    assert difference(segmenter.aux_head(maps[-2]), aux) < 1e-4


def paddle_norm_keys(prefix, channels):
    return norm_keys(prefix, channels, counter=False, statistics=("_mean", "_variance"))


def paddle_keys(blocks, classes=19, channels=512, aux_channels=512):
    keys = {}
    for index, (outer, inner) in enumerate(((32, 3), (32, 32), (64, 32)), 1):
        keys[f"backbone.conv1_{index}._conv.weight"] = (outer, inner, 3, 3)
        keys |= dict(paddle_norm_keys(f"backbone.conv1_{index}._batch_norm", outer))
    parts = [(f"conv{number}._conv", f"conv{number}._batch_norm") for number in range(3)]
    shortcut = ("short._conv", "short._batch_norm")

    def name(layer, block):
        return f"backbone.bb_{layer - 1}_{block}"

    keys |= dict(bottleneck_keys(blocks, 64, name, parts, shortcut, paddle_norm_keys))
    sizes = {
        "aux_head.conv_bn_relu": (aux_channels, 1024),
        "head.conva": (channels, 2048),
        "head.convb": (channels, channels),
        "head.out.conv_bn_relu": (channels, 2048 + channels),
    }
    for prefix, (outer, inner) in sizes.items():
        keys[f"{prefix}._conv.weight"] = (outer, inner, 3, 3)
        if prefix.endswith("conv_bn_relu"):
            keys[f"{prefix}._conv.bias"] = (outer,)
        keys |= dict(paddle_norm_keys(f"{prefix}._batch_norm", outer))
    keys |= projection_keys([f"head.cca.{name}_conv" for name in "qkv"], channels) | {"head.cca.gamma": (1,)}
    return (
        keys
        | classifier_keys("head.out.conv", classes, channels)
        | classifier_keys("aux_head.conv", classes, aux_channels)
    )


def paddle_norm(tensors, key, x):
    mean, var, weight, bias = (tensors[f"{key}.{part}"] for part in ("_mean", "_variance", "weight", "bias"))
    return functional.batch_norm(x, mean, var, weight, bias, False, 0.0, 1e-5)


def paddle_block(tensors, key, x, stride=1, dilation=1):
    return paddle_norm(tensors, f"{key}._batch_norm", conv(tensors, f"{key}._conv", x, stride, dilation))


def paddle_forward(tensors, x, pooled=False, act=leaky, after=torch.relu):
    """Coarse logits of head and auxiliary head; `pooled` averages in the shortcuts of dilated stages, as timm does."""
    for index, stride in ((1, 2), (2, 1), (3, 1)):
        x = paddle_block(tensors, f"backbone.conv1_{index}", x, stride).relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    maps = []
    for stage, (stride, dilation) in enumerate(zip(STRIDES, DILATIONS, strict=True)):
        block = 0
        while (key := f"backbone.bb_{stage}_{block}") + ".conv0._conv.weight" in tensors:
            out = paddle_block(tensors, f"{key}.conv0", x).relu()
            out = paddle_block(tensors, f"{key}.conv1", out, 1 if block else stride, dilation).relu()
            out = paddle_block(tensors, f"{key}.conv2", out)
            if block == 0:
                if stride == 2:
                    x = functional.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)
                elif pooled and dilation > 1:
                    x = functional.avg_pool2d(functional.pad(x, (0, 1, 0, 1)), 2, 1)
                x = paddle_block(tensors, f"{key}.short", x)
            x, block = (out + x).relu(), block + 1
        maps.append(x)
    attended = act(paddle_block(tensors, "head.conva", x))
    for _ in range(2):
        attended = attention(tensors, [f"head.cca.{name}_conv" for name in "qkv"], "head.cca.gamma", attended)
    attended = act(paddle_block(tensors, "head.convb", attended))
    joined = after(paddle_block(tensors, "head.out.conv_bn_relu", torch.cat([x, attended], 1)))
    aux = paddle_block(tensors, "aux_head.conv_bn_relu", maps[2]).relu()
    return conv(tensors, "head.out.conv", joined), conv(tensors, "aux_head.conv", aux)


@torch.no_grad()
def test_paddlesegs_weights_give_its_logits():
    tensors = filled(paddle_keys(R50, classes=7, channels=32, aux_channels=16))
    segmenter = crisscross.load(tensors)
    x = torch.randn(1, 3, 33, 41, generator=torch.Generator().manual_seed(0))
    main, aux = paddle_forward(tensors, x)
    maps = segmenter.backbone(x)
    assert difference(segmenter.head(maps).main, main) < 1e-4
    assert difference(segmenter.aux_head(maps[-2]), aux) < 1e-4
    for wrong in ({"pooled": True}, {"act": torch.relu}, {"after": leaky}):
        assert difference(paddle_forward(tensors, x, **wrong)[0], main) > 0.001, wrong
    image = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1)
    assert segmenter.preprocess(image).flatten().tolist() == pytest.approx([-1, 1, -0.6], abs=1e-6)


FULL_SIZE = [
    (AUTHORS, authors_keys, R50, "resnet50s", 150),
    (AUTHORS, authors_keys, R101, "resnet101s", 19),
    (SSSEGMENTATION, sss_keys, R50, "resnet50c", 21),
    (SSSEGMENTATION, sss_keys, R101, "resnet101c", 150),
    (PADDLESEG, paddle_keys, R50, "resnet50d", 21),
    (PADDLESEG, paddle_keys, R101, "resnet101d", 19),
    (MMSEG, mmseg_keys, R50, "resnet50c", 150),
    (MMSEG, mmseg_keys, R101, "resnet101c", 21),
]


@pytest.mark.parametrize(("publisher", "keys", "blocks", "backbone", "classes"), FULL_SIZE)
def test_every_tensor_maps_one_to_one(publisher, keys, blocks, backbone, classes):
    shapes = keys(blocks, classes=classes)
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    word, converted, experiment = from_publisher(tensors, "x.pth")
    assert PUBLISHERS[word] is publisher
    assert (experiment.model.backbone, experiment.model.head.channels) == (backbone, 512)
    assert len(experiment.data.classes) == classes
    with torch.device("meta"):
        ours = Segmenter(experiment).state_dict()
    assert {key: tuple(entry.shape) for key, entry in converted.items()} == {
        key: tuple(entry.shape) for key, entry in ours.items()
    }
    # And back: their names, their shapes, gamma's included.
    if publisher.written:
        assert {key: tuple(entry.shape) for key, entry in publisher.back(ours).items()} == shapes
    assert not any(other.recognizes(ours) for other in PUBLISHERS.values())
    assert publisher.why_not(experiment) is None


def test_a_network_of_one_publisher_is_not_anothers():
    theirs = Experiment(model=ModelConfig("resnet101s", variant="authors"))
    assert MMSEG.why_not(Experiment()) is None
    assert MMSEG.why_not(theirs) == "model.backbone=resnet101s (theirs: resnet50c, resnet101c)"
    other = Experiment(model=ModelConfig(variant="paddleseg"))
    assert MMSEG.why_not(other) == "model.variant=paddleseg (theirs: mmseg)"
    parsing = Experiment(model=ModelConfig(head=CE2PConfig()))
    assert MMSEG.why_not(parsing) == "model.head.name=ce2p (theirs: ccnet)"
    assert AUTHORS.why_not(theirs) is None
    plain = Experiment(model=ModelConfig("resnet101s"))
    assert AUTHORS.why_not(plain) == "model.variant=mmseg (theirs: authors)"
    without = Experiment(model=ModelConfig(head=CCNetConfig(recurrence=0)))
    assert MMSEG.why_not(without) == "model.head.recurrence=0"
    decoder = Experiment(model=ModelConfig(head=CCNetConfig(pyramid=48)))
    assert MMSEG.why_not(decoder) == "model.head.pyramid=48 (theirs: 0)"
