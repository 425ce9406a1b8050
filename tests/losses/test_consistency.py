"""The category-consistent loss beside its literal definition, alone and shared among processes."""

import itertools
import math
import os
import socket
import subprocess
import sys

import pytest
import torch
from paths import SOURCE
from waiting import HANGS

from crisscross.config import ConsistencyConfig, Experiment, LossConfig, from_dict, override
from crisscross.errors import CrissCrossError
from crisscross.losses import category_consistency, create_loss
from crisscross.models import Segmenter

CONFIG = ConsistencyConfig()
CLASSES, IGNORE = 5, 255


def literally(embedding, labels, config=CONFIG):
    """The three parts as the paper writes them: loops over classes, pairs and positions."""
    points: dict[int, list[torch.Tensor]] = {}
    for b, y, x in itertools.product(*map(range, labels.shape)):
        if labels[b, y, x] != IGNORE:
            points.setdefault(int(labels[b, y, x]), []).append(embedding[b, :, y, x])
    means = {c: sum(values) / len(values) for c, values in points.items()}
    zero = embedding.sum() * 0
    variance = distance = regularization = zero
    for c, values in points.items():
        inner = zero
        for value in values:
            d = (value - means[c]).square().sum().sqrt()
            if d > config.delta_d:
                inner = inner + d - config.delta_d + (config.delta_d - config.delta_v) ** 2
            elif d > config.delta_v:
                inner = inner + (d - config.delta_v) ** 2
        variance = variance + inner / len(values) / len(points)
        regularization = regularization + means[c].square().sum().sqrt() / len(points)
    for a, b in itertools.permutations(points, 2):
        d = (means[a] - means[b]).square().sum().sqrt()
        if d <= 2 * config.delta_d:
            distance = distance + (2 * config.delta_d - d) ** 2 / (len(points) * (len(points) - 1))
    return variance, distance, regularization


def drawn(seed=0, size=(2, 3, 4, 5), scale=0.8):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(size, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(0, CLASSES - 1, (size[0], *size[2:]), generator=generator)
    labels[0, 0, :2] = IGNORE
    labels[-1, -1, -1] = CLASSES - 1  # a class of one position
    return embedding.requires_grad_(), labels


def found(embedding, labels, config=CONFIG):
    return category_consistency(embedding, labels, CLASSES, IGNORE, config)


@pytest.mark.parametrize("scale", [0.1, 0.8, 3.0])
@pytest.mark.parametrize("config", [CONFIG, ConsistencyConfig(delta_v=0.2, delta_d=0.9)], ids=["paper", "other"])
def test_values_and_gradients_are_those_of_the_definition(scale, config):
    embedding, labels = drawn(scale=scale)
    for ours, wanted in zip(found(embedding, labels, config), literally(embedding, labels, config), strict=True):
        assert ours.item() == pytest.approx(wanted.item(), rel=1e-12, abs=1e-14)
        (mine,) = torch.autograd.grad(ours, embedding, retain_graph=True)
        (theirs,) = torch.autograd.grad(wanted, embedding, retain_graph=True)
        # The definition's root has no slope at 0, where the position is its class's own mean.
        assert torch.allclose(mine, theirs.nan_to_num(), rtol=1e-10, atol=1e-14)


def test_gradients_are_slopes():
    embedding, labels = drawn(size=(1, 2, 3, 3))
    assert torch.autograd.gradcheck(lambda e: tuple(found(e, labels)), (embedding,))


@pytest.mark.parametrize(("d", "pulled"), [(0.3, 0.0), (0.5, 0.0), (1.0, 0.25), (1.5, 1.0), (2.5, 2.0)])
def test_the_pull_is_zero_then_quadratic_then_linear(d, pulled):
    # Two positions 2 d apart: each is d from the mean. By hand: 0, (1 - 0.5)^2, (1.5 - 0.5)^2, 2.5 - 1.5 + 1.
    embedding = torch.tensor([[[[1 - d, 1 + d]]]], dtype=torch.float64)
    parts = found(embedding, torch.zeros(1, 1, 2, dtype=torch.int64))
    assert parts.variance.item() == pytest.approx(pulled, abs=1e-12)
    assert parts.distance.item() == 0 and parts.regularization.item() == pytest.approx(1)


@pytest.mark.parametrize(("d", "pushed"), [(0.0, 9.0), (1.0, 4.0), (3.0, 0.0), (4.0, 0.0)])
def test_two_means_push_until_they_are_three_apart(d, pushed):
    embedding = torch.tensor([[[[0.0, d]]]], dtype=torch.float64, requires_grad=True)
    parts = found(embedding, torch.tensor([[[0, 3]]]))
    assert parts.distance.item() == pytest.approx(pushed)
    sum(parts).backward()
    assert embedding.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["one class", "no valid position", "all the same", "one position"])
