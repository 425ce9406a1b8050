"""Training in less memory: the same bits as training that keeps everything, and fewer of them kept."""

import gc
from copy import deepcopy

import pytest
import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from benchmarks.compare.kept import kept_for_backward
from crisscross.config import Experiment, from_dict
from crisscross.layers import AbsoluteBatchNorm2d
from crisscross.models import Segmenter
from crisscross.speed import recipes
from crisscross.speed.lean import make_lean

pytestmark = pytest.mark.usefixtures("one_thread")


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    small = {"channels": (8, 16, 16, 16), "layers": [3, 1, 2, 1], "num_classes": 3, "stem_width": 4}
    blocks = {"bottleneck": Bottleneck, "basic": BasicBlock, "deep": Bottleneck, "attentive": Bottleneck}
    options = {
        "deep": {"stem_type": "deep", "avg_down": True},
        "attentive": {"block_args": {"attn_layer": "se"}, "drop_path_rate": 0.3},
    }
    return ResNet(blocks[kind], **small, **options.get(kind, {}))


def image(size: int = 48) -> Tensor:
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


def trained(net: nn.Module, steps: int = 2) -> list[Tensor]:
    """Gradients of the last step, weights and statistics after all, and the outputs."""
    found, optimizer = [], torch.optim.SGD(net.parameters(), 0.1, 0.9)
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(step)
        out = net(image())
        out.square().sum().backward()
        optimizer.step()
        found.append(out.detach())
    return [*found, *(p.grad for p in net.parameters()), *(p.detach() for p in net.parameters()), *net.buffers()]


@pytest.mark.parametrize("kind", ["bottleneck", "basic", "deep", "attentive"])
def test_two_steps_give_the_same_bits(kind: str) -> None:
    plain = network(kind).to(memory_format=torch.channels_last)
    lean = deepcopy(plain)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in lean.modules())
    assert make_lean(lean) == norms > 15
    assert all(torch.equal(a, b) for a, b in zip(trained(plain), trained(lean), strict=True))
    assert plain.state_dict().keys() == lean.state_dict().keys()


def test_contiguous_memory_and_accumulated_steps_too() -> None:
    plain = network("bottleneck")
    lean = deepcopy(plain)
    make_lean(lean)
    for net in (plain, lean):
        for seed in range(2):
            net(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))).sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), lean.parameters(), strict=True))


def test_under_autocast_the_same_bits() -> None:
    plain = network("bottleneck").to(memory_format=torch.channels_last)
    lean = deepcopy(plain)
    make_lean(lean)
    for net in (plain, lean):
        with torch.autocast("cpu", torch.bfloat16):
            out = net(image())
        out.float().square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), lean.parameters(), strict=True))


def test_the_segmenter_and_its_frozen_norms() -> None:
    config = {
        "model": {
            "backbone": "test_resnet",
            "output_stride": 8,
            "head": {"channels": 16},
            "aux_head": {"channels": 8},
            "frozen": ["bn1"],
        },
        "data": {"classes": ["a", "b", "c"]},
    }
    for variant in ("mmseg", "authors"):
        config["model"]["variant"] = variant
        plain = Segmenter(from_dict(Experiment, config))
        nn.init.constant_(plain.head.attend.attention.gamma, 0.7)
        lean = deepcopy(plain)
        make_lean(lean)
        for net in (plain, lean):
            torch.manual_seed(5)
            main, aux, *_ = net.train()(image(48))
            (main.square().sum() + aux.square().sum()).backward()
        pairs = zip(plain.named_parameters(), lean.named_parameters(), strict=True)
        assert all(a.grad is b.grad or torch.equal(a.grad, b.grad) for (_, a), (_, b) in pairs)
        assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), lean.buffers(), strict=True))


