"""Effective receptive fields against hand-made gradients and a whole Jacobian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from crisscross import RecurrentCrissCrossAttention
from crisscross.explanation.receptive_field import effective_side, fields

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_square_holds_nine_tenths():
    gradient = torch.zeros(21, 31)
    center = (10.5, 15.5)
    gradient[10, 15] = 89
    gradient[10, 11] = gradient[13, 15] = 4
    gradient[0, 0] = 3
    # The middle has 89 of 100; with the pixel three rows below it are 93.
    assert effective_side(gradient, center) == 2 * 3
    assert effective_side(gradient, center, held=0.8) == 0
    assert effective_side(gradient, center, held=0.95) == 2 * 4
    assert effective_side(gradient, center, held=0.99) == 2 * 15


def net(gate):
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.Tanh(), RecurrentCrissCrossAttention(16, 2), nn.Conv2d(16, 2, 1))
    made[2].attention.gamma.data.fill_(gate)
    return made.eval()


def test_gradients_are_those_of_the_jacobian():
    made, x = net(0.5), torch.randn(1, 3, 14, 18)
    (one,) = fields(made, made, x).values()
    for share, part in ((one.before, made[:2]), (one.after, made[:3])):
        features = part(x)[0, :, 3, 4]
        jacobian = torch.autograd.functional.jacobian(lambda given, part=part: part(given)[0, :, 3, 4], x)
        expected = torch.einsum("c,cbdhw->dhw", features, jacobian).abs().sum(0)
        np.testing.assert_allclose(share, (expected / expected.sum()).detach().numpy(), atol=1e-6)
    # Cells of 2 pixels: the middle of the fourth is at 7.
    assert one.center == (7, 9)
    support = np.argwhere(one.before > 0)
    assert support.min(0).tolist() == [5, 7] and support.max(0).tolist() == [7, 9]
    # Two passes reach everything; pixels that no convolution reads have no gradient.
    assert (one.after > 0).all()
    assert one.sides[0] < one.sides[1]
    with torch.no_grad():
        given, result = made[:2](x).double(), made[:3](x).double()
    assert one.added == pytest.approx(((result - given).square().sum() / given.square().sum()).sqrt().item(), rel=1e-5)


def test_a_closed_gate_changes_nothing_and_the_network_stays_as_it_was():
    made = net(0.0)
    (one,) = fields(made, made, torch.randn(1, 3, 14, 18)).values()
    np.testing.assert_allclose(one.before, one.after, atol=1e-7)
    assert one.added == 0
    assert not made[2].attention._forward_hooks
    assert all(parameter.grad is None for parameter in made.parameters())
