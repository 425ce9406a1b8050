"""Folding, `crisscross.optimize` and its measurement: the copy against float64 runs of the network it came from."""

import copy
import sys

import numpy as np
import pytest
import timm
import torch
from networks import narrow
from torch import nn

import crisscross
from benchmarks.__main__ import main as run_benchmark
from benchmarks.compare.model import measure_convolutions, measure_model
from crisscross import CrissCrossError
from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.models import Segmenter
from crisscross.speed.rewrite import fold_batch_norms, optimize
from crisscross.speed.winograd_layers import WinogradConv2d


def relative(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


def trained(network, seed=0):
    """The network in evaluation mode, with statistics, scales, biases and gates as training leaves them: not 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith("running_var") or (name.endswith("weight") and tensor.dim() == 1):
            nn.init.uniform_(tensor, 0.5, 1.5, generator)
        elif name.endswith(("running_mean", "bias")):
            nn.init.uniform_(tensor, -0.3, 0.3, generator)
        elif name.endswith("gamma"):
            nn.init.constant_(tensor, 0.7)
    return network.eval()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# --- folding ---


class Branching(nn.Module):
    """Pairs that may be folded and pairs that may not."""

    def __init__(self) -> None:
        super().__init__()
        self.sure, self.sure_norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.read_twice, self.twice_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.run_twice, self.run_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.shared, self.first_norm, self.second_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.twin, self.twin_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.other_twin = nn.Conv2d(4, 4, 1)
        self.other_twin.weight = self.twin.weight
        self.heard, self.heard_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.looked_at, self.looked_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.forgetful, self.no_statistics = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        x = self.sure_norm(self.sure(x))
        raw = self.read_twice(x)
        x = self.twice_norm(raw) + raw
        x = self.run_norm(self.run_twice(self.run_norm(self.run_twice(x))))
        x = self.first_norm(self.shared(x)) + self.second_norm(self.shared(x))
        x = self.twin_norm(self.twin(x)) + self.other_twin(x)
        x = self.heard_norm(self.heard(x))
        x = self.looked_norm(self.looked_at(x)) * self.looked_at.weight.sum()
        return self.no_statistics(self.forgetful(x))


def test_only_certain_pairs_are_folded():
    network = trained(Branching())
    network.heard.register_forward_hook(lambda module, inputs, output: None)
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 1
    assert not isinstance(folded.sure_norm, nn.BatchNorm2d)
    x = torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        assert relative(folded(x), network.double()(x.double())) < 1e-5


class Untraceable(nn.Module):
    """Its own forward depends on values, but its parts can be traced, and so can what holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.part(x)
        raw = self.conv(x)
        return self.norm(raw) if x.sum() > 0 else raw


def test_parts_of_what_cannot_be_traced():
    network = trained(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), Untraceable()))
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 2
    assert isinstance(folded[2].norm, nn.BatchNorm2d)
    x = torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        assert relative(folded(x), network.double()(x.double())) < 1e-5


