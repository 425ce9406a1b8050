"""The network: published sizes and wiring, its backbones, its files, its export. Gates are opened before they count."""

import math
from itertools import pairwise

import pytest
import timm
import torch
from torch import nn

import crisscross
from crisscross import CrissCrossError, Experiment
from crisscross.checkpoints.backbone import efficientnet_lite_to_timm
from crisscross.config import DataConfig, ModelConfig, override
from crisscross.config.heads import AuxHeadConfig, CCNetConfig
from crisscross.config.variants import VARIANTS
from crisscross.models import Logits, Segmenter
from crisscross.models.backbones import create_backbone, load_backbone_weights
from crisscross.models.heads import AuxiliaryHead, HeadInputs
from crisscross.models.heads.ccnet import CrissCrossHead

NAMES = tuple(f"class {index}" for index in range(19))


def small(classes=NAMES[:3], channels=16, aux_channels=8, recurrence=2, dropout=0.1, **model):
    """A network of 0.4 million parameters with everything a large one has; its gate is open."""
    torch.manual_seed(0)
    heads = {
        "head": CCNetConfig(channels=channels, recurrence=recurrence, dropout=dropout),
        "aux_head": AuxHeadConfig(aux_channels, dropout),
    }
    config = ModelConfig(**{"backbone": "test_resnet", **heads, **model})
    segmenter = Segmenter(Experiment(model=config, data=DataConfig(classes=tuple(classes))))
    if recurrence:
        nn.init.constant_(segmenter.head.attend.attention.gamma, 0.7)
    return segmenter


def ccnet_head(features, classes, channels, recurrence=2, dropout=0.0):
    config = CCNetConfig(channels=channels, recurrence=recurrence, dropout=dropout)
    return CrissCrossHead(config, HeadInputs([features], [8], classes))


def auxiliary_head(features, classes, channels, dropout=0.1):
    return AuxiliaryHead(AuxHeadConfig(channels, dropout), features, classes, VARIANTS["mmseg"])


@pytest.fixture(scope="module")
def published():
    """Both published networks without memory: shapes only."""
    made = {}
    for depth in (50, 101):
        with torch.device("meta"):
            model = ModelConfig(f"resnet{depth}c")
            made[depth] = Segmenter(Experiment(model=model, data=DataConfig(classes=NAMES)))
    return made


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


# --- the published network ---


def test_parameter_counts_are_the_published_ones(published):
    assert count(published[50].backbone) == 23_527_264
    assert count(published[101].backbone) == 42_519_392
    for network in published.values():
        assert count(network.head) == 23_934_100
        assert count(network.head.attend) == 328_321
        assert count(network.aux_head) == 2_364_691
    assert count(published[50]) == 49_826_055
    assert count(published[101]) == 68_818_183


@pytest.mark.parametrize(("classes", "head", "aux"), [(150, 24_001_303, 2_398_358), (21, 23_935_126, 2_365_205)])
def test_parameter_counts_of_other_data_sets(classes, head, aux):
    with torch.device("meta"):
        assert count(ccnet_head(2048, classes, 512, 2, 0.1)) == head
        assert count(auxiliary_head(1024, classes, 256, 0.1)) == aux


def test_strides_and_channels_are_the_published_ones(published):
    for network in published.values():
        # timm shows the deep stem too, at stride 2.
        assert network.backbone.strides == (2, 4, 8, 8, 8)
        assert network.backbone.channels == (64, 256, 512, 1024, 2048)
        maps = network.backbone(torch.zeros(1, 3, 769, 512, device="meta"))
        assert [tuple(entry.shape[2:]) for entry in maps[1:]] == [(193, 128), (97, 64), (97, 64), (97, 64)]