def test_edge_cases_are_finite(kind):
    embedding, labels = drawn()
    if kind == "one class":
        labels[labels != IGNORE] = 2
    elif kind == "no valid position":
        labels[:] = IGNORE
    elif kind == "all the same":
        embedding = torch.full_like(embedding, 0.7).requires_grad_()
    else:
        labels[:] = IGNORE
        labels[0, 1, 1] = 4
    parts = found(embedding, labels)
    (gradient,) = torch.autograd.grad(sum(parts), embedding)
    assert gradient.isfinite().all() and all(math.isfinite(part.item()) for part in parts)
    if kind != "all the same":
        assert parts.distance.item() == 0
    if kind == "no valid position":
        assert sum(parts).item() == 0 and not gradient.any()
    if kind in ("all the same", "one position"):
        assert parts.variance.item() == pytest.approx(0, abs=1e-12)


def test_half_precision_is_worked_out_in_float32():
    embedding, labels = drawn(size=(2, 16, 8, 8))
    halved = embedding.detach().to(torch.bfloat16)
    parts = found(halved, labels)
    assert all(part.dtype == torch.float32 for part in parts)
    wanted = found(halved.double(), labels)
    assert [part.item() for part in parts] == pytest.approx([part.item() for part in wanted], rel=1e-5)


TERMS = "loss.terms=[{name: cross_entropy}, {name: category_consistent, weight: 2.0}]"


def test_the_training_loss_adds_the_weighted_parts_at_feature_size():
    embedding, small = drawn()
    config = override(Experiment(), [TERMS]).loss
    # Each feature stands for 8 x 8 pixels; its label is that of their middle.
    labels = small.repeat_interleave(8, 1).repeat_interleave(8, 2)
    main = torch.zeros(2, CLASSES, 4, 5)
    losses = create_loss(config, IGNORE)(main, None, labels, embedding)
    variance, distance, regularization = (part.item() for part in literally(embedding, small))
    assert losses.parts["variance"].item() == pytest.approx(2 * variance)
    assert losses.parts["distance"].item() == pytest.approx(2 * distance)
    assert losses.parts["regularization"].item() == pytest.approx(2 * 0.001 * regularization)
    assert losses.total.item() == pytest.approx(sum(part.item() for part in losses.parts.values()), rel=1e-6)
    with pytest.raises(CrissCrossError, match=r"^loss\.terms: category_consistent needs an embedding, .*\(model\.he"):
        create_loss(config, IGNORE)(main, None, labels)


MODEL = {
    "model": {"backbone": "test_resnet", "head": {"channels": 16}, "aux_head": {"channels": 8}},
    "data": {"classes": ["a", "b", "c"]},
}


def small(*words):
    return Segmenter(override(from_dict(Experiment, MODEL), words), initialize=False)


@pytest.mark.parametrize("words", [[], ["model.head.recurrence=0"]], ids=["R=2", "R=0"])
def test_the_embedding_reads_the_attended_features_and_exists_only_when_asked_for(words):
    assert small(*words).head.embed is None
    network = small(TERMS, "loss.consistency.dimensions=6", *words).train()
    if network.experiment.model.head.recurrence:
        # A closed gate would let the features pass as they are.
        torch.nn.init.constant_(network.head.attend.attention.gamma, 0.7)
    seen = []
    network.head.attend.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.randn(2, 3, 32, 48)
    logits = network(x, coarse=True)
    assert logits.embedding.shape == (2, 6, *logits.main.shape[-2:])
    assert torch.equal(logits.embedding, network.head.embed(seen[0]))
    assert network.eval()(x).embedding is None


