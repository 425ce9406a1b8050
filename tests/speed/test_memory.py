"""`train.memory`: what reaches which part of a network, and what it keeps."""

import pytest
import torch
from torch import nn

from crisscross.config import DataConfig, Experiment, ModelConfig, TrainConfig
from crisscross.config.heads import AuxHeadConfig, CCNetConfig
from crisscross.engine.norms import settle_norms
from crisscross.errors import CrissCrossError
from crisscross.layers import CrissCrossAttention
from crisscross.losses import create_loss
from crisscross.models.video import create_segmenter
from crisscross.speed.memory import apply_memory


def network(**model):
    """A small network with an open gate."""
    torch.manual_seed(0)
    heads = {"head": CCNetConfig(channels=16, dropout=0.0), "aux_head": AuxHeadConfig(8, 0.0)}
    chosen = ModelConfig("test_resnet", **heads, **model)
    made = create_segmenter(Experiment(model=chosen, data=DataConfig(classes=("a", "b", "c")))).train()
    for module in made.modules():
        if isinstance(module, CrissCrossAttention):
            nn.init.constant_(module.gamma, 0.7)
    return made


def gradients(made):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 48, 40, generator=generator)
    labels = torch.randint(3, (2, 48, 40), generator=generator)
    found = made(x, coarse=True)
    create_loss(made.experiment.loss, 255)(found.main, found.aux, labels).total.backward()
    return [parameter.grad for parameter in made.parameters()]


@pytest.mark.parametrize(("memory", "kept"), [("fast", "fast"), ("lean", "lean"), ("recompute", "fast")])
@pytest.mark.parametrize("frames", [0, 2])
def test_every_attention_keeps_what_the_key_says(memory, kept, frames):
    made = network(frames=frames)
    assert apply_memory(made, TrainConfig(memory=memory)) == ""
    layers = [module for module in made.modules() if isinstance(module, CrissCrossAttention)]
    assert [layer.memory for layer in layers] == [kept]


@pytest.mark.parametrize("memory", ["lean", "recompute"])
def test_less_memory_has_the_same_gradients(memory):
    expected, made = gradients(network()), network()
    apply_memory(made, TrainConfig(memory=memory))
    for found, plain in zip(gradients(made), expected, strict=True):
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)
        assert memory != "recompute" or torch.equal(found, plain)


def test_a_network_of_another_make_cannot_recompute():
    with pytest.raises(CrissCrossError, match=r"train\.memory=recompute is not available for a Sequential; set train"):
        apply_memory(nn.Sequential(nn.Conv2d(3, 3, 1)), TrainConfig(memory="recompute"))


def test_a_setting_that_reaches_nothing_says_so():
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    assert apply_memory(network, TrainConfig(winograd=True)).startswith("train.winograd has no effect")
    assert settle_norms(network, "frozen", 1, False).startswith("train.batch_norm=frozen has no effect")
    assert settle_norms(network, "auto", 1, False) == apply_memory(network, TrainConfig()) == ""