@pytest.mark.parametrize(("depth", "blocks"), [(50, (3, 4, 6, 3)), (101, (3, 4, 23, 3))])
def test_every_3_x_3_is_dilated_as_published(published, depth, blocks):
    net = published[depth].backbone.net
    # Contracted: the first block of a dilated layer keeps the dilation of the layer before.
    first_and_later = {"layer1": (1, 1), "layer2": (1, 1), "layer3": (1, 2), "layer4": (2, 4)}
    for (name, (first, later)), length in zip(first_and_later.items(), blocks, strict=True):
        layer = getattr(net, name)
        assert len(layer) == length
        for index, block in enumerate(layer):
            dilation = first if index == 0 else later
            assert block.conv2.dilation == block.conv2.padding == (dilation, dilation), f"{name}.{index}"
            stride = 2 if name == "layer2" and index == 0 else 1
            # The stride sits on the 3 x 3, not on the 1 x 1 before it.
            assert (block.conv1.stride, block.conv2.stride) == ((1, 1), (stride, stride)), f"{name}.{index}"
            assert (block.downsample is not None) == (index == 0)
    stem = [module for module in net.conv1 if isinstance(module, nn.Conv2d)]
    assert [(conv.out_channels, conv.stride[0]) for conv in stem] == [(32, 2), (32, 1), (64, 1)]
    assert (net.maxpool.kernel_size, net.maxpool.stride, net.maxpool.padding) == (3, 2, 1)
    assert not net.maxpool.ceil_mode


# --- the head ---


def test_the_untouched_features_come_first():
    torch.manual_seed(0)
    head = ccnet_head(6, 3, 8, 2, 0.0).eval()
    nn.init.constant_(head.attend.attention.gamma, 0.7)
    # The attended part forgets its input, so whatever still depends on x comes by the untouched way.
    nn.init.zeros_(head.reduce.conv.weight)
    first, second = torch.randn(2, 2, 6, 5, 4)
    weight = head.fuse.conv.weight.detach().clone()
    with torch.no_grad():
        head.fuse.conv.weight[:, :6] = 0
        assert torch.equal(head([first]).main, head([second]).main)
        head.fuse.conv.weight.copy_(weight)
        head.fuse.conv.weight[:, 6:] = 0
        assert (head([first]).main - head([second]).main).abs().max() > 1e-4


def test_the_order_of_the_head_is_reduce_attend_refine_join():
    torch.manual_seed(0)
    head = ccnet_head(6, 3, 8, 2, 0.0).eval()
    nn.init.constant_(head.attend.attention.gamma, 0.7)
    joined = []
    head.fuse.register_forward_pre_hook(lambda module, inputs: joined.append(inputs[0]))
    x = torch.randn(1, 6, 5, 4)
    with torch.no_grad():
        head([x])
        once = head.attend.attention(head.reduce(x))
        attended = head.refine(head.attend.attention(once))
    assert torch.equal(joined[0][:, :6], x)
    torch.testing.assert_close(joined[0][:, 6:], attended)
    # The same weights serve every pass, and the second pass does something.
    assert (attended - head.refine(once)).abs().max() > 1e-4


def test_weights_are_shared_over_the_passes():
    sizes = {recurrence: count(ccnet_head(6, 3, 8, recurrence, 0.0)) for recurrence in (1, 2, 3)}
    assert len(set(sizes.values())) == 1
    plain = ccnet_head(6, 3, 8, 0, 0.0)
    assert not any("attention" in name for name in plain.state_dict())
    # query and key 8 -> 1, value 8 -> 8, with bias, and the gate.
    assert sizes[1] - count(plain) == 2 * (8 + 1) + (64 + 8) + 1


@pytest.mark.parametrize("head", ["main", "aux"])
def test_heads_start_as_the_published_ones_do(head):
    torch.manual_seed(0)
    module = ccnet_head(96, 50, 64, 2, 0.1) if head == "main" else auxiliary_head(96, 50, 64, 0.1)
    assert module.classify.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert module.classify.weight.mean().abs() < 1e-3
    assert torch.equal(module.classify.bias, torch.zeros(50))
    blocks = [module.reduce, module.refine, module.fuse] if head == "main" else [module.reduce]
    for block in blocks:
        # Kaiming, fan out, ReLU: sqrt(2 / (out channels x 9)); fan in would give sqrt(2 / (in channels x 9)).
        assert block.conv.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
        assert block.conv.bias is None
        assert torch.equal(block.norm.weight, torch.ones(64)) and torch.equal(block.norm.bias, torch.zeros(64))
        assert (block.norm.eps, block.norm.momentum) == (1e-5, 0.1)


def test_the_attention_starts_as_torch_does_behind_a_closed_gate():
    torch.manual_seed(0)
    attention = ccnet_head(6, 3, 512, 2, 0.1).attend.attention
    assert attention.gamma.shape == () and attention.gamma.item() == 0
    bound = 1 / math.sqrt(512)
    for layer in (attention.query, attention.key, attention.value):
        # Uniform in +-1 / sqrt(in channels): standard deviation bound / sqrt(3).
        for values in (layer.weight, layer.bias):
            assert values.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert layer.weight.abs().max() > 0.99 * bound
        assert layer.bias.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)


