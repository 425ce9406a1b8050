"""What a run can choose: averages, groups, norms, recomputing, clipping, skipped fp16 steps, early stopping."""

import json
import math
import os
import signal
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from shapes_data import experiment, write_shapes
from torch import nn

from crisscross import losses
from crisscross.checkpoints import load, native
from crisscross.config import OptimConfig
from crisscross.data import DataSet, open_folder
from crisscross.engine import loop
from crisscross.engine import train as training
from crisscross.engine.average import WeightAverage
from crisscross.engine.norms import settle_norms
from crisscross.engine.optimizer import backbone_stages, create_optimizer, set_rate
from crisscross.engine.run.lock import LOCK, run_lock
from crisscross.engine.run.log import read_log
from crisscross.engine.run.record import git_state
from crisscross.engine.semantic import evaluate as evaluation
from crisscross.engine.semantic.task import SemanticSegmentation
from crisscross.engine.setup import Machine
from crisscross.engine.task import Start
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.layers import AbsoluteBatchNorm2d, ConvNormAct
from crisscross.models import Segmenter
from crisscross.speed.memory import apply_memory, recompute_network
from crisscross.speed.recompute import recompute_backbone, recompute_in_backward

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> DataSet:
    return open_folder(write_shapes(tmp_path_factory.mktemp("data") / "shapes"))


def network(*changes: str) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(experiment("data.classes=[a, b, c]", *changes))


def differing(first, second) -> list[str]:
    ours, theirs = native.read(first)[0], native.read(second)[0]
    assert ours.keys() == theirs.keys()
    return [key for key in ours if not torch.equal(ours[key], theirs[key])]


class Crash(Exception):
    pass


def crash_at(iteration: int):
    def listener(step):
        if step.iteration == iteration:
            raise Crash

    return listener


# --- the average of the weights ---


