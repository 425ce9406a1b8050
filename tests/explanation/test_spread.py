"""How far attention looks, against the attention matrix of the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crisscross import CrissCrossAttention, CrissCrossAttention3d
from crisscross.explanation.spread import spread
from crisscross.layers.attention import relative_position_bias
from crisscross.ops import criss_cross_attention_3d_reference, criss_cross_attention_reference

pytestmark = pytest.mark.usefixtures("one_thread")


def matrix(layer, x):
    """The attention matrix [P, P] in float64: what the definition makes of values that are each 1 at one position."""
    layer, x = layer.double(), x.double()
    count = x[0, 0].numel()
    q, k, v = layer.query(x), layer.key(x), torch.eye(count).double().reshape(1, count, *x.shape[2:])
    if x.dim() == 5:
        attended = criss_cross_attention_3d_reference(q, k, v)
    else:
        biases = [
            None if table is None else relative_position_bias(table, length)
            for table, length in ((layer.row_bias, x.shape[3]), (layer.column_bias, x.shape[2]))
        ]
        attended = criss_cross_attention_reference(q * (layer.scale or 1), k, v, layer.axis, *biases)
    return attended[0].flatten(1).t().detach().numpy()


@pytest.mark.parametrize(
    ("layer", "size", "keys"),
    [
        (lambda: CrissCrossAttention(16, 4), (5, 7), 11),
        (lambda: CrissCrossAttention(16, 4, position_bias=3, scale=0.5), (5, 7), 11),
        (lambda: CrissCrossAttention(16, 4, axis="row", position_bias=2), (5, 7), 7),
        (lambda: CrissCrossAttention(16, 4, axis="column"), (5, 7), 5),
        (lambda: CrissCrossAttention3d(16, 4), (3, 4, 6), 11),
        (lambda: CrissCrossAttention(16, 4), (1, 7), 7),
    ],
)
def test_entropy_and_distances_are_those_of_the_matrix(layer, size, keys):
    torch.manual_seed(0)
    made = layer()
    for table in (made.row_bias, made.column_bias):
        if table is not None:
            torch.nn.init.normal_(table, std=2)
    x = torch.randn(1, 16, *size)
    found = spread(made, x)
    expected = matrix(made, x)
    logs = np.log(np.maximum(expected, 1e-300))
    np.testing.assert_allclose(found.entropy.ravel(), -(expected * logs).sum(1) / np.log(keys), atol=1e-5)
    places = np.stack(np.unravel_index(np.arange(len(expected)), size))
    away = np.abs(places[:, :, None] - places[:, None, :])
    own = (away == 0).all(0)
    names = [name for name in ("row", "column", "time") if made.axis in ("both", name)][: len(size)]
    assert [*found.weight] == [*found.reach] == names
    for number, name in enumerate(names):
        along = {"row": -1, "column": -2, "time": -3}[name] % len(size)
        line = (np.delete(away, along, 0) == 0).all(0) & (~own if number else True)
        np.testing.assert_allclose(found.weight[name].ravel(), (expected * line).sum(1), atol=1e-6)
        np.testing.assert_allclose(found.reach[name].ravel(), (expected * line * away[along]).sum(1), atol=1e-5)


def test_equal_weights_have_entropy_one_and_a_single_one_has_none():
    layer = CrissCrossAttention(16, 4)
    torch.nn.init.zeros_(layer.query.weight)
    torch.nn.init.zeros_(layer.query.bias)
    x = torch.randn(1, 16, 4, 6)
    np.testing.assert_allclose(spread(layer, x).entropy, 1, atol=1e-6)
    torch.nn.init.ones_(layer.query.bias)
    layer.key.weight.data.zero_()
    layer.key.weight.data[:, 0] = 1
    x[:, 0] = torch.arange(24.0).reshape(4, 6) * 100
    assert spread(layer, x).entropy.max() < 1e-6