@pytest.mark.parametrize("head", ["main", "aux"])
def test_dropout_drops_a_quarter_of_the_channels_whole(head):
    torch.manual_seed(0)
    module = ccnet_head(4, 3, 256, 1, 0.25) if head == "main" else auxiliary_head(4, 3, 256, 0.25)
    seen = []
    module.dropout.register_forward_hook(lambda layer, inputs, output: seen.append((inputs[0] + 0, output)))
    x = torch.randn(16, 4, 3, 3)
    inputs = [x] if head == "main" else x
    module.train()(inputs)
    before, after = (entry.detach().flatten(2) for entry in seen[0])
    alive = before.abs().amax(2) > 0
    kept = after.abs().amax(2) > 0
    torch.testing.assert_close(after, before / 0.75 * kept[..., None])
    # 4096 channels: three standard deviations of the share are 0.02.
    assert (alive & ~kept).sum() / alive.sum() == pytest.approx(0.25, abs=0.025)
    module.eval()(inputs)
    assert torch.equal(*seen[1])


def test_dropout_of_the_experiment_reaches_both_heads():
    segmenter = small(dropout=0.3)
    assert segmenter.classifiers == ("head.classify", "aux_head.classify")
    assert (segmenter.head.dropout.p, segmenter.aux_head.dropout.p) == (0.3, 0.3)


# --- the whole ---


def test_auxiliary_logits_are_there_in_training_only():
    segmenter, x = small(), torch.randn(2, 3, 40, 56)
    logits = segmenter.train()(x)
    assert isinstance(logits, Logits)
    assert logits.main.shape == logits.aux.shape == (2, 3, 40, 56)
    coarse = segmenter.coarse(x)
    assert coarse.main.shape == coarse.aux.shape == (2, 3, 5, 7)
    for logits in (segmenter.eval()(x), segmenter.coarse(x), small(aux_channels=0).train()(x)):
        assert isinstance(logits, Logits) and logits.aux is None


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (33, 8), (65, 97)])
def test_logits_have_the_size_of_the_image_whatever_it_is(size):
    assert small().eval()(torch.randn(1, 3, *size)).main.shape == (1, 3, *size)


def test_the_auxiliary_head_sees_the_last_map_but_one():
    segmenter = small().train()
    seen = []
    segmenter.aux_head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    segmenter.head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    maps = []
    segmenter.backbone.register_forward_hook(lambda module, inputs, output: maps.extend(output))
    segmenter(torch.randn(2, 3, 32, 32))
    assert seen[0] is maps[-2] and seen[1] == tuple(maps)


@pytest.mark.parametrize("align_corners", [False, True])
def test_align_corners_decides_how_logits_are_enlarged(align_corners):
    segmenter = small(align_corners=align_corners).train()
    ramp = torch.arange(5.0).expand(1, 3, 4, 5)
    segmenter.coarse = lambda x: Logits(ramp, 2 * ramp)
    logits = segmenter(torch.zeros(1, 3, 32, 40))
    if align_corners:
        expected = [4 * column / 39 for column in range(40)]
    else:
        expected = [min(max((column + 0.5) / 8 - 0.5, 0), 4) for column in range(40)]
    assert logits.main[0, 1, 7].tolist() == pytest.approx(expected, abs=1e-5)
    assert logits.aux[0, 2, 31].tolist() == pytest.approx([2 * value for value in expected], abs=1e-5)


def test_without_attention_everything_else_is_there():
    plain = small(recurrence=0)
    assert not any("attend" in name for name in plain.state_dict())
    x = torch.randn(1, 3, 32, 32)
    assert plain.eval()(x).main.shape == (1, 3, 32, 32)


def test_recurrence_changes_the_result():
    networks = [small(recurrence=recurrence).eval() for recurrence in (1, 2, 3)]
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    x = torch.randn(1, 3, 40, 48)
    with torch.no_grad():
        results = [network(x).main for network in networks]
    for one, other in pairwise(results):
        assert (one - other).norm() > 1e-3 * one.norm()