def test_the_average_follows_its_recurrence():
    layer = nn.BatchNorm1d(1)
    average = WeightAverage(layer, 0.5)
    values, expected = [3.0, -1.0, 4.0], 1.0
    for step, value in enumerate(values, 1):
        with torch.no_grad():
            layer.weight.fill_(value)
            layer.num_batches_tracked.fill_(step)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.tensors["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert average.tensors["num_batches_tracked"].item() == 3
    with average.in_place():
        assert layer.weight.item() == pytest.approx(expected, rel=1e-6)
    assert layer.weight.item() == 4.0 and average.tensors["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_the_average_is_validated_stored_and_resumed_bit_for_bit(dataset, tmp_path, monkeypatch):
    changes = ("train.ema=0.6", "train.validate_every=3", "train.checkpoint_every=2")
    seen = []
    original = evaluation.evaluate

    def record(segmenter, *rest):
        seen.append({key: value.clone() for key, value in segmenter.state_dict().items()})
        return original(segmenter, *rest)

    monkeypatch.setattr(evaluation, "evaluate", record)
    train(experiment(*changes), dataset, tmp_path / "whole")
    stored = native.read(tmp_path / "whole" / "last.safetensors")[0]
    plain = load(tmp_path / "whole" / "last.safetensors").state_dict()
    live = {key.removeprefix("optimizer/live/"): value for key, value in stored.items() if "/live/" in key}
    assert live.keys() == plain.keys()
    # What was validated last is what is stored, and it is not what training goes on from.
    assert all(torch.equal(plain[key], value) for key, value in seen[-1].items())
    assert not torch.equal(plain["head.classify.weight"], live["head.classify.weight"])
    with pytest.raises(Crash):
        train(experiment(*changes), dataset, tmp_path / "cut", listener=crash_at(5))
    train(experiment(*changes), dataset, tmp_path / "cut", resume=True)
    for name in ("last", "best"):
        assert differing(tmp_path / "whole" / f"{name}.safetensors", tmp_path / "cut" / f"{name}.safetensors") == []
    train(experiment(*changes, "train.ema=0"), dataset, tmp_path / "without")
    without = load(tmp_path / "without" / "last.safetensors").state_dict()
    assert all(torch.equal(value, without[key]) for key, value in live.items())


# --- learning rates and weight decay ---


def test_by_default_there_is_one_group_of_everything():
    segmenter = network()
    (group,) = create_optimizer(OptimConfig(), segmenter).param_groups
    assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in segmenter.parameters()]
    assert group["weight_decay"] == 5e-4


def test_rates_fall_with_depth_and_norms_keep_their_weights():
    segmenter = network()
    optimizer = create_optimizer(
        OptimConfig(backbone_factor=0.5, layer_decay=0.8, decay_norms=False),
        segmenter,
        backbone_stages(segmenter.backbone.net),
    )
    set_rate(optimizer, 2.0)
    names = {parameter: name for name, parameter in segmenter.named_parameters()}
    found = {
        names[p]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    assert found.keys() == set(names.values())
    # The stem and its norm, four stages, the heads.
    expected = {"conv1": 5, "bn1": 5, "layer1": 4, "layer2": 3, "layer3": 2, "layer4": 1}
    for name, (rate, decay) in found.items():
        part = name.split(".")[2] if name.startswith("backbone") else None
        assert rate == pytest.approx(2.0 * (0.5 * 0.8 ** expected[part] if part else 1.0)), name
        assert (decay == 0) == (segmenter.get_parameter(name).dim() < 2), name
    assert found["backbone.net.layer4.0.conv1.weight"][1] == 5e-4 and found["backbone.net.bn1.weight"][1] == 0


class Tied(nn.Module):
    """A backbone that holds parameters of its own, and one module under two names."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 8, 1, 1))
        self.stem = nn.Conv2d(3, 8, 3, 4, 1)
        self.norm = nn.BatchNorm2d(8)
        self.once = nn.Conv2d(8, 8, 3, 1, 1)
        self.again = self.once
        self.down = nn.Conv2d(8, 8, 3, output_stride // 4, 1)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        x = self.again(self.once(self.norm(self.stem(x)) + self.token))
        return [x, self.down(x) * self.scale]


@pytest.mark.parametrize(("factor", "decay"), [(0.5, 0.8), (0.1, 1.0), (1.0, 0.5)])
def test_what_a_backbone_holds_itself_learns_as_its_stem_does(factor, decay):
    segmenter = network(f"model.backbone={__name__}:Tied")
    optimizer = create_optimizer(
        OptimConfig(backbone_factor=factor, layer_decay=decay), segmenter, backbone_stages(segmenter.backbone.net)
    )
    set_rate(optimizer, 2.0)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    # Stem, the shared stage, the last stage.
    depth = {"token": 3, "scale": 3, "stem": 3, "norm": 3, "once": 2, "down": 1}
    for name, parameter in segmenter.named_parameters():
        place = depth[name.split(".")[2]] if name.startswith("backbone") else None
        assert rates[parameter] == pytest.approx(2.0 * factor * decay**place if place else 2.0), name


def test_the_average_gives_weights_with_two_names_back():
    segmenter = network(f"model.backbone={__name__}:Tied")
    start = segmenter.backbone.net.once.weight.detach().clone()
    average = WeightAverage(segmenter, 0.9)
    with torch.no_grad():
        for parameter in segmenter.parameters():
            parameter.add_(1)
    average.update(1)
    own = {key: value.clone() for key, value in segmenter.state_dict().items()}
    for _ in range(2):
        with average.in_place():
            # d is min(0.9, 2 / 11): the weights moved by 1 - d of their step of 1.
            for name in ("once", "again"):
                moved = segmenter.backbone.net.get_submodule(name).weight
                torch.testing.assert_close(moved, start + 9 / 11)
        assert [key for key, value in segmenter.state_dict().items() if not torch.equal(value, own[key])] == []


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_resuming_keeps_the_memory_format_of_the_optimizers_state(dataset, tmp_path, monkeypatch, name):
    words = (f"optim.name={name}", "optim.lr=1e-3", "train.iterations=2", "train.checkpoint_every=1")
    with pytest.raises(Crash):
        train(experiment(*words), dataset, tmp_path / "run", listener=crash_at(2))
    found = {}

    def look(self, *_):
        for key, parameter in self.network.named_parameters():
            found.update({(key, k): v.stride() for k, v in self.optimizer.state[parameter].items() if k != "step"})

    monkeypatch.setattr(training._Run, "_train", look)
    train(experiment(*words), dataset, tmp_path / "run", resume=True)
    fresh = network().to(memory_format=torch.channels_last)
    expected = {key: value.stride() for key, value in fresh.named_parameters()}
    assert len(found) == len(expected) * (1 if name == "sgd" else 2)
    assert {key: stride for key, stride in found.items() if stride != expected[key[0]]} == {}


def test_clipping_bounds_the_gradients(dataset, tmp_path):
    norms = []
    machine = Machine(device="cpu")
    changes = ("train.iterations=2", "optim.momentum=0", "optim.weight_decay=0", "optim.lr=1", "optim.eta_min=1")
    weights = []
    for iterations in (1, 2):
        out = tmp_path / str(iterations)
        words = (*changes, "optim.clip=0.01", f"train.iterations={iterations}")
        train(experiment(*words), dataset, out, machine, listener=lambda step: norms.append(step.grad_norm))
        weights.append(dict(load(out / "last.safetensors").named_parameters()))
    # With lr 1 and nothing else, the second step is as long as its clipped gradient.
    moved = math.sqrt(sum(float((weights[0][key] - weights[1][key]).detach().square().sum()) for key in weights[0]))
    assert moved == pytest.approx(0.01, rel=1e-3)
    assert min(norms) > 0.1
    assert [entry["grad_norm"] for entry in read_log(tmp_path / "2") if "loss" in entry] == pytest.approx(
        norms[1:], abs=1e-5
    )


# --- batch norm ---


def test_frozen_norms_keep_their_statistics_through_validation(dataset, tmp_path):
    words = ("train.batch_norm=frozen", "train.validate_every=2", "train.iterations=4")
    train(experiment(*words), dataset, tmp_path / "run")
    state = load(tmp_path / "run" / "last.safetensors").state_dict()
    torch.manual_seed(0)
    fresh = Segmenter(load(tmp_path / "run").experiment).state_dict()
    statistics = [key for key in state if "running_" in key or "tracked" in key]
    assert statistics and all(torch.equal(state[key], fresh[key]) for key in statistics)
    # Scales and biases learn all the same.
    assert not torch.equal(state["head.reduce.norm.weight"], fresh["head.reduce.norm.weight"])


def test_a_single_image_trains_with_frozen_norms(dataset, tmp_path):
    one = ("augment.crop=[8, 8]", "train.batch=1", "train.iterations=1")
    with pytest.raises(CrissCrossError, match=r"batch of 1 x 3 x 8 x 8: .*or set train\.batch_norm=frozen"):
        train(experiment(*one), dataset, tmp_path / "a")
    assert train(experiment(*one, "train.batch_norm=frozen"), dataset, tmp_path / "b").finished


@pytest.mark.parametrize(
    ("wanted", "processes", "gpu", "line"),
    [
        ("auto", 1, True, ""),
        ("train", 2, True, "each process uses the statistics of its own images"),
        ("auto", 2, False, "each process uses the statistics of its own images"),
        ("auto", 2, True, "2 norms (AbsoluteBatchNorm2d) cannot be synchronized"),
    ],
)
def test_norms_say_what_they_cannot_do(wanted, processes, gpu, line):
    net = nn.Sequential(ConvNormAct(3, 4), ConvNormAct(4, 4, norm="absolute"), AbsoluteBatchNorm2d(4))
    said = settle_norms(net, wanted, processes, gpu)
    assert (line in said) if line else said == ""
    synced = sum(isinstance(module, nn.SyncBatchNorm) for module in net.modules())
    assert synced == (wanted == "auto" and processes > 1 and gpu)


def test_synchronized_norms_are_the_same_function_with_the_same_names():
    # timm's EfficientNets hold their activations in their norms.
    plain = network("model.backbone=test_efficientnet", "model.output_stride=32").eval()
    settled = deepcopy(plain)
    line = settle_norms(settled, "auto", 2, True)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for mode in (False, True):
        plain.backbone.train(mode), settled.backbone.train(mode)
        with torch.no_grad():
            assert all(torch.equal(a, b) for a, b in zip(plain.backbone(x), settled.backbone(x), strict=True))
    assert line == "" and settled.state_dict().keys() == plain.state_dict().keys()
    norms = [module for module in settled.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 16 and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


def test_synchronizing_leaves_frozen_norms_shared_modules_and_hooks_alone():
    frozen = "model.frozen=[bn1, layer1.0.bn2, layer2]"
    segmenter, called = network("model.output_stride=32", frozen), []
    net = segmenter.backbone.net
    net.layer3[0].bn1.register_forward_hook(lambda *_: called.append("hook"))
    net.layer4[0].bn2 = net.layer4[0].bn1
    settle_norms(segmenter, "auto", 2, True)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    segmenter.train()
    segmenter.backbone(torch.randn(4, 3, 64, 64))
    assert segmenter.backbone.net is net and called == ["hook"] and net.layer4[0].bn2 is net.layer4[0].bn1
    changed = {key.rpartition(".")[0] for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    stays = [name for name in changed if name in ("bn1", "layer1.0.bn2") or name.startswith("layer2.")]
    assert stays == [] and {"layer1.0.bn1", "layer3.0.bn1", "layer4.0.bn1"} <= changed


class LouderNorm(nn.BatchNorm2d):
    """A norm of somebody's own, which no other class can stand in for."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_norms_of_ones_own_are_not_replaced_by_others():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), LouderNorm(4), nn.BatchNorm2d(4)).eval()
    x = torch.ones(1, 3, 2, 2)
    expected = net(x)
    line = settle_norms(net, "auto", 2, True)
    assert torch.equal(net(x), expected)
    assert "1 norms (LouderNorm) cannot be synchronized" in line and type(net[2]) is nn.SyncBatchNorm


# --- computing activations a second time ---


def test_recomputing_changes_no_bit(dataset, tmp_path):
    words = ("train.iterations=3", "model.head.dropout=0.3", "model.aux_head.dropout=0.3", "model.variant=authors")
    train(experiment(*words), dataset, tmp_path / "kept")
    train(experiment(*words, "train.memory=recompute"), dataset, tmp_path / "recomputed")
    assert differing(tmp_path / "kept" / "last.safetensors", tmp_path / "recomputed" / "last.safetensors") == []


def test_a_run_goes_on_with_another_memory(dataset, tmp_path):
    words = ("train.iterations=4", "train.checkpoint_every=2", "train.validate_every=0")
    train(experiment(*words), dataset, tmp_path / "whole")
    with pytest.raises(Crash):
        train(experiment(*words), dataset, tmp_path / "cut", listener=crash_at(3))
    with pytest.raises(CrissCrossError, match=r"differs in train\.seed;"):
        train(experiment(*words, "train.seed=5", "train.memory=recompute"), dataset, tmp_path / "cut", resume=True)
    assert train(experiment(*words, "train.memory=recompute"), dataset, tmp_path / "cut", resume=True).finished
    assert differing(tmp_path / "whole" / "last.safetensors", tmp_path / "cut" / "last.safetensors") == []


def kept_bytes(segmenter: Segmenter, parts: list[nn.Module]) -> int:
    """Bytes that wait for the backward pass, each storage once, weights left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in segmenter.state_dict().values()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def keep_inputs(module, inputs):
        for tensor in inputs[0] if isinstance(inputs[0], tuple) else inputs:
            pack(tensor)

    # What a recomputed part keeps passes no hook: its input, of a head all feature maps.
    for part in parts:
        part.register_forward_pre_hook(keep_inputs)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = segmenter.train()(torch.randn(2, 3, 64, 64))
    # Alive until here: freed storages would be counted under one address.
    assert logits.main.requires_grad
    return sum(kept.values())


def test_recomputing_keeps_less_than_half():
    changes = ("model.backbone=resnet50c", "model.head.channels=64")
    segmenter = network(*changes)
    before = kept_bytes(segmenter, [])
    parts = recompute_network(segmenter)
    # Of a ResNet-50's 3, 4, 6 and 3 blocks those of the middle stages two by two; and two heads.
    assert len(parts) == 3 + 2 + 3 + 3 + 2
    assert kept_bytes(segmenter, parts) < 0.5 * before


def test_a_long_stage_is_computed_again_in_segments_bit_for_bit():
    torch.manual_seed(0)
    # The first child, a stem, is never computed again.
    net = nn.Sequential(ConvNormAct(3, 8), nn.Sequential(*(ConvNormAct(8, 8) for _ in range(5))))
    calls = []
    for block in net[1]:
        block.register_forward_pre_hook(lambda module, inputs: calls.append(module))
    x, found = torch.randn(2, 3, 9, 7), []
    start = {key: value.clone() for key, value in net.state_dict().items()}
    for again in (False, True):
        net.load_state_dict(start)
        if again:
            assert [len(list(part)) for part in recompute_backbone(net)] == [2, 2, 1]
        net.train().zero_grad()
        calls.clear()
        net(x).square().sum().backward()
        # Each block runs twice, and its running statistics move once.
        assert len(calls) == 5 * (1 + again)
        found.append([*(p.grad.clone() for p in net.parameters()), *(b.clone() for b in net.buffers())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    calls.clear()
    net.eval()(x)
    assert len(calls) == 5 and list(net.state_dict()) == list(start)


def test_a_module_that_changes_its_input_is_refused():
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1))
    recompute_in_backward(module)
    with pytest.raises(ValueError, match="changes its input in place"):
        module(torch.randn(1, 3, 4, 4, requires_grad=True) * 1)


# --- fp16: what overflows is left out ---


def scaled(monkeypatch, growth=2000):
    """A loss scaler on the CPU, driven through accelerate as on a GPU."""
    create = training.create_accelerator

    def with_scaler(*given):
        accelerator = create(*given)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=growth)
        accelerator.native_amp = True
        return accelerator

    monkeypatch.setattr(training, "create_accelerator", with_scaler)


def poisoned(monkeypatch, bad: set[int]):
    """The loss is infinite at these iterations."""
    create, calls = losses.create_loss, iter(range(1, 10**6))

    def made(*given):
        loss = create(*given)

        def poisoned_loss(*values):
            found = loss(*values)
            return found._replace(total=found.total * (math.inf if next(calls) in bad else 1.0))

        return poisoned_loss

    monkeypatch.setattr(losses, "create_loss", made)


def test_overflowing_steps_are_left_out_counted_and_shown(dataset, tmp_path, monkeypatch, capsys):
    scaled(monkeypatch)
    poisoned(monkeypatch, {2, 4})
    states = []

    def keep(step):
        states.append((step.skipped, {k: v.clone() for k, v in run.network.state_dict().items()}))

    run = training._Run(SemanticSegmentation(), experiment(), dataset, tmp_path / "run", Machine(), Start())
    run.go(keep)
    assert [skipped for skipped, _ in states] == [False, True, False, True, False, False]
    kept = [
        all(torch.equal(states[i][1][k], v) for k, v in states[i - 1][1].items() if "tracked" not in k)
        for i in range(1, 6)
    ]
    # Weights and running statistics stand still where a step was left out, and only there.
    assert kept == [True, False, True, False, False]
    log = read_log(tmp_path / "run")
    assert [entry["iteration"] for entry in log if entry.get("skipped")] == [2, 4]
    assert [entry["loss"] is None for entry in log if "loss" in entry] == [False, True, False, True, False, False]
    assert native.read(tmp_path / "run" / "last.safetensors")[2]["position"]["skipped"] == 2
    assert "skipped 2" in capsys.readouterr().err


def test_too_many_skipped_steps_in_a_row_end_the_run(dataset, tmp_path, monkeypatch):
    scaled(monkeypatch)
    poisoned(monkeypatch, {1, 3, 4, 5})
    monkeypatch.setattr(loop, "MOST_SKIPPED", 3)
    with pytest.raises(CrissCrossError, match=r"3 steps in a row were skipped up to iteration 5, .*precision=bf16"):
        train(experiment("train.checkpoint_every=1"), dataset, tmp_path / "run")
    assert native.read(tmp_path / "run" / "last.safetensors")[2]["position"]["iteration"] == 4


def test_a_batch_without_a_single_label_trains_on(dataset, tmp_path, monkeypatch):
    from crisscross.data.samples.loader import TrainingSamples

    original = TrainingSamples.__getitem__

    def unlabeled(self, n):
        image, mask, name = original(self, n)
        return image, torch.full_like(mask, 255), name

    monkeypatch.setattr(TrainingSamples, "__getitem__", unlabeled)
    for normalizer in ("all", "valid"):
        out = tmp_path / normalizer
        train(experiment("train.iterations=2", f"loss.normalizer={normalizer}"), dataset, out)
        assert [entry["loss"] for entry in read_log(out) if "loss" in entry] == [0.0, 0.0]
        native.check_finite(native.read(out / "last.safetensors")[0], "last")


# --- early stopping, repeating, trackers, compiling ---


def test_early_stopping_waits_for_so_many_validations(dataset, tmp_path, monkeypatch, capsys):
    scores = iter([0.5, 0.4, 0.6, 0.6, 0.1, 0.9])
    original = evaluation.evaluate

    def scored(*given):
        result = original(*given)
        return replace(result, scores=replace(result.scores, miou=next(scores)))

    monkeypatch.setattr(evaluation, "evaluate", scored)
    words = ("train.early_stop=2", "train.validate_every=1", "train.iterations=9")
    outcome = train(experiment(*words), dataset, tmp_path / "run")
    assert outcome.finished and outcome.position.iteration == 5 and outcome.position.best_iteration == 3
    assert "stopped early: 2 validations in a row" in capsys.readouterr().err
    again = train(experiment(*words), dataset, tmp_path / "run", resume=True)
    assert again.finished and again.position.iteration == 5


def test_early_stopping_without_validations_is_refused_and_scores_of_training_images_are_said(dataset, tmp_path):
    alone = replace(dataset, splits={"train": dataset.splits["train"]})
    line = r"^train\.early_stop=2 counts validations, and the data has no split 'val': set train\.early_stop=0, or data"
    with pytest.raises(CrissCrossError, match=line):
        train(experiment("train.early_stop=2", "train.validate_every=1"), alone, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    words = ("data.val_split=train", "train.iterations=1", "train.validate_every=0", "train.checkpoint_every=0")
    with pytest.warns(
        CrissCrossWarning, match=r"^data\.val_split is data\.train_split \('train'\): scores are those of"
    ):
        assert train(experiment(*words), dataset, tmp_path / "run").finished


def test_deterministic_runs_repeat_every_bit(dataset, tmp_path):
    inside = []

    def look(step):
        inside.append(torch.are_deterministic_algorithms_enabled())

    for name in ("one", "two"):
        train(experiment("train.deterministic=true", "train.iterations=3"), dataset, tmp_path / name, listener=look)
    assert differing(tmp_path / "one" / "last.safetensors", tmp_path / "two" / "last.safetensors") == []
    assert all(inside) and not torch.are_deterministic_algorithms_enabled()
    train(experiment("train.seed=1", "train.iterations=3"), dataset, tmp_path / "other")
    assert len(differing(tmp_path / "one" / "last.safetensors", tmp_path / "other" / "last.safetensors")) > 50


def test_trackers_are_checked_before_anything_is_written(dataset, tmp_path, monkeypatch):
    with pytest.raises(CrissCrossError, match="--track wanb: no such tracker; did you mean wandb"):
        train(experiment(), dataset, tmp_path / "run", Machine(track=("wanb",)))
    monkeypatch.setattr("crisscross.engine.run.trackers.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(CrissCrossError, match="--track wandb needs its package: run `pip install wandb`"):
        train(experiment(), dataset, tmp_path / "run", Machine(track=("wandb",)))
    assert not (tmp_path / "run").exists()


def test_every_number_reaches_a_tracker(dataset, tmp_path, monkeypatch):
    from accelerate.tracking import GeneralTracker, on_main_process
    from accelerate.utils import LoggerType

    told = []

    class Tracker(GeneralTracker):
        name, requires_logging_directory, tracker = "aim", False, None

        @on_main_process
        def __init__(self, run_name, **kwargs):
            super().__init__()

        @on_main_process
        def store_init_configuration(self, values):
            told.append(values)

        @on_main_process
        def log(self, values, step=None, **kwargs):
            told.append((step, sorted(values)))

    # In the place of a known one: accelerate 1.10 takes no other names.
    for module in ("crisscross.engine.run.trackers", "accelerate.tracking", "accelerate.accelerator"):
        monkeypatch.setattr(f"{module}.LOGGER_TYPE_TO_CLASS", {"aim": Tracker})
    for module in ("crisscross.engine.run.trackers", "accelerate.tracking"):
        monkeypatch.setattr(f"{module}.get_available_trackers", lambda: [LoggerType.AIM])
    train(experiment("train.iterations=2"), dataset, tmp_path / "run", Machine(track=("aim",)))
    assert told[0]["optim.lr"] == 0.05 and told[0]["augment.crop"] == "[48, 48]"
    step = ["gate", "loss", "loss_aux", "loss_cross_entropy", "lr"]
    assert told[1:] == [(1, step), (2, step), (2, ["val_miou"])]


@pytest.mark.slow
def test_a_compiled_network_trains_the_same_curve(dataset, tmp_path):
    losses = []
    for name, machine in (("plain", Machine()), ("compiled", Machine(compile=True))):
        train(
            experiment("train.iterations=3", "model.head.dropout=0", "model.aux_head.dropout=0"),
            dataset,
            tmp_path / name,
            machine,
        )
        losses.append([entry["loss"] for entry in read_log(tmp_path / name) if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# --- the run folder ---


def test_the_record_tells_how_to_repeat_the_run(dataset, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Crash):
        train(experiment("train.checkpoint_every=1", "train.seed=5"), dataset, run, listener=crash_at(3))
    train(experiment("train.checkpoint_every=1", "train.seed=5"), dataset, run, resume=True)
    record = json.loads((run / "run.json").read_text())
    assert [start["iteration"] for start in record["starts"]] == [0, 2]
    start = record["starts"][0]
    assert start["seed"] == 5 and start["versions"]["torch"] == torch.__version__.split("+")[0]
    assert record["experiment"]["data"]["classes"] == ["ground", "disc", "square"]
    assert record["data"]["images"] == {"train": 9, "val": 3}
    assert start["hardware"]["processes"] == 1 and start["hardware"]["device"] == "cpu"


def test_the_state_of_a_git_repository_is_told(tmp_path):
    def git(*words):
        identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    assert git_state(tmp_path) is None
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "one")
    state = git_state(tmp_path)
    assert state is not None and len(state["commit"]) == 40 and not state["changed"]
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == {"commit": state["commit"], "changed": True}


def test_two_runs_in_one_folder_are_refused(dataset, tmp_path):
    code = (
        "import sys; from pathlib import Path; from crisscross.engine.run.lock import run_lock\n"
        "with run_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    run = tmp_path / "run"
    command = [sys.executable, "-c", code, str(run)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(CrissCrossError, match="another training runs in this folder"):
        train(experiment("train.iterations=1"), dataset, run)
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    # A killed process holds nothing.
    assert train(experiment("train.iterations=1"), dataset, run).finished
    assert not (run / LOCK).exists()
    with run_lock(tmp_path / "other"):
        pass
    assert not (tmp_path / "other").exists()


def test_splitting_the_weights_is_refused(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(CrissCrossError, match=r"accelerate is set up for FSDP, which splits .* add --shard"):
        train(experiment(), dataset, tmp_path / "run")


def test_lean_steps_say_what_synchronized_norms_keep():
    one = network()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in one.modules())
    config = experiment("train.memory=lean").train
    assert apply_memory(one, config) == ""
    both = nn.SyncBatchNorm.convert_sync_batchnorm(network())
    assert apply_memory(both, config) == (
        f"train.memory=lean has no effect on {norms} synchronized batch norms; set train.batch_norm=train to save "
        "their memory, too"
    )
    assert apply_memory(both, experiment().train) == ""


class Deep(nn.Module):
    """A backbone with weights of five dimensions: the channels of a map are the depth of a volume."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 5, 8, 2, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        self.volume = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.BatchNorm3d(2), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(128, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(inplace=True))

    def forward(self, x):
        stem = self.stem(x)
        return [stem, self.body(self.volume(stem[:, None]).flatten(1, 2))]


@pytest.mark.parametrize("change", ["train.memory=lean", "train.winograd=true"])
def test_weights_of_five_dimensions_train(dataset, tmp_path, change):
    words = [f"model.backbone={__name__}:Deep", "train.iterations=2", "train.validate_every=2"]
    for folder, more in (("plain", []), ("other", [change])):
        train(experiment(*words, *more), dataset, tmp_path / folder, Machine(device="cpu"))
    plain, other = (native.read(tmp_path / folder / "last.safetensors")[0] for folder in ("plain", "other"))
    assert plain["backbone.net.volume.0.weight"].shape == (2, 1, 3, 3, 3)
    for name, tensor in plain.items():
        # The lean attention and Winograd's products round differently.
        torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-4, msg=name)
    load(tmp_path / "other", trust=tmp_path).predict(torch.zeros(64, 48, 3, dtype=torch.uint8).numpy())


# --- what nobody would notice ---


def test_classes_that_never_occur_are_said(dataset, tmp_path, capsys):
    from dataclasses import replace

    classes = (*dataset.classes, "ghost")
    palette = tuple((9 * k, 0, 0) for k in range(len(classes)))
    haunted = replace(dataset, classes=classes, palette=palette, allow_empty=True)
    train(experiment("train.iterations=3"), haunted, tmp_path / "a")
    assert "never seen in 3 batches, so not learned: ghost" in capsys.readouterr().err
    train(experiment("train.iterations=3"), dataset, tmp_path / "b")
    assert "never seen" not in capsys.readouterr().err


def test_what_went_wrong_is_said_and_not_that_the_table_cannot_be_written(dataset, tmp_path, monkeypatch):
    def full(self):
        raise CrissCrossError("log.csv: cannot be written")

    def broken(step):
        raise CrissCrossError("the first error")

    monkeypatch.setattr("crisscross.engine.run.log.RunLog.write_csv", full)
    with pytest.raises(CrissCrossError, match="the first error"):
        train(experiment("train.iterations=3"), dataset, tmp_path / "a", listener=broken)
    with pytest.raises(CrissCrossError, match="cannot be written"):
        train(experiment("train.iterations=1"), dataset, tmp_path / "b")