def test_a_convolution_norm_and_activation_keep_one_map_not_two() -> None:
    def kept(lean: bool) -> int:
        net = nn.Sequential(nn.Conv2d(3, 64, 1), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.Conv2d(64, 3, 1))
        if lean:
            make_lean(net)
        x = torch.randn(2, 3, 40, 40)
        seen: list[Tensor] = []

        def forward() -> object:
            return net(x)

        # `kept_for_backward` hooks outside of ours, which come first: count what ours still hands to autograd.
        original = recipes._pack

        def counted(tensor: Tensor) -> object:
            packed = original(tensor)
            if isinstance(packed, Tensor):
                seen.append(packed)
            return packed

        if not lean:
            return kept_for_backward(forward, [x, *net.parameters()])
        recipes._pack = counted
        try:
            held = forward()
        finally:
            recipes._pack = original
        del held
        known = {t.untyped_storage().data_ptr() for t in (x, *net.parameters())}
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in seen}
        return sum(size for address, size in storages.items() if address not in known)

    one_map = 2 * 64 * 40 * 40 * 4
    assert one_map <= kept(True) < 1.01 * one_map
    assert 2 * one_map <= kept(False) < 2.02 * one_map


def test_gradcheck() -> None:
    """Against finite differences, with a residual sum and a frozen norm."""
    torch.manual_seed(0)
    net = nn.Sequential(Bottleneck(4, 1), Bottleneck(4, 1), nn.Conv2d(4, 1, 1)).double().train()
    net[1].bn2.eval()
    nn.init.uniform_(net[0].bn3.weight, 0.5, 1.5)
    for block in net[:2]:
        for norm in (block.bn1, block.bn2):
            # Away from the kinks of ReLU.
            nn.init.constant_(norm.bias, 3.0)
    make_lean(net)
    x = (torch.rand(2, 4, 2, 3, dtype=torch.float64) + 5).requires_grad_()
    assert torch.autograd.gradcheck(net, x)
    assert torch.autograd.gradgradcheck(net, x)


def test_backward_can_run_twice() -> None:
    net = network("bottleneck")
    make_lean(net)
    loss = net(image()).square().sum()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in net.parameters()]
    loss.backward()
    assert all(torch.equal(p.grad, 2 * g) for p, g in zip(net.parameters(), once, strict=True))


def test_what_is_not_understood_is_left_alone() -> None:
    class Odd(nn.Module):
        """Its sum is not in place, its activation reads a norm that another reads too."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            normal = self.norm(self.conv(x))
            tripled = normal * 3
            normal += 1
            return self.act(self.act(normal) + tripled)

    torch.manual_seed(0)
    plain = nn.Sequential(Odd(), Odd(), nn.SiLU(), nn.Conv2d(3, 1, 1))
    lean = deepcopy(plain)
    make_lean(lean)
    assert all(torch.equal(a, b) for a, b in zip(trained(plain), trained(lean), strict=True))


def test_only_training_is_touched() -> None:
    net = network("bottleneck").to(memory_format=torch.channels_last)
    lean = deepcopy(net)
    make_lean(lean)
    with torch.no_grad():
        assert torch.equal(net.eval()(image()), lean.eval()(image()))
    assert not recipes.active()


def test_no_map_lives_on_after_its_step() -> None:
    """Nothing waits for the garbage collector: maps are large."""
    net = network("bottleneck")
    make_lean(net)
    gc.collect()
    before = len(recipes._recipes)
    gc.disable()
    try:
        net(image()).sum().backward()
        assert len(recipes._recipes) == before
        net(image())
        assert len(recipes._recipes) == before
    finally:
        gc.enable()


def test_a_copy_runs_its_own_weights() -> None:
    lean = network("bottleneck")
    make_lean(lean)
    copy = deepcopy(lean)
    nn.init.zeros_(copy.layer1[0].conv1.weight)
    copy(image()).sum().backward()
    assert copy.layer1[0].conv3.weight.grad is not None and lean.layer1[0].conv3.weight.grad is None


def test_nothing_outlives_a_failed_forward_pass() -> None:
    net = network("bottleneck")
    make_lean(net)
    with pytest.raises(RuntimeError):
        net(torch.randn(2, 4, 32, 32))
    assert not recipes.active()


def test_a_source_changed_in_place_is_an_error() -> None:
    x = torch.ones(3)
    recipe = recipes.Recipe(x * 2, lambda a, owned: a * 2, x)
    x += 1
    with pytest.raises(RuntimeError, match="modified in place"):
        recipe.take()


def test_the_absolute_norm() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 6, 1), AbsoluteBatchNorm2d(6), nn.LeakyReLU(inplace=True), nn.Conv2d(6, 2, 1))
    nn.init.constant_(plain[1].weight, -2.0)
    lean = deepcopy(plain)
    make_lean(lean)
    assert all(torch.equal(a, b) for a, b in zip(trained(plain), trained(lean), strict=True))
