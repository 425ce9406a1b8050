"""Attention in other people's networks: what they compute with it, compared with their own parts called one by one."""

import copy

import pytest
import torch
from torch import nn

import crisscross
from crisscross.surgery import insert_attention, inserted_attention, remove_attention
from strangers import TAKE, Block, Nested, draw_norms, literally, open_gates, residual_network

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


def residual_parts(network, x, attend, block=0, after=True):
    x = network.layer1(network.maxpool(network.relu(network.bn1(network.conv1(x)))))
    x = network.layer2(x)
    for number in range(2):
        x = attend(x) if number == block and not after else x
        x = network.layer3[number](x)
        x = attend(x) if number == block and after else x
    return network.fc(network.avgpool(network.layer4(x)).flatten(1))


@pytest.mark.parametrize("example", [None, X])
@pytest.mark.parametrize(
    ("where", "block", "after"),
    [
        ({"after": "layer3.0"}, 0, True),
        ({"before": "layer3.1"}, 1, False),
        ({"after": "layer3"}, 1, True),
        ({"before": ["layer3"]}, 0, False),
    ],
)
def test_torchvision_resnet(where, block, after, example):
    def parts(network, x, attend):
        return residual_parts(network, x, attend, block, after)

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
        picture = torch.stack([x[:, 1 + h * width : 1 + (h + 1) * width] for h in range(height)], 1)
        attended = attend(picture.permute(0, 3, 1, 2))
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


def test_features_given_by_position_or_by_name():
    torch.manual_seed(0)
    x, other = torch.randn(2, 1, 8, 5, 6).double()
    block = in_a_list()
    insert_attention(block, before="list.0", select="other", reduction=2)
    open_gates(block)
    inserted = the_only(block)
    expected = block.list[0].conv(x).tanh() + literally(inserted, other)
    torch.testing.assert_close(block.list[0](x, other=other), expected)
    remove_attention(block)
    insert_attention(block, before="list.0", select=1, reduction=2)
    expected = block.list[0].conv(x).tanh() + literally(the_only(open_gates(block)), other)
    torch.testing.assert_close(block.list[0](x, other), expected)
    with pytest.raises(crisscross.CrissCrossError, match=r"select=1 is none of 0: \(1, 8, 5, 6\), 'other': \(1, 8"):
        block.list[0](x, other=other)


def in_a_list():
    network = nn.Module()
    network.list = nn.ModuleList([Block(8, "tensor")])
    return network.double()


def test_several_places_each_with_attention_of_its_own():
    network = insert_attention(residual_network(), ["layer2.0", "layer3.0"], before="layer3.0", reduction=4)
    found = inserted_attention(network)
    assert list(found) == ["layer2.0.criss_cross", "layer3.0.criss_cross", "layer3.0.criss_cross_before"]
    assert [inserted.attention.channels for inserted in found.values()] == [128, 256, 128]
    remove_attention(network, "layer3.0")
    assert list(inserted_attention(network)) == ["layer2.0.criss_cross", "layer3.0.criss_cross_before"]
    with pytest.raises(
        crisscross.CrissCrossError, match=r"no attention after layer3.1; inserted is: after layer2.0, b"
    ):
        remove_attention(network, "layer3")


def test_the_network_stays_as_it_was():
    plain = residual_network().train()
    plain.bn1.eval()
    plain.bn1.requires_grad_(False)
    network = copy.deepcopy(plain)
    insert_attention(network, "layer3", example_inputs=X)
    for name, module in plain.named_modules():
        assert network.get_submodule(name).training == module.training
    for name, value in plain.state_dict(keep_vars=True).items():
        other = network.state_dict(keep_vars=True)[name]
        assert torch.equal(other, value) and other.requires_grad == value.requires_grad
    assert all(weight.requires_grad for weight in the_only(network).parameters())


def test_gradients_reach_the_gate_first():
    network = insert_attention(residual_network(), "layer3")
    network(X).square().sum().backward()
    layer = the_only(network).attention
    assert layer.gamma.grad != 0 and not layer.value.weight.grad.any()
    open_gates(network)(X).square().sum().backward()
    assert layer.value.weight.grad.any() and layer.query.weight.grad.any()


