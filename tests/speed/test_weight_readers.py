"""Training in less memory, recomputing, Winograd and `optimize`: they read weights only of modules that are plain."""

import copy
from types import MethodType

import pytest
import torch
from torch import Tensor, nn

import crisscross
from crisscross.speed.lean import make_lean
from crisscross.speed.recompute import recompute_backbone
from crisscross.speed.winograd_layers import WinogradConv2d, train_by_winograd


def gradients(network: nn.Module, x: Tensor) -> list[Tensor]:
    loss = network(x).square().sum()
    return list(torch.autograd.grad(loss, [p for p in network.parameters() if p.requires_grad]))


def test_lean_training_makes_again_what_a_hook_made():
    """A hook on a frozen norm, on its activation and on a widening convolution; one convolution with a padding."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 1, padding=1), nn.BatchNorm2d(8), nn.ReLU(True), nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16),
        nn.ReLU(True), nn.Conv2d(16, 2, 3),
    )  # fmt: skip
    network[1].register_forward_hook(lambda module, inputs, output: 3 * output)
    network[3].register_forward_hook(lambda module, inputs, output: output + 1)

    def relu(self, x):
        return nn.functional.relu(x) * 2

    network[5].forward = MethodType(relu, network[5])
    network.train()
    for norm in (network[1], network[4]):
        norm.eval()
    lean, x = copy.deepcopy(network), torch.randn(2, 3, 6, 6)
    make_lean(lean)
    for found, expected in zip(gradients(lean, x), gradients(network, x), strict=True):
        torch.testing.assert_close(found, expected)


def test_recomputing_leaves_other_forwards_of_stages_alone():
    torch.manual_seed(0)
    stage = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)))

    def forward(self, x):
        return 3 * nn.Sequential.forward(self, x)

    stage.forward = MethodType(forward, stage)
    network = nn.Sequential(nn.Conv2d(3, 3, 1), stage).train()
    kept, x = copy.deepcopy(network), torch.randn(1, 3, 5, 6)
    assert recompute_backbone(kept)
    assert torch.equal(kept(x), network(x))
    for found, expected in zip(gradients(kept, x), gradients(network, x), strict=True):
        torch.testing.assert_close(found, expected)


def test_winograd_in_training_leaves_other_forwards_alone():
    conv = nn.Conv2d(256, 256, 3, padding=1, bias=False)
    assert train_by_winograd(copy.deepcopy(conv)) == 1
    conv.forward = MethodType(lambda self, x: 7 * x, conv)
    assert train_by_winograd(conv) == 0
    assert torch.equal(conv(torch.ones(1)), torch.tensor([7.0]))


def test_winograd_compares_devices(fast_calls):
    made = WinogradConv2d(nn.Conv2d(256, 256, 3, padding=1).requires_grad_(False)).to("meta")
    made(torch.zeros(1, 256, 64, 64))
    assert not fast_calls


def trained_pair() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("part", [0, 1])
def test_optimize_leaves_other_forwards_alone(part):
    network, x = trained_pair(), torch.randn(1, 3, 9, 9)

    def forward(self, x):
        return type(self).forward(self, x) ** 2

    network[part].forward = MethodType(forward, network[part])
    with torch.no_grad():
        torch.testing.assert_close(crisscross.optimize(network)(x), network(x))


def test_optimize_folds_no_weights_that_are_elsewhere():
    network = crisscross.optimize(trained_pair().to("meta"))
    assert isinstance(network[1], nn.BatchNorm2d)


def test_optimize_undoes_winograd_training():
    network = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.BatchNorm2d(256), nn.ReLU()).eval()
    assert train_by_winograd(network) == 1
    fast = crisscross.optimize(network)
    assert isinstance(fast[0], WinogradConv2d) and not isinstance(fast[1], nn.BatchNorm2d)
    assert "forward" in network[0].__dict__
