"""The gates of criss-cross attention: their learning rate, and what a log says of them."""

import pytest
import torch
from shapes_data import experiment, write_shapes
from torch import nn

from crisscross.config import OptimConfig
from crisscross.data import open_folder
from crisscross.engine.optimizer import create_optimizer, set_rate
from crisscross.engine.run.log import read_log
from crisscross.engine.train import train
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


def test_gates_are_logged_as_each_step_found_them(tmp_path):
    """AdamW's first step moves the gate by its learning rate; the second step finds it there."""
    dataset = open_folder(write_shapes(tmp_path / "shapes"))
    words = ("optim.name=adamw", "optim.lr=0.001", "optim.weight_decay=0", "optim.eta_min=0", "optim.gate_factor=20")
    train(experiment(*words, "train.iterations=3"), dataset, tmp_path / "run")
    gates = [entry["gate"] for entry in read_log(tmp_path / "run") if "gate" in entry]
    assert len(gates) == 3 and gates[0] == 0 and abs(gates[1]) == pytest.approx(0.02, abs=2e-5)
    # Without attention there is none.
    train(experiment("model.head.recurrence=0", "train.iterations=1"), dataset, tmp_path / "plain")
    assert all("gate" not in entry for entry in read_log(tmp_path / "plain"))
