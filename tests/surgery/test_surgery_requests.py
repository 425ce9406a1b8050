"""Requests for attention in a network: what they leave alone, and how wrong ones are answered."""

import copy

import pytest
import torch
from surgery_networks import Nested, open_gates, residual_network
from torch import nn

import crisscross
from crisscross.surgery import insert_attention, inserted_attention, remove_attention

pytestmark = pytest.mark.usefixtures("one_thread")
X = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def the_only(network):
    (inserted,) = inserted_attention(network).values()
    return inserted


def test_several_submodules_each_with_attention_of_its_own():
    network = insert_attention(residual_network(), ["layer2.0", "layer3.0", "layer3.1"], reduction=4)
    found = inserted_attention(network)
    assert list(found) == ["layer2.0.criss_cross", "layer3.0.criss_cross", "layer3.1.criss_cross"]
    assert [inserted.attention.channels for inserted in found.values()] == [128, 256, 256]
    remove_attention(network, "layer3.0")
    assert list(inserted_attention(network)) == ["layer2.0.criss_cross", "layer3.1.criss_cross"]
    with pytest.raises(crisscross.CrissCrossError, match=r"no attention after layer3.0; .* after: layer2.0, l"):
        remove_attention(network, ["layer3", "layer3.0"])
    assert len(inserted_attention(network)) == 2


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


def test_a_network_that_guards_its_modes():
    class Guarding(nn.Conv2d):
        def train(self, mode=True):
            raise AssertionError("called, and would have thawed or frozen something")

    network = nn.Sequential(Guarding(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    insert_attention(network, "2", example_inputs=X.float(), reduction=2)
    assert all(module.training for module in network.modules()) and network[1].num_batches_tracked == 0


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
        ({}, "after= is empty"),
        ({"after": ["layer2", "avgpool"]}, "it has no convolution"),
    ],
)
def test_wrong_options_change_nothing(options, message):
    network = residual_network().train()
    before = str(network), network.state_dict().keys()
    with pytest.raises(crisscross.CrissCrossError, match=message):
        insert_attention(network, **options)
    assert (str(network), network.state_dict().keys()) == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(module.training for module in network.modules())


def test_twice_after_one_submodule():
    network = insert_attention(residual_network(), "layer3")
    with pytest.raises(crisscross.CrissCrossError, match=r"layer3.1 has attention already; .*remove_att"):
        insert_attention(network, ["layer2", "layer3.1"])
    assert len(inserted_attention(network)) == 1
    # Attention that is there is not taken for the network's own layers.
    insert_attention(network, after="layer3.0", reduction=3)
    assert {inserted.place: inserted.attention.channels for inserted in inserted_attention(network).values()} == {
        "layer3.0": 256,
        "layer3.1": 256,
    }


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
    """Gives its features with channels last, or as tokens, to be told from an image in the usual layout."""

    def __init__(self, tokens):
        super().__init__()
        self.embed, self.tokens = nn.Conv2d(3, 8, 1), tokens
        self.block = nn.Sequential(nn.Linear(8, 8), nn.GELU())

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