def test_classes_are_needed():
    with pytest.raises(CrissCrossError, match=r"data\.classes is empty"):
        small(classes=())


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_frozen_modules_keep_weights_and_statistics_through_training(name):
    frozen = ("conv1", "bn1", "layer1", "layer2.0.bn1")
    segmenter = small(frozen=frozen).train()
    before = {key: value.clone() for key, value in segmenter.state_dict().items()}
    learning = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name]
    optimizer = learning(segmenter.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        segmenter.eval().train()
        logits = segmenter(torch.randn(2, 3, 32, 32))
        (logits.main.square().mean() + logits.aux.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = segmenter.state_dict()
    kept = {key for key in before if key.startswith(tuple(f"backbone.net.{module}." for module in frozen))}
    assert len(kept) > 20
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert not changed & kept
    assert changed == before.keys() - kept


def test_freezing_something_unknown_names_what_there_is():
    for name in ("layer9", ""):
        with pytest.raises(CrissCrossError, match=rf"test_resnet has no module '{name}'; it has conv1, .*layer1"):
            small(frozen=[name])


# --- backbones ---


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100", "tf_efficientnet_lite0", "convnext_atto"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_timm_backbones_keep_their_word(name, output_stride):
    # timm 1.0.20 reads numbers from tensors when it builds a ConvNeXt.
    device = "cpu" if name == "convnext_atto" else "meta"
    with torch.device(device):
        backbone = create_backbone(name, output_stride).eval()
    strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
    assert backbone.strides == (strides[1:] if name == "convnext_atto" else strides)
    maps = backbone(torch.zeros(1, 3, 64, 96, device=device))
    assert isinstance(maps, tuple)
    expected = [(c, 64 // s, 96 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)]
    assert [tuple(entry.shape[1:]) for entry in maps] == expected


def test_looking_at_a_backbone_leaves_mode_and_statistics_alone():
    backbone = create_backbone("test_resnet", 8)
    assert backbone.training and all(module.training for module in backbone.modules())
    # A forward pass in training mode would have counted.
    assert int(backbone.net.bn1.num_batches_tracked) == 0


@pytest.mark.parametrize(
    ("name", "output_stride", "words"),
    [
        (
            "vgg11",
            8,
            r"vgg11 cannot run at output stride 8 \(.+\), only at 32; set model\.output_stride=32 or choose another",
        ),
        # Older timm gives it one size of image alone.
        ("swin_tiny_patch4_window7_224", 8, r"swin_tiny\w+ (cannot run at output stride 8 \(.+\)|takes images of 224)"),
        ("resnet50cc", 8, r"unknown backbone resnet50cc; did you mean resnet50c"),
        ("zzzzzzzz", 8, r"unknown backbone zzzzzzzz; see timm\.list_models\(\)"),
        ("no_such_module_here:Net", 8, r"no_such_module_here:Net: cannot be imported: No module named"),
        ("math:Net", 8, r"math:Net: cannot be imported: .*no attribute 'Net'"),
    ],
)
def test_a_backbone_that_cannot_be_is_one_clear_line(name, output_stride, words):
    with pytest.raises(CrissCrossError, match=words) as caught:
        create_backbone(name, output_stride)
    assert "\n" not in str(caught.value)


OWN = """
import torch
from torch import nn

class TinyNet(nn.Module):
    def __init__(self, output_stride, maps=2):
        super().__init__()
        self.fine = nn.Conv2d(3, 6, 3, stride=4, padding=1)
        self.coarse = nn.Conv2d(6, 16, 3, stride=output_stride // 4, padding=1)
        self.maps = maps

    def forward(self, x):
        fine = self.fine(x).relu()
        return [fine, self.coarse(fine).relu()][-self.maps:]

def tiny_resnet(output_stride):
    import timm

    options = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 24), "stem_width": 8}
    return timm.create_model("resnet18", features_only=True, output_stride=output_stride, **options)

def always_16(output_stride):
    return TinyNet(16)

def one_map(output_stride):
    return TinyNet(output_stride, maps=1)

class Broken(nn.Module):
    def __init__(self, output_stride):
        super().__init__()

    def forward(self, x):
        raise RuntimeError("two\\nlines")

class Flat(Broken):
    def forward(self, x):
        return [x.flatten(1), x.flatten(1)]
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "crisscross_own_net.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return "crisscross_own_net"


def test_a_backbone_of_ones_own(own_module, tmp_path):
    segmenter = small(backbone=f"{own_module}:TinyNet", output_stride=16)
    assert (segmenter.backbone.strides, segmenter.backbone.channels) == ((4, 16), (6, 16))
    x = torch.randn(2, 3, 48, 32)
    logits = segmenter.train()(x)
    assert logits.main.shape == logits.aux.shape == (2, 3, 48, 32)
    crisscross.save(segmenter, tmp_path / "own.safetensors")
    loaded = crisscross.load(tmp_path / "own.safetensors", backbone=f"{own_module}:TinyNet")
    with torch.no_grad():
        assert torch.equal(loaded(x).main, segmenter.eval()(x).main)


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("always_16", r"gives output stride 16, not 8; set model\.output_stride=16 or choose another backbone"),
        ("one_map", "at least two feature maps are needed, got 1"),
        ("Broken", "cannot take a 96 x 160 image: two lines"),
        ("Flat", r"feature maps must be \[B, C, H, W\], got \(1, 6633\)"),
    ],
)
def test_a_backbone_of_ones_own_that_breaks_the_contract_is_told_how(own_module, attribute, words):
    with pytest.raises(CrissCrossError, match=words):
        create_backbone(f"{own_module}:{attribute}", 8)


# --- backbone weights ---


def distinct(state):
    """The same names and shapes with values that differ everywhere."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value + 5
        for key, value in state.items()
    }


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet", "test_convnext"])
def test_whole_network_weights_fill_the_feature_network(name):
    whole = timm.create_model(name)
    weights = distinct(whole.state_dict())
    backbone = create_backbone(name, 8)
    load_backbone_weights(backbone, weights, "file")
    loaded = backbone.net.state_dict()
    flat = {key.replace(".", "_"): value for key, value in weights.items()}
    assert len(loaded) > 30
    for key, value in loaded.items():
        assert torch.equal(value, flat[key.replace(".", "_")]), key
    if name == "test_convnext":
        # timm renames the stages of this feature network; that is why names are compared without their dots.
        assert set(loaded) - set(weights)


def test_feature_network_weights_fill_it_too_and_counters_may_be_missing():
    backbone = create_backbone("test_resnet", 8)
    weights = distinct(backbone.net.state_dict())
    weights = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    load_backbone_weights(backbone, weights, "file")
    assert all(torch.equal(backbone.net.state_dict()[key], value) for key, value in weights.items())


def test_wrong_weights_are_refused_and_change_nothing():
    backbone = create_backbone("test_resnet", 8)
    before = {key: value.clone() for key, value in backbone.net.state_dict().items()}
    with pytest.raises(CrissCrossError, match=r"other\.pth: not weights of this backbone: conv1\.\S+ is missing"):
        load_backbone_weights(backbone, timm.create_model("test_convnext").state_dict(), "other.pth")
    weights = distinct(before)
    weights["layer1.0.conv1.weight"] = torch.zeros(1)
    with pytest.raises(CrissCrossError, match=r"layer1\.0\.conv1\.weight has shape \(1,\), the backbone needs \(\d+, "):
        load_backbone_weights(backbone, weights, "other.pth")
    assert all(torch.equal(value, before[key]) for key, value in backbone.net.state_dict().items())


# timm's name of a part -> the publisher's, in the first stage (no expansion) and in the later ones.
LITE_FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
LITE_LATER = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
LITE_TOP = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
LITE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)


def lite_publishers_name(key):
    words = key.split(".")
    if words[0] != "blocks":
        return ".".join([LITE_TOP[words[0]], *words[1:]])
    stage, within = int(words[1]), int(words[2])
    part = (LITE_LATER if stage else LITE_FIRST)[words[3]]
    return ".".join(["_blocks", str(sum(LITE_DEPTHS[:stage]) + within), part, *words[4:]])


def test_efficientnet_lite_names_map_one_to_one_onto_timms():
    ours = distinct(timm.create_model("tf_efficientnet_lite0").state_dict())
    theirs = {lite_publishers_name(key): value for key, value in ours.items()}
    assert len(theirs) == len(ours) and not set(theirs) & set(ours)
    mapped = efficientnet_lite_to_timm(theirs)
    assert mapped.keys() == ours.keys()
    assert all(mapped[key] is value for key, value in ours.items())
    backbone = create_backbone("tf_efficientnet_lite0", 16)
    load_backbone_weights(backbone, mapped, "file")
    assert torch.equal(backbone.net.state_dict()["blocks.6.0.conv_pwl.weight"], ours["blocks.6.0.conv_pwl.weight"])


# --- files ---


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_weights_and_experiment_survive_a_file(kind, tmp_path):
    segmenter = small(classes=("a", "b"), recurrence=3, align_corners=True)
    segmenter.load_state_dict(distinct(segmenter.state_dict()))
    dtype = None if kind == "float32" else torch.float16
    crisscross.save(segmenter, tmp_path / "w.safetensors", dtype=dtype, facts={"miou": 0.5})
    loaded = crisscross.load(tmp_path / "w.safetensors")
    assert loaded.experiment == segmenter.experiment and loaded.classes == ("a", "b")
    assert not loaded.training
    before, after = segmenter.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert after[key].dtype == value.dtype
        expected = value.half().float() if dtype and value.is_floating_point() else value
        assert torch.equal(after[key], expected), key
    sizes = {"float32": 4, "float16": 2}
    assert (tmp_path / "w.safetensors").stat().st_size < (sizes[kind] + 0.5) * count(segmenter)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    crisscross.save(small(), path)
    return path


def test_overrides_go_by_last_name_or_in_full(file):
    assert crisscross.load(file, recurrence=1).experiment.model.head.recurrence == 1
    loaded = crisscross.load(file, align_corners=True, **{"model.head.recurrence": 3})
    assert loaded.experiment.model.align_corners and loaded.experiment.model.head.recurrence == 3
    assert loaded.head.attend.recurrence == 3
    loaded = crisscross.load(file, classes=["x", "y", "z"])
    assert loaded.classes == ("x", "y", "z") and len(loaded.palette) == 3


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"scale": [64, 64]}, r"override 'scale' is ambiguous: preprocess\.scale, augment\.scale"),
        ({"recurence": 1}, r"unknown key recurence; did you mean model\.head\.recurrence\?"),
        ({"model.head.recurence": 1}, r"unknown key model\.head\.recurence; did you mean recurrence"),
        ({"zzz": 1}, r"unknown key zzz; known: name, backbone, "),
        ({"recurrence": -1}, r"model\.head\.recurrence must be at least 0, got -1"),
        ({"model.head.channels": 32}, r"w\.safetensors: head\.\S+ has shape \[16, .*this configuration needs \[32, "),
        ({"classes": ["a", "b"]}, r"head\.classify\.weight has shape .*the file has 3 classes, the configuration 2"),
        ({"model.aux_head.channels": 0}, r"w\.safetensors: aux_head\.\S+ does not belong to this configuration"),
    ],
)
def test_overrides_that_cannot_be_are_refused(overrides, words, file):
    with pytest.raises(CrissCrossError, match=words):
        crisscross.load(file, **overrides)


