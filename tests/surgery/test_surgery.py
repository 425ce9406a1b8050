"""Attention in other people's networks: what they compute with it, compared with their own parts called one by one."""

import copy
from collections import OrderedDict, namedtuple

import pytest
import torch
from surgery_networks import TAKE, Nested, draw_norms, literally, open_gates, residual_network
from torch import nn

from crisscross.surgery import insert_attention, inserted_attention, remove_attention

pytestmark = pytest.mark.usefixtures("one_thread")
X = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def the_only(network):
    (inserted,) = inserted_attention(network).values()
    return inserted


def check(plain, where, by_parts, x=X, **options):
    """Same bits with the gate closed; with it open the same as the parts one by one, and not the same as before."""
    network = copy.deepcopy(plain)
    assert insert_attention(network, **where, **options) is network
    with torch.no_grad():
        before = plain(x)
        assert torch.equal(network(x), before)
        inserted = the_only(open_gates(network))
        attended = network(x)
        assert not torch.allclose(attended, before, rtol=1e-3)
        torch.testing.assert_close(
            attended, by_parts(plain, x, lambda y: literally(inserted, y)), rtol=1e-9, atol=1e-11
        )
    assert remove_attention(network) is network
    assert str(network) == str(plain) and network.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(network(x), before)


def residual_parts(network, x, attend, block=0):
    x = network.layer1(network.maxpool(network.relu(network.bn1(network.conv1(x)))))
    x = network.layer2(x)
    for number in range(2):
        x = network.layer3[number](x)
        x = attend(x) if number == block else x
    return network.fc(network.avgpool(network.layer4(x)).flatten(1))


@pytest.mark.parametrize("example", [None, X])
@pytest.mark.parametrize(
    ("where", "block"), [({"after": "layer3.0"}, 0), ({"after": "layer3"}, 1), ({"after": ["layer3.1"]}, 1)]
)
def test_torchvision_resnet(where, block, example):
    def parts(network, x, attend):
        return residual_parts(network, x, attend, block)

    check(residual_network(), where, parts, example_inputs=example, recurrence=1 + block, reduction=4)


def test_inside_a_block_the_shortcut_is_left_alone():
    def parts(network, x, attend):
        x = network.layer1(network.maxpool(network.relu(network.bn1(network.conv1(x)))))
        block = network.layer2[1]
        x = network.layer2[0](x)
        y = block.bn2(block.conv2(block.relu(block.bn1(attend(block.conv1(x))))))
        return network.fc(network.avgpool(network.layer4(network.layer3(torch.relu(x + y)))).flatten(1))

    check(residual_network(), {"after": "layer2.1.conv1"}, parts, axis="row")


def test_torchvision_fcn():
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.resnet import Bottleneck, ResNet
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    torch.manual_seed(0)
    layers = ResNet(Bottleneck, [1, 1, 2, 1], replace_stride_with_dilation=[False, True, True])
    plain = draw_norms(FCN(IntermediateLayerGetter(layers, {"layer4": "out"}), FCNHead(2048, 5)))
    network = insert_attention(copy.deepcopy(plain), "backbone.layer3.0", reduction=64)
    assert torch.equal(network(X)["out"], plain(X)["out"])
    inserted = the_only(open_gates(network))
    assert inserted.attention.channels == 1024
    with torch.no_grad():
        trunk = dict(plain.backbone.named_children())
        x = X
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2"):
            x = trunk[name](x)
        x = plain.classifier(trunk["layer4"](trunk["layer3"][1](literally(inserted, trunk["layer3"][0](x)))))
        x = nn.functional.interpolate(x, size=X.shape[-2:], mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(X)["out"], x, rtol=1e-9, atol=1e-11)


def test_timm_convnext():
    import timm

    def parts(network, x, attend):
        x = network.stages[1](network.stages[0](network.stem(x)))
        return network.forward_head(network.norm_pre(network.stages[3](network.stages[2](attend(x)))))

    torch.manual_seed(0)
    plain = timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=5)
    for block in plain.modules():
        if hasattr(block, "gamma"):
            # Its own scale of each branch starts near nothing.
            nn.init.ones_(block.gamma)
    check(plain.double().eval(), {"after": "stages.1"}, parts)


@pytest.mark.parametrize("example", [False, True])
def test_timm_swin_with_channels_last(example):
    import timm

    def parts(network, x, attend):
        x = network.layers[1](network.layers[0](network.patch_embed(x)))
        assert x.shape[1] != x.shape[-1] == 32
        x = attend(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return network.forward_head(network.norm(network.layers[3](network.layers[2](x))))

    torch.manual_seed(0)
    plain = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=(64, 96),
        embed_dim=16,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 1, 1),
        window_size=4,
        num_classes=5,
    )
    check(
        plain.double().eval(),
        {"after": "layers.1"},
        parts,
        layout="nhwc",
        example_inputs=X if example else None,
        position_bias=None,
    )


