"""The learning rate of the gates of criss-cross attention."""

import torch
from torch import nn

from crisscross.config import OptimConfig
from crisscross.engine.optimizer import create_optimizer, set_rate
from crisscross.layers import CrissCrossAttention, CrissCrossAttention3d


def test_gates_learn_at_a_rate_of_their_own():
    """A first step of AdamW moves every parameter by its learning rate, one of SGD by rate times gradient."""
    for name, step in (("adamw", 0.01 * 20), ("sgd", 0.01 * 20 * 3.0)):
        layers = nn.Sequential(CrissCrossAttention(8), nn.Conv2d(8, 8, 1), CrissCrossAttention3d(8))
        config = OptimConfig(name=name, lr=0.01, momentum=0, weight_decay=0, gate_factor=20)
        before = {key: value.detach().clone() for key, value in layers.named_parameters()}
        optimizer = create_optimizer(config, layers)
        set_rate(optimizer, config.lr)
        for parameter in layers.parameters():
            parameter.grad = torch.full_like(parameter, 3.0)
        optimizer.step()
        for key, value in layers.named_parameters():
            expected = step if key in ("0.gamma", "2.gamma") else step / 20
            torch.testing.assert_close(before[key] - value, torch.full_like(value, expected), msg=f"{name} {key}")
