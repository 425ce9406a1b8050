"""Winograd in training against convolutions in float64."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from crisscross.speed import winograd_train
from crisscross.speed.winograd_train import train_by_winograd


@pytest.fixture
def taken(monkeypatch) -> list[int]:
    """The dilations of the convolutions that were computed by tiles."""
    calls: list[int] = []
    original = winograd_train._Pass.of

    def counted(self, x: Tensor) -> Tensor:
        calls.append(self.dilation[0])
        return original(self, x)

    monkeypatch.setattr(winograd_train._Pass, "of", counted)
    return calls


def run(conv: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """Output and gradients of input, weight and bias, in float64."""
    x = x.clone().requires_grad_()
    conv.zero_grad()
    y = conv(x)
    y.backward(grad)
    return [y.detach().double(), x.grad.double(), *(p.grad.double() for p in conv.parameters())]


@pytest.mark.parametrize(("dilation", "bias", "height", "width"), [(1, True, 33, 50), (2, False, 40, 27)])
def test_output_and_gradients(dilation: int, bias: bool, height: int, width: int, taken: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(160, 192, 3, padding=dilation, dilation=dilation, bias=bias).to(memory_format=torch.channels_last)
    x = torch.randn(2, 160, height, width, generator=generator)
    grad = torch.randn(2, 192, height, width, generator=generator)
    truth = run(deepcopy(conv).double(), x.double(), grad.double())
    plain = run(conv, x, grad)
    assert train_by_winograd(conv) == 1 and not taken
    ours = run(conv, x, grad)
    assert taken == [dilation, dilation]
    for exact, rounded, found in zip(truth, plain, ours, strict=True):
        scale = exact.abs().max()
        # Ten times torch's own error and no more than a hundred thousandth.
        assert (found - exact).abs().max() < 1e-5 * scale
        assert (rounded - exact).abs().max() < 1e-5 * scale


def test_the_first_layer_asks_for_no_gradient_of_the_image(taken: list[int]) -> None:
    conv = nn.Conv2d(160, 160, 3, padding=1)
    train_by_winograd(conv)
    conv(torch.randn(1, 160, 40, 40)).sum().backward()
    assert taken == [1] and conv.weight.grad is not None


def test_where_it_is_not_taken(taken: list[int]) -> None:
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
    assert not taken and suits.state_dict().keys() == plain.state_dict().keys()