WRONG = {
    "layer4.22": "no submodule 'layer4.22'; 'layer4' has layer4.0, layer4.1",
    "layre3.1": "no submodule 'layre3.1'; did you mean layer3.1 or .* the network has conv1, bn1, .*, avgpool, fc",
    "layer3.0.con2": r"did you mean layer3.0.conv2 or .*\? 'layer3.0' has layer3.0.conv1, layer3.0",
    "": "no submodule ''; the network has",
    "avgpool": "how many channels. it has no convolution or norm; give channels=, or example_inputs=",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_names(name):
    with pytest.raises(crisscross.CrissCrossError, match=WRONG[name]):
        insert_attention(residual_network(), name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"after": "layer3.0.relu", "example_inputs": X}, "calls it 2 times.*called once, or give channels= instead"),
        ({"after": "fc", "example_inputs": X}, r"after fc: layout 'nchw' has 4 axes, found \(1, 5\)"),
        ({"after": "layer3", "example_inputs": X[0, 0]}, "fails on example_inputs: "),
        ({"after": "layer3", "layout": "NCHW"}, "layout must be one of nchw, nhwc, tokens, got 'NCHW'"),
        ({"after": "layer3", "grid": (4, 4)}, "are for layout='tokens'"),
        ({"after": "layer3", "layout": "tokens", "grid": (4, 0)}, r"grid is \(H, W\)"),
        ({"after": "layer3", "reducton": 4}, "unknown option reducton; known: recurrence, reduction, backend"),
        ({"after": "layer3", "recurrence": 0}, "after layer3.1: recurrence must be at least 1"),
        ({"after": "conv1", "reduction": 65}, "channels must be at least reduction, got 64 and 65"),
        ({"after": ["layer3", "layer3.1"]}, "named twice: after layer3.1"),
        ({}, "where. give after= or before="),
        ({"after": ["layer2", "avgpool"]}, "it has no convolution"),
    ],
)
def test_wrong_requests_change_nothing(options, message):
    network = residual_network().train()
    before = str(network), network.state_dict().keys()
    with pytest.raises(crisscross.CrissCrossError, match=message):
        insert_attention(network, **options)
    assert (str(network), network.state_dict().keys()) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(module.training for module in network.modules())


def test_twice_at_one_place():
    network = insert_attention(residual_network(), "layer3")
    with pytest.raises(crisscross.CrissCrossError, match=r"after layer3.1 there is attention already; .*remove_att"):
        insert_attention(network, ["layer2", "layer3.1"])
    assert len(inserted_attention(network)) == 1
    # The other end is another place, and attention that is there is not taken for the network's own layers.
    insert_attention(network, before="layer3.1", reduction=3)
    assert [inserted.attention.channels for inserted in inserted_attention(network).values()] == [256, 256]


def test_containers_that_are_not_called():
    network = Nested()
    with pytest.raises(crisscross.CrissCrossError, match=r"\(ModuleList\); name one of its members: parts.list.0, par"):
        insert_attention(network, "parts.list")
    with pytest.raises(crisscross.CrissCrossError, match=r"after unused: one pass of the network does not call it; "):
        insert_attention(network, "unused", example_inputs=X.float())
    network.parts["tensor"][0].empty = nn.Sequential()
    with pytest.raises(crisscross.CrissCrossError, match=r"'parts.tensor.0.empty' is an empty Sequential"):
        insert_attention(network, "parts.tensor.0.empty")


def test_features_that_do_not_fit():
    network = Nested()
    x = X.float()[..., :6, :7]
    insert_attention(network, "parts.tensor.0", layout="nhwc", reduction=2)
    with pytest.raises(
        crisscross.CrissCrossError, match=r"after parts.tensor.0: made for 8 channels.* have 7 in layou"
    ):
        network(x)
    remove_attention(network)
    insert_attention(network, "parts.dict.0", reduction=2)
    with pytest.raises(crisscross.CrissCrossError, match=r"choose with select= among 'low': \(1, 8, 6, 7\), 'high'"):
        network(x)
    with pytest.raises(crisscross.CrissCrossError, match=r"choose with select= among 'low'"):
        insert_attention(Nested(), "parts.dict.0", example_inputs=(x,))


class Transformer(nn.Module):
    """Gives its features with channels last, or as tokens, to be told from a picture in the usual layout."""

    def __init__(self, tokens):
        super().__init__()
        self.embed, self.block, self.tokens = nn.Conv2d(3, 8, 1), nn.Linear(8, 8), tokens

    def forward(self, x):
        x = self.embed(x).permute(0, 2, 3, 1)
        return self.block(x.flatten(1, 2) if self.tokens else x)


def test_other_layouts_are_noticed_where_they_can_be():
    x = X.float()[..., :6, :7]
    with pytest.raises(crisscross.CrissCrossError, match="seem to have their channels last; give layout='nhwc'"):
        insert_attention(Transformer(False), "block", example_inputs=x)
    with pytest.raises(crisscross.CrissCrossError, match=r"found \(1, 42, 8\); is it layout='tokens'"):
        insert_attention(Transformer(True), "block", example_inputs=x)
    network = Transformer(True)
    with pytest.raises(
        crisscross.CrissCrossError, match=r"42 tokens after 0 prefix tokens are not a square; give grid"
    ):
        insert_attention(network, "block", example_inputs=x, layout="tokens")
    assert not inserted_attention(network)
    insert_attention(network, "block", example_inputs=x, layout="tokens", grid=(6, 7))
    volumes = nn.Sequential(nn.Conv3d(3, 8, 1))
    for example in (None, torch.zeros(1, 3, 4, 4, 4)):
        with pytest.raises(crisscross.CrissCrossError, match="networks over video or volumes are not supported"):
            insert_attention(volumes, "0", example_inputs=example)


def test_a_sequence_that_ends_without_weights():
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU()), nn.Conv2d(8, 4, 1)
    ).double()
    insert_attention(network, "0", reduction=2)
    assert list(inserted_attention(open_gates(network.eval()))) == ["0.2.criss_cross"]
    x = X[..., :6, :7]
    y = network[0][0](x) / (1 + network[0][1].eps) ** 0.5
    torch.testing.assert_close(network(x), network[1](literally(the_only(network), y.relu())))
