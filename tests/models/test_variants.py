"""The details in which publishers differ: each against its definition, and `optimize` on networks that use them."""

import copy
from dataclasses import replace

import pytest
import torch
from networks import narrow
from torch import nn
from torch.nn import functional

import crisscross
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.config.variants import VARIANTS
from crisscross.errors import CrissCrossError
from crisscross.layers import AbsoluteBatchNorm2d
from crisscross.models import Segmenter
from crisscross.models.backbones import create_backbone

MMSEG, AUTHORS, PADDLESEG = (VARIANTS[name] for name in ("mmseg", "authors", "paddleseg"))


def relative(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


def opened(network):
    """Scales of both signs, moved statistics, open gates."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 1.5, generator)
        elif tensor.dim() == 1 and tensor.is_floating_point():
            nn.init.uniform_(tensor, -1.2, 1.2, generator)
        elif name.endswith("gamma"):
            nn.init.constant_(tensor, 0.7)
    return network.eval()


def segmenter(backbone, variant, channels=16, **model):
    config = ModelConfig(backbone, variant=variant, **narrow(channels), **model)
    return Segmenter(Experiment(model=config, data=DataConfig(classes=("a", "b", "c"))))


# --- the norm ---


def test_the_scale_is_the_size_of_the_weight():
    norm = opened(AbsoluteBatchNorm2d(5))
    with torch.no_grad():
        norm.weight[0], norm.weight[1] = 0.0, -2.0
    x = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, variance, weight, bias = (
        tensor.detach().double()[None, :, None, None]
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    expected = (x - mean) / (variance + 1e-5) ** 0.5 * (weight.abs() + 1e-5) + bias
    assert relative(norm(x.float()), expected) < 1e-6
    # A weight of 0 leaves a trace, and a negative one does not turn the sign.
    plain = functional.batch_norm(x.float(), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5)
    assert relative(plain, expected) > 0.1


def test_training_keeps_the_statistics_of_an_ordinary_norm():
    absolute, plain = AbsoluteBatchNorm2d(4).train(), nn.BatchNorm2d(4).train()
    with torch.no_grad():
        absolute.weight.fill_(-1.5)
        plain.weight.fill_(1.5 + 1e-5)
    for seed in range(3):
        x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(absolute(x), plain(x), atol=1e-6)
    assert absolute.state_dict().keys() == plain.state_dict().keys()
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(absolute, key), getattr(plain, key))
    # It is left alone where ordinary norms are made to share their statistics.
    assert type(nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(absolute))[0]) is AbsoluteBatchNorm2d


# --- the backbone ---


def test_the_first_block_of_a_dilated_stage():
    for variant, third, fourth in ((MMSEG, (1, 2), (2, 4)), (AUTHORS, (2, 2), (4, 4)), (PADDLESEG, (2, 2), (4, 4))):
        net = create_backbone("resnet50c", variant=variant).net
        for stage, (first, later) in ((net.layer2, (1, 1)), (net.layer3, third), (net.layer4, fourth)):
            found = [block.conv2.dilation[0] for block in stage]
            assert found == [first] + [later] * (len(stage) - 1)
            assert [block.conv2.padding[0] for block in stage] == found
    # Basic blocks have two such convolutions; at stride 16 only the last stage dilates.
    net = create_backbone("resnet18", 16, variant=AUTHORS).net
    assert {conv.dilation[0] for conv in net.layer4.modules() if getattr(conv, "kernel_size", 0) == (3, 3)} == {2}
    assert {conv.dilation[0] for conv in net.layer3.modules() if getattr(conv, "kernel_size", 0) == (3, 3)} == {1}


def test_the_deep_stem_of_the_authors_is_timms_s():
    with torch.device("meta"):
        stem = create_backbone("resnet101s").net.conv1
    assert [layer.out_channels for layer in stem if isinstance(layer, nn.Conv2d)] == [64, 64, 128]


@pytest.mark.parametrize(
    ("variant", "first", "last"),
    [("mmseg", (128, 256), (64, 128)), ("authors", (129, 257), (65, 129)), ("paddleseg", (128, 256), (64, 128))],
)
def test_even_sizes_grow_by_one_when_pooling_rounds_up(variant, first, last):
    with torch.device("meta"):
        network = segmenter("resnet50c", variant).eval()
        maps = network.backbone(torch.zeros(1, 3, 512, 1024))
        assert [tuple(maps[i].shape[-2:]) for i in (1, 4)] == [first, last]
        # The strides are the nominal ones, odd sizes stay what they are, and logits have the image's size.
        assert network.backbone.strides == (2, 4, 8, 8, 8)
        assert network.backbone(torch.zeros(1, 3, 769, 769))[-1].shape[-2:] == (97, 97)
        assert network(torch.zeros(1, 3, 512, 1024)).main.shape == (1, 3, 512, 1024)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_every_output_stride_works_with_ceil_pooling(output_stride):
    network = segmenter("test_resnet", "authors", output_stride=output_stride)
    assert network.backbone.strides[-1] == output_stride
    logits = network(torch.randn(2, 3, 64, 96))
    assert logits.main.shape == logits.aux.shape == (2, 3, 64, 96)


SHORTCUT = replace(MMSEG, pool_shortcut=False)


def test_shortcuts_of_resnet_d():
    x = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    pooled, plain = (create_backbone("resnet26d", variant=variant) for variant in (MMSEG, SHORTCUT))
    plain.load_state_dict(opened(pooled).state_dict())
    with torch.no_grad():
        ours, theirs = pooled(x), plain.eval()(x)
    # Striding stages pool in both; dilated ones do in timm alone.
    assert [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)] == [True, True, True, False, False]


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto", "resnet50_gn", "resnetv2_50"])
def test_a_variant_without_meaning_for_a_backbone_is_refused(name):
    for variant in (AUTHORS, PADDLESEG):
        line = (
            rf"^model\.variant describes a timm ResNet of plain .* backbone {name} is none: set model\.variant=mmseg$"
        )
        with pytest.raises(CrissCrossError, match=line):
            create_backbone(name, 16, variant=variant)


# --- heads ---


@pytest.mark.parametrize(
    ("variant", "around", "after", "biased", "norm"),
    [
        ("mmseg", nn.ReLU, nn.ReLU, [], nn.BatchNorm2d),
        ("authors", nn.LeakyReLU, nn.LeakyReLU, ["aux_head.reduce"], AbsoluteBatchNorm2d),
        ("paddleseg", nn.LeakyReLU, nn.ReLU, ["head.fuse", "aux_head.reduce"], nn.BatchNorm2d),
    ],
)
def test_the_heads_of_every_variant(variant, around, after, biased, norm):
    network = segmenter("test_resnet", variant)
    parts = (network.head.reduce, network.head.refine, network.head.fuse, network.aux_head.reduce)
    assert [type(part.act) for part in parts] == [around, around, after, after]
    assert all(type(part.norm) is norm for part in parts)
    assert {type(module) for module in network.modules() if isinstance(module, nn.BatchNorm2d)} <= {norm}
    assert {module.negative_slope for module in network.modules() if isinstance(module, nn.LeakyReLU)} <= {0.01}
    assert [key for key in network.state_dict() if key.endswith(".conv.bias")] == [f"{key}.conv.bias" for key in biased]


# --- rewriting ---


@pytest.mark.parametrize(
    ("backbone", "variant", "channels"), [("test_resnet", "authors", 128), ("resnet26d", "paddleseg", 16)]
)
def test_a_rewritten_network_says_the_same(backbone, variant, channels):
    network = opened(segmenter(backbone, variant, channels))
    fast = crisscross.optimize(network)
    assert not any(isinstance(module, AbsoluteBatchNorm2d | nn.BatchNorm2d) for module in fast.modules())
    x = torch.randn(1, 3, 128, 160, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        truth = copy.deepcopy(network).double()(x.double()).main
        assert relative(fast(x).main, truth) < 1e-4
