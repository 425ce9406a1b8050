"""Networks with inserted attention under torch's own tools: saving, copying, casting, exporting, compiling."""

import copy
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch
from paths import TESTS
from surgery_networks import open_gates, residual_network
from torch import nn

import crisscross
from crisscross.config import Experiment, from_dict
from crisscross.errors import CrissCrossError
from crisscross.surgery import InsertedAttention, insert_attention, inserted_attention, remove_attention

pytestmark = pytest.mark.usefixtures("one_thread")
X = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(3))


class Small(nn.Module):
    """Two blocks; the first gives an ordered dict and the second is called with a name."""

    def __init__(self):
        super().__init__()
        self.first, self.second = First(), Second()

    def forward(self, x):
        return self.second(other=self.first(x)["out"])


class First(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        return OrderedDict(out=self.conv(x))


class Second(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)

    def forward(self, other):
        return self.conv(self.norm(other).relu())


def small():
    torch.manual_seed(0)
    return Small().eval()


def two_places(gate=0.7):
    network = insert_attention(small(), ["first", "second.norm"], reduction=2)
    return open_gates(network, gate)


def test_attention_after_two_submodules_changes_the_output():
    first = open_gates(insert_attention(small(), "first", reduction=2))
    assert not torch.allclose(first(X), small()(X), rtol=1e-2)
    assert not torch.allclose(two_places()(X), first(X), rtol=1e-2)


def test_state_dict_there_and_back():
    old, network = small().state_dict(), two_places()
    new = network.state_dict()
    assert [key for key in new if ".criss_cross" not in key] == list(old)
    assert all(torch.equal(new[key], value) for key, value in old.items())
    other = two_places(0.0)
    other.load_state_dict(new)
    assert torch.equal(other(X), network(X))


@pytest.mark.parametrize("assign", [False, True])
def test_weights_without_attention_load_strictly_while_the_gate_is_closed(assign):
    torch.manual_seed(9)
    pretrained = Small().eval()
    network = two_places(0.0)
    drawn = {key: value.clone() for key, value in network.state_dict().items() if "criss_cross" in key}
    network.load_state_dict(pretrained.state_dict(), assign=assign)
    assert torch.equal(network(X), pretrained(X))
    assert all(torch.equal(network.state_dict()[key], value) for key, value in drawn.items())
    # With an open gate the same weights would be a network that nobody trained.
    with pytest.raises(RuntimeError, match=r"Missing key.*first.criss_cross.attention.gamma"):
        two_places().load_state_dict(pretrained.state_dict(), assign=assign)
    # A part of the attention is never enough.
    with pytest.raises(RuntimeError, match=r"Missing key.*criss_cross.attention.query.weight"):
        network.load_state_dict(pretrained.state_dict() | {"first.criss_cross.attention.gamma": torch.zeros(())})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*criss_cross.attention.gamma"):
        pretrained.load_state_dict(network.state_dict())


def test_meta_weights_are_not_taken_for_a_closed_gate():
    with torch.device("meta"):
        network = insert_attention(Small(), "first", reduction=2)
    assert next(iter(inserted_attention(network).values())).attention.gamma.is_meta
    with pytest.raises(RuntimeError, match="Missing key"):
        network.load_state_dict(small().state_dict(), assign=True)


def test_copies_are_independent():
    network = two_places()
    twin = copy.deepcopy(network)
    assert torch.equal(twin(X), network(X))
    open_gates(twin, 0.0)
    assert torch.equal(twin(X), small()(X)) and not torch.equal(network(X), twin(X))
    remove_attention(twin)
    assert len(inserted_attention(network)) == 2 and not torch.equal(network(X), small()(X))
    assert torch.equal(twin(X), small()(X)) and twin.state_dict().keys() == small().state_dict().keys()


def test_pickled_whole_and_hooked_again_in_another_process(tmp_path):
    network = two_places()
    torch.save((network, network(X)), tmp_path / "network.pt")
    # A new process counts its hooks from 0 again; one of them must not take the place of ours.
    code = """
import sys, torch, crisscross
sys.path.insert(0, sys.argv[2])
torch.set_num_threads(1)
network, expected = torch.load(sys.argv[1], weights_only=False)
x = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(3))
calls = []
for _ in range(4):
    network.first.register_forward_hook(lambda *_: calls.append(1))
    network.second.register_forward_pre_hook(lambda *_: calls.append(1))
torch.testing.assert_close(network(x), expected)
crisscross.surgery.remove_attention(network)
assert not torch.allclose(network(x), expected, rtol=1e-2)
print(len(calls))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "network.pt", TESTS / "helpers"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "16"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_cast_before_and_after(dtype):
    cast_before = insert_attention(small().to(dtype), "first", reduction=2)
    assert {weight.dtype for weight in cast_before.parameters()} == {dtype}
    assert torch.equal(cast_before(X.to(dtype)), small().to(dtype)(X.to(dtype)))
    cast_after = two_places().to(dtype)
    y = cast_after(X.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), two_places()(X), rtol=0.05, atol=0.05)


def test_train_and_eval_reach_the_attention():
    network = two_places().train()
    assert all(module.training for module in network.modules())
    assert not any(module.training for module in network.eval().modules())
    for training in (True, False):
        fresh = insert_attention(Small().train(training), "first", reduction=2)
        assert all(module.training is training for module in fresh.modules())


@pytest.mark.parametrize("strict", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_exported_with_free_sizes(strict):
    network = two_places()
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    program = torch.export.export(network, (X,), dynamic_shapes=(sizes,), strict=strict)
    other = torch.randn(3, 3, 9, 14)
    torch.testing.assert_close(program.module()(other), network(other), rtol=1e-4, atol=1e-5)
    assert set(program.state_dict) == set(network.state_dict())


def test_compiled_as_one_graph_forward_and_backward():
    network = two_places().train()
    compiled = torch.compile(copy.deepcopy(network), fullgraph=True, backend="aot_eager")
    for each in (network, compiled):
        each(X).square().sum().backward()
    gates = [network.first.criss_cross, compiled.first.criss_cross, network.second.norm.criss_cross]
    assert all(gate.attention.gamma.grad != 0 for gate in gates)
    for name, weight in network.named_parameters():
        torch.testing.assert_close(compiled._orig_mod.get_parameter(name).grad, weight.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_compiled_for_real():
    network = two_places()
    torch.testing.assert_close(torch.compile(network, fullgraph=True)(X), network(X), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced_by_jit():
    network = two_places()
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(network, X)(X), network(X))


def test_rewritten_for_inference():
    plain = residual_network().float()
    network = open_gates(insert_attention(plain, ["layer1.0", "layer1.1.bn1", "layer3.1.bn1"]))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        fast = crisscross.optimize(network)
        assert len(inserted_attention(fast)) == 3
        torch.testing.assert_close(fast(x), network(x), rtol=1e-3, atol=1e-3 * network(x).abs().max().item())
        remove_attention(network)
        assert not torch.allclose(fast(x), network(x), rtol=1e-2)


def test_an_optimizer_made_afterwards_opens_the_gate():
    network = insert_attention(small().requires_grad_(False), "first", reduction=2)
    inserted = inserted_attention(network)["first.criss_cross"]
    assert isinstance(inserted, InsertedAttention)
    optimizer = torch.optim.SGD(inserted.parameters(), 0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (network(X) - X[:, :1]).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert inserted.attention.gamma != 0 and losses == sorted(losses, reverse=True)


def test_networks_that_are_wrapped_already(tmp_path):
    with pytest.raises(
        crisscross.CrissCrossError, match=r"wrapped already \(OptimizedModule\); insert into the network"
    ):
        insert_attention(torch.compile(small()), "first")
    with pytest.raises(crisscross.CrissCrossError, match=r"wrapped already \(DataParallel\)"):
        insert_attention(nn.DataParallel(small()), "first")
    with pytest.raises(crisscross.CrissCrossError, match=r"'0' is a torch.jit module"):
        insert_attention(nn.Sequential(torch.jit.trace(small(), X)), "0")


def test_a_segmenter_with_inserted_attention_is_not_saved_as_if_it_had_none(tmp_path):
    words = {"model": {"backbone": "test_resnet", "head": {"channels": 16}}, "data": {"classes": ["a", "b"]}}
    segmenter = crisscross.build(from_dict(Experiment, words))
    insert_attention(segmenter, after="backbone.net.layer2")
    with pytest.raises(CrissCrossError, match=r"layer2\.0\.criss_cross was inserted by crisscross\.surgery"):
        crisscross.save(segmenter, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    crisscross.save(remove_attention(segmenter), tmp_path / "a.safetensors")
    assert crisscross.load(tmp_path / "a.safetensors").classes == ("a", "b")


def with_attention_of_its_own(classes):
    return insert_attention(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, classes, 1)), "0")


def test_attention_that_a_network_from_outside_brings_along_is_saved_with_it(tmp_path):
    words = {"model": {"network": f"{__name__}:with_attention_of_its_own"}, "data": {"classes": ["a", "b"]}}
    segmenter = open_gates(crisscross.build(from_dict(Experiment, words)))
    crisscross.save(segmenter, tmp_path / "a.safetensors")
    loaded = crisscross.load(tmp_path / "a.safetensors", trust=tmp_path)
    assert torch.equal(loaded(X).main, segmenter.eval()(X).main)
    (gate,) = [layer.attention.gamma for layer in inserted_attention(loaded).values()]
    assert gate != 0
    crisscross.save(copy.deepcopy(loaded), tmp_path / "copy.safetensors")
    insert_attention(loaded, after="head.net.1", reduction=1)
    with pytest.raises(CrissCrossError, match=r"head\.net\.1\.criss_cross was inserted"):
        crisscross.save(loaded, tmp_path / "b.safetensors")
    remove_attention(loaded)
    with pytest.raises(CrissCrossError, match=r"attention that the network itself inserts was taken out"):
        crisscross.save(loaded, tmp_path / "b.safetensors")
    insert_attention(loaded, after="head.net.0", recurrence=1)
    with pytest.raises(CrissCrossError, match=r"head\.net\.0\.criss_cross was inserted"):
        crisscross.save(loaded, tmp_path / "b.safetensors")
