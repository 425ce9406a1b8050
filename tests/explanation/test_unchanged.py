"""Importing and using the explanation changes nothing of what layers and networks compute."""

from __future__ import annotations

from fresh_python import run_python

CODE = """
import sys
import numpy as np, torch
from crisscross import CrissCrossAttention, RecurrentCrissCrossAttention3d
from crisscross.ops import BACKENDS

torch.set_num_threads(1)
torch.manual_seed(0)
layers = [CrissCrossAttention(16, 4), RecurrentCrissCrossAttention3d(16, 3, 4)]
for layer in layers:
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
inputs = [torch.randn(2, 16, 9, 11), torch.randn(1, 16, 3, 5, 6)]

def results():
    found = []
    for layer, x in zip(layers, inputs):
        with torch.inference_mode():
            found.append(layer(x))
        given = x.clone().requires_grad_()
        layer(given).square().sum().backward()
        found.append(given.grad)
    return found

def pieces():
    return [CrissCrossAttention.forward, CrissCrossAttention.__call__, *BACKENDS.items()]

before, parts = results(), pieces()
assert "crisscross.explanation" not in sys.modules
import crisscross.explanation
imported = results()
net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), layers[0])
crisscross.explanation.explain(net, torch.randn(1, 3, 8, 9), (2, 3))
used = results()
for one in (imported, used):
    assert all(torch.equal(a, b) for a, b in zip(before, one, strict=True))
assert pieces() == parts
assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
print("same bits")
"""


def test_the_same_bits_with_explanation_imported_and_used():
    assert run_python(CODE).strip() == "same bits"