@pytest.mark.parametrize("size", [(64, 96), (64, 64)])
def test_timm_vit_with_a_class_token(size):
    import timm

    height, width = size[0] // 16, size[1] // 16

    def parts(network, x, attend):
        x = network.norm_pre(network._pos_embed(network.patch_embed(x)))
        x = network.blocks[0](x)
        image = torch.stack([x[:, 1 + h * width : 1 + (h + 1) * width] for h in range(height)], 1)
        attended = attend(image.permute(0, 3, 1, 2))
        x = torch.cat([x[:, :1], *(attended[:, :, h].transpose(1, 2) for h in range(height))], 1)
        return network.forward_head(network.norm(network.blocks[1](x)))

    torch.manual_seed(0)
    plain = timm.create_model("vit_tiny_patch16_224", img_size=size, depth=2, embed_dim=16, num_heads=2, num_classes=5)
    grid = None if height == width else (height, width)
    x = X[..., : size[1]]
    check(plain.double().eval(), {"after": "blocks.0"}, parts, x, layout="tokens", prefix_tokens=1, grid=grid)


@pytest.mark.parametrize("kind", Nested.KINDS)
def test_submodules_that_give_several_values(kind):
    torch.manual_seed(0)
    plain = Nested().double()
    network = copy.deepcopy(plain)
    select = TAKE.get(kind) if kind in ("tuple", "list", "dict") else None
    insert_attention(network, f"parts.{kind}.0", select=select, reduction=2)
    inserted = the_only(open_gates(network))
    x = X[..., :6, :7]
    seen = []
    handle = plain.parts[kind][0].register_forward_hook(lambda _, inputs, output: seen.append(output))
    plain(x, kind)
    handle.remove()
    value = seen[0] if kind == "tensor" else seen[0][TAKE[kind]]
    attended = literally(inserted, value.detach()).relu()
    last = plain.parts[kind][1](attended)
    expected = plain.act(last if kind == "tensor" else last[TAKE[kind]])
    torch.testing.assert_close(network(x, kind), expected, rtol=1e-9, atol=1e-11)
    # What it gives beside the features, and its type, is as it was.
    given = network.parts[kind][0](value)
    assert type(given) is type(seen[0])
    if kind in ("tuple", "list", "dict"):
        assert given[{"tuple": 1, "list": 0, "dict": "low"}[kind]] is value


def test_what_a_submodule_keeps_of_its_output_is_not_changed():
    class Keeping(nn.Conv2d):
        def forward(self, x):
            self.kept = OrderedDict(out=super().forward(x))
            return self.kept

    network = nn.Sequential(Keeping(3, 8, 1)).double()
    insert_attention(network, "0", reduction=2)
    given = open_gates(network)(X[..., :6, :7])["out"]
    assert not torch.allclose(given, network[0].kept["out"], rtol=1e-3)


class Output(OrderedDict):
    """A dict with attributes, as some libraries have them."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        setattr(self, key, value)


Pair = namedtuple("Pair", "first second")


@pytest.mark.parametrize("kind", [Output, Pair])
def test_outputs_of_their_own_type(kind):
    class Giving(nn.Conv2d):
        def forward(self, x):
            y = super().forward(x)
            if kind is Pair:
                return Pair(None, y)
            output = Output()
            output["other"], output["features"] = 5, y
            return output

    network = nn.Sequential(Giving(3, 8, 1)).double()
    x = X[..., :6, :7]
    plain = network(x)
    insert_attention(network, "0", reduction=2)
    given = open_gates(network)(x)
    assert type(given) is kind
    features, value = (given.second, plain.second) if kind is Pair else (given.features, plain.features)
    torch.testing.assert_close(features, literally(the_only(network), value))
    assert (given.first is None) if kind is Pair else (given["features"] is features and given.other == 5)


def test_a_sequence_that_ends_without_weights():
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU()), nn.Conv2d(8, 4, 1)
    ).double()
    insert_attention(network, "0", reduction=2)
    assert list(inserted_attention(open_gates(network.eval()))) == ["0.2.criss_cross"]
    x = X[..., :6, :7]
    y = network[0][0](x) / (1 + network[0][1].eps) ** 0.5
    torch.testing.assert_close(network(x), network[1](literally(the_only(network), y.relu())))