class Reaching(nn.Module):
    """Calls a part whole, and reaches into it as well."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.other = Untraceable()

    def forward(self, x):
        return self.other(self.part(x) + self.part[0](x))


def test_the_wider_view_decides():
    network = trained(Reaching())
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 1
    assert isinstance(folded.part[1], nn.BatchNorm2d)
    x = torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        assert relative(folded(x), network.double()(x.double())) < 1e-5


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_folding_is_the_formula(affine, bias):
    pair = trained(nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), nn.BatchNorm2d(4, eps=0.1, affine=affine)))
    folded = copy.deepcopy(pair)
    assert fold_batch_norms(folded) == 1
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert relative(folded(x), pair.double()(x.double())) < 1e-6


def test_training_statistics_are_not_folded():
    pair = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert fold_batch_norms(pair) == 0


@pytest.mark.parametrize(
    "name", ["test_resnet", "resnet18", "test_efficientnet", "tf_efficientnet_lite0", "densenet121", "repvgg_a0"]
)
def test_timm_networks_say_the_same(name):
    network = trained(timm.create_model(name, features_only=True))
    fast = optimize(network)
    x = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        truth = copy.deepcopy(network).double()(x.double())
        for found, expected in zip(fast(x), truth, strict=True):
            assert relative(found, expected) < 1e-5
    norms = [sum(isinstance(module, nn.BatchNorm2d) for module in n.modules()) for n in (network, fast)]
    assert norms[1] < norms[0]


# --- a whole CCNet ---


@pytest.fixture(scope="module")
def segmenter():
    """A small CCNet whose head is wide enough for the fast way; its gate is open."""
    torch.manual_seed(0)
    model = ModelConfig("test_resnet", **narrow(128, 8), output_stride=8)
    classes = DataConfig(classes=("a", "b", "c", "d"))
    return trained(Segmenter(Experiment(model=model, data=classes)))


@pytest.mark.parametrize("size", [(192, 256), (203, 317)])
def test_a_whole_network_has_the_same_results(segmenter, fast_calls, size):
    fast = crisscross.optimize(segmenter)
    assert isinstance(fast, Segmenter)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = fast(x).main
        truth = copy.deepcopy(segmenter).double()(x.double()).main
    assert fast_calls
    assert (found - truth).abs().max() < 1e-3 * truth.std()
    first, second = truth.topk(2, dim=1).values.unbind(1)
    assert torch.equal(found.argmax(1)[first - second > 1e-3], truth.argmax(1)[first - second > 1e-3])
    # Different weights would not pass.
    assert truth.argmax(1).unique().numel() > 1


def test_the_given_network_stays_as_it_is(segmenter):
    network = copy.deepcopy(segmenter).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modules = [type(module) for module in network.modules()]
    fast = optimize(network)
    assert network.training and not fast.training
    assert [type(module) for module in network.modules()] == modules
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    shared = {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in fast.parameters()}
    assert not shared


def test_optimizing_twice_changes_nothing(segmenter):
    once = optimize(segmenter)
    twice = optimize(once)
    assert [type(module) for module in twice.modules()] == [type(module) for module in once.modules()]
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(twice(x).main, once(x).main)


class Volume(nn.Module):
    """Weights of four axes beside some of five."""

    def __init__(self, output_stride=8) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.depth = nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0))
        self.last = nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, x):
        fine = self.depth(self.norm(self.first(x))[:, None])[:, 0]
        return fine, self.last(fine)


def test_weights_of_five_axes_beside_those_of_four():
    network = trained(Volume())
    fast = optimize(network)
    assert not isinstance(fast.norm, nn.BatchNorm2d)
    assert fast.first.weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.randn(1, 3, 18, 25)
    with torch.no_grad():
        for found, expected in zip(fast(x), network(x), strict=True):
            assert relative(found, expected) < 1e-5


def test_a_network_with_weights_of_five_axes_is_scored_and_predicts(monkeypatch):
    """The commands lay every network out channels-last."""
    monkeypatch.setitem(sys.modules, "volume_net", sys.modules[__name__])
    model = ModelConfig(backbone="volume_net:Volume", output_stride=8, **narrow(16, 0))
    made = Segmenter(Experiment(model=model, data=DataConfig(classes=("a", "b")))).eval()
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = made.predict(image, probabilities=True).probabilities
    found = made.to(torch.float32, memory_format=torch.channels_last).predict(image, probabilities=True).probabilities
    assert np.abs(found - expected).max() < 1e-5
    assert made.backbone.net.first.weight.is_contiguous(memory_format=torch.channels_last)
    assert np.abs(optimize(made).predict(image, probabilities=True).probabilities - expected).max() < 1e-4


def test_without_winograd(segmenter):
    fast = optimize(segmenter, winograd=False)
    assert not any(isinstance(module, WinogradConv2d) for module in fast.modules())
    assert fast.head.reduce.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_copy_predicts(segmenter):
    image = torch.randint(0, 256, (150, 170, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    labels = [network.predict(image.numpy()).labels for network in (segmenter, crisscross.optimize(segmenter))]
    assert (labels[0] == labels[1]).mean() > 0.999


# --- measuring ---


def test_rows_of_a_measurement(segmenter):
    torch.set_num_threads(2)
    rows = measure_model(segmenter, 96, 128, rounds=2, threads=1)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert [row.variant for row in rows] == ["plain", "folded, channels-last", "and Winograd"]
    assert rows[0].error == 0 and rows[0].same_labels == 1
    for row in rows:
        assert row.seconds > 0
        assert row.error < 1e-3 and row.same_labels > 0.999
        # At least the image's 64 channels at stride 4.
        assert row.peak_bytes > 4 * 64 * 24 * 32
    assert rows[2].weight_bytes > rows[1].weight_bytes


def test_rows_of_convolutions(segmenter):
    rows = {row.name: row for row in measure_convolutions(segmenter, 96, 128, rounds=2)}
    reduce = rows["head.reduce.conv"]
    assert (reduce.kernel, reduce.out_channels, reduce.output) == ((3, 3), 128, (12, 16))
    assert all(seconds > 0 for seconds in reduce.seconds.values())
    assert not any(name.startswith("aux_head") for name in rows)


def test_the_command_prints_what_was_measured(capsys):
    assert run_benchmark(["model", "demo", "--size", "64x96", "--rounds", "1", "--convolutions"]) == 0
    out = capsys.readouterr().out
    for words in (
        "plain",
        "folded, channels-last",
        "and Winograd",
        "same labels",
        "head.reduce.conv",
        "all convolutions",
    ):
        assert words in out
    assert run_benchmark(["model", "demo", "--size", "64"]) == 2
    assert "--size: '64' is not a size" in capsys.readouterr().err


def test_an_optimized_network_is_not_saved(segmenter, tmp_path):
    with pytest.raises(CrissCrossError, match=r"x\.safetensors: a network made by crisscross.optimize"):
        crisscross.save(crisscross.optimize(segmenter), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
    crisscross.save(segmenter, tmp_path / "x.safetensors")
