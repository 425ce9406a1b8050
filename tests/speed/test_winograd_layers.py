"""Winograd in training against convolutions in float64."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from crisscross.speed.winograd_layers import train_by_winograd


def run(conv: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """Output and gradients of input, weight and bias, in float64."""
    x = x.clone().requires_grad_()
    conv.zero_grad()
    y = conv(x)
    y.backward(grad)
    return [y.detach().double(), x.grad.double(), *(p.grad.double() for p in conv.parameters())]


@pytest.mark.parametrize(("dilation", "bias", "height", "width"), [(1, True, 33, 50), (2, False, 40, 27)])
def test_output_and_gradients(dilation: int, bias: bool, height: int, width: int, fast_calls: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(160, 192, 3, padding=dilation, dilation=dilation, bias=bias).to(memory_format=torch.channels_last)
    x = torch.randn(2, 160, height, width, generator=generator)
    grad = torch.randn(2, 192, height, width, generator=generator)
    truth = run(deepcopy(conv).double(), x.double(), grad.double())
    plain = run(conv, x, grad)
    assert train_by_winograd(conv) == 1 and not fast_calls
    ours = run(conv, x, grad)
    assert fast_calls == [dilation, dilation]
    for exact, rounded, found in zip(truth, plain, ours, strict=True):
        scale = exact.abs().max()
        # Ten times torch's own error and no more than a hundred thousandth.
        assert (found - exact).abs().max() < 1e-5 * scale
        assert (rounded - exact).abs().max() < 1e-5 * scale


def test_the_first_layer_computes_no_gradient_of_the_image(fast_calls: list[int]) -> None:
    conv = nn.Conv2d(160, 160, 3, padding=1)
    train_by_winograd(conv)
    conv(torch.randn(1, 160, 40, 40)).sum().backward()
    assert fast_calls == [1] and conv.weight.grad is not None


def test_where_it_is_not_taken(fast_calls: list[int]) -> None:
    suits = nn.Conv2d(160, 160, 3, padding=1)
    others = [
        nn.Conv2d(160, 160, 3, padding=1, stride=2),
        nn.Conv2d(160, 160, 3, padding=0),
        nn.Conv2d(160, 160, 1),
        nn.Conv2d(160, 160, 3, padding=1, groups=2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(160, 160, 3, padding=1).double(),
    ]
    assert train_by_winograd(nn.ModuleList(others)) == 0
    plain = deepcopy(suits)
    assert train_by_winograd(suits) == 1
    x = torch.randn(1, 160, 40, 40)
    assert torch.equal(suits.eval()(x), plain(x))
    suits.train()
    small = x[..., :3, :3]
    assert torch.equal(suits(small), plain(small))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(suits(x), plain(x))
    assert not fast_calls and suits.state_dict().keys() == plain.state_dict().keys()