def test_a_missing_tensor_is_named(file, tmp_path):
    from safetensors.torch import load_file, safe_open, save_file

    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    del tensors["head.refine.conv.weight"]
    save_file(tensors, tmp_path / "w.safetensors", header)
    with pytest.raises(CrissCrossError, match=r"w\.safetensors: head\.refine\.conv\.weight is missing"):
        crisscross.load(tmp_path / "w.safetensors")


def test_no_attention_asked_for_in_code():
    base = override(Experiment(data=DataConfig(classes=("a", "b"))), ["model.backbone=test_resnet"])
    plain = crisscross.build(base, recurrence=0)
    assert isinstance(plain.head.attend, nn.Identity)
    assert isinstance(crisscross.build(base).head.attend.attention, nn.Module)


# --- export ---


def test_exports_with_free_height_and_width(own_module):
    segmenter = small(backbone=f"{own_module}:tiny_resnet").eval()
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(segmenter, (torch.randn(1, 3, 72, 88),), dynamic_shapes=(free,), strict=False)
    exported = program.module()
    # The max-pooling that torch 2.11 exports takes sizes whose half is odd or even as that of the example is.
    for size in ((72, 88), (35, 131), (64, 43)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected, found = segmenter(x), exported(x)
        assert found[1] is None
        torch.testing.assert_close(found[0], expected.main, rtol=1e-4, atol=1e-5)