def test_checkpoints_load_with_the_embedding_and_without(tmp_path):
    from crisscross.checkpoints import load, native

    torch.manual_seed(0)
    network, x = small(TERMS).eval(), torch.randn(1, 3, 32, 32)
    native.save(network, tmp_path / "with.safetensors")
    loaded = load(tmp_path / "with.safetensors")
    assert torch.equal(loaded.head.embed.weight, network.head.embed.weight)
    assert torch.equal(loaded(x).main, network(x).main)
    without = load(tmp_path / "with.safetensors", terms=[{"name": "dice"}])
    assert without.head.embed is None and torch.equal(without(x).main, network(x).main)
    wider = load(tmp_path / "with.safetensors", dimensions=5)
    assert len(wider.head.embed.weight) == 5 and torch.equal(wider(x).main, network(x).main)
    native.save(without, tmp_path / "without.safetensors")
    fresh = load(tmp_path / "without.safetensors", terms=[{"name": "dice"}, {"name": "category_consistent"}])
    assert fresh.head.embed is not None and torch.equal(fresh(x).main, network(x).main)
    # Nothing else may be missing.
    broken = {key: value for key, value in network.state_dict().items() if key != "head.classify.bias"}
    with pytest.raises(native.Misfit, match=r"head\.classify\.bias is missing"):
        native.fill(network, broken, "state dict")


WORKER = """
import sys
import torch
from torch import distributed
from crisscross.config import Experiment, override
from crisscross.losses import create_loss

rank, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt")
names = ("main", "embedding", "edges", "labels")
main, embedding, edges, labels = (given[name].chunk(2)[rank].clone() for name in names)
main.requires_grad_(), embedding.requires_grad_(), edges.requires_grad_()
losses = create_loss(override(Experiment(), given["words"]).loss, 255)(main, main, labels, embedding, edges)
losses.total.backward()
gradients = {"main": main.grad, "embedding": embedding.grad, "edges": edges.grad}
torch.save({"total": losses.total.detach(), **gradients}, f"{folder}/{rank}.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


def test_two_processes_have_the_gradient_of_the_whole_batch(tmp_path):
    words = [TERMS, "loss.normalizer=valid"]
    embedding, small_labels = drawn(size=(4, 3, 4, 5))
    # The images of the second process: mostly ignored, with a class that the first does not know.
    small_labels[2:, 1:] = IGNORE
    labels = small_labels.repeat_interleave(8, 1).repeat_interleave(8, 2)
    main = torch.randn(4, CLASSES, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    edges = torch.randn(4, 2, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    given = {"main": main, "embedding": embedding.detach(), "edges": edges, "labels": labels, "words": words}
    torch.save(given, tmp_path / "given.pt")
    main.requires_grad_(), edges.requires_grad_()
    whole = create_loss(override(Experiment(), words).loss, IGNORE)(main, main, labels, embedding, edges)
    whole.total.backward()

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WORKER]
    workers = [
        subprocess.Popen([*command, str(rank), port, str(tmp_path)], env=environment, stdin=subprocess.DEVNULL)
        for rank in range(2)
    ]
    for worker in workers:
        worker.wait(timeout=HANGS)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    # What averages over processes: the loss, and the gradient of parameters that every process shares.
    assert sum(part["total"].item() for part in parts) / 2 == pytest.approx(whole.total.item(), rel=1e-12)
    for name, wanted in (("main", main.grad), ("embedding", embedding.grad), ("edges", edges.grad)):
        assert torch.allclose(torch.cat([part[name] for part in parts]) / 2, wanted, rtol=1e-9, atol=1e-14), name


def test_an_unresolved_word_is_refused():
    with pytest.raises(ValueError, match="must be made numbers"):
        create_loss(LossConfig(class_weights="auto"), IGNORE)
