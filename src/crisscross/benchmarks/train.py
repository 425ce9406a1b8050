"""A training step, piece by piece, beside the plain network of the published code.

The plain network is built from the same parts with the same weights: contiguous memory, attention as einsum, cat and
softmax, in-place ReLU, and its loss on logits resized to picture size in float32 for the whole batch.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross.benchmarks.contestants import GATE, give_weights
from crisscross.benchmarks.evaluate import scenes_on_disk
from crisscross.benchmarks.memory import peak_memory
from crisscross.benchmarks.model import network_of
from crisscross.benchmarks.peers import PlainCrissCross
from crisscross.benchmarks.timing import interleave, synchronise
from crisscross.config import OptimConfig
from crisscross.data.loader import Batch, TrainingSamples, training_batches
from crisscross.errors import CrissCrossError
from crisscross.layers import CrissCrossAttention
from crisscross.layers.lean import make_lean
from crisscross.layers.recompute import recompute_in_backward, recomputed_blocks
from crisscross.layers.winograd import release_memory
from crisscross.layers.winograd_train import train_by_winograd
from crisscross.losses import create_loss, cross_entropy
from crisscross.models import Segmenter

PIECES = ("data", "forward", "loss", "backward", "optimiser")
PLAIN, OURS, LEAN, LEAST, CHECKPOINTED = "plain", "ours", "lean", "least", "checkpointed"
LEAN_WINOGRAD, LEAST_WINOGRAD = "lean+winograd", "least+winograd"
PLAIN_BF16, OURS_BF16 = "plain-bf16", "ours-bf16"
# Pictures on disk; each is four times the crop, as in training.
PICTURES = 4
# Networks that compute the same thing differ by this much in the loss, relatively.
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


@dataclass(frozen=True)
class StepRow:
    """One way of training.

    Attributes:
        name: one of the names above.
        seconds: of each of `PIECES`, medians over the rounds.
        total: seconds of a whole step, median over the rounds.
        cpu: seconds of processor time of a step, over all threads, median: what other jobs on the machine move less.
        peak: most bytes that one step takes at once, gradients included, above what lives between steps.
        held: bytes that live between steps: weights, statistics, the optimiser's memory.
        loss: of the first step.
        rounding: how far the loss may be from the plain network's, relatively.
    """

    name: str
    seconds: dict[str, float]
    total: float
    cpu: float
    peak: int
    held: int
    loss: float
    rounding: float

    @property
    def memory(self) -> int:
        """All bytes of training at its peak."""
        return self.held + self.peak


class Contestant:
    """A network with its optimiser and its share of the clock.

    Args:
        name: how tables call it.
        network: trained in place.
        plain: trained as the published code does, else as ours.
        batches: where its data comes from.
        autocast: run the network in this type.
    """

    def __init__(
        self,
        name: str,
        network: Segmenter,
        plain: bool,
        batches: Iterator[Batch],
        autocast: torch.dtype | None = None,
    ) -> None:
        self.name, self.network, self.plain, self.batches, self.autocast = (
            name,
            network.train(),
            plain,
            batches,
            autocast,
        )
        self.device = next(network.parameters()).device
        experiment = network.experiment
        self.optimiser = _optimiser(experiment.optim, network)
        self.loss = create_loss(experiment.loss, experiment.data.ignore, experiment.model.align_corners)
        self.seconds: dict[str, list[float]] = {piece: [] for piece in PIECES}
        self.cpu: list[float] = []
        self.losses: list[float] = []

    def step(self) -> None:
        """One iteration on the next batch; all contestants get the same ones and the same chance in dropout."""
        clock, cpu = _Clock(self.device), time.process_time()
        batch = next(self.batches).to(self.device)
        clock.note(self.seconds["data"])
        torch.manual_seed(len(self.losses))
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            # The published code resizes within the network, in the network's type.
            logits = self._logits(batch.pictures)
        clock.note(self.seconds["forward"])
        value = self._loss(logits, batch.labels)
        del logits
        clock.note(self.seconds["loss"])
        value.backward()
        clock.note(self.seconds["backward"])
        self.optimiser.step()
        self.losses.append(float(value.detach()))
        self.optimiser.zero_grad()
        clock.note(self.seconds["optimiser"])
        self.cpu.append(time.process_time() - cpu)

    def _logits(self, pictures: Tensor) -> Any:
        if self.plain:
            return self.network.coarse(pictures)
        return self.network(pictures.contiguous(memory_format=torch.channels_last), coarse=True)

    def _loss(self, logits: Any, labels: Tensor) -> Tensor:
        if not self.plain:
            return self.loss(logits.main, logits.aux, labels, logits.embedding).total
        experiment = self.network.experiment
        config, size = experiment.loss, labels.shape[-2:]
        total = labels.new_zeros((), dtype=torch.float32)
        for coarse, weight in ((logits.main, 1.0), (logits.aux, config.aux_weight)):
            if coarse is not None and weight:
                align_corners = experiment.model.align_corners
                wide = functional.interpolate(coarse, size, mode="bilinear", align_corners=align_corners)
                total = total + weight * cross_entropy(wide, labels, experiment.data.ignore, config.normaliser)
        return total

    def row(self, total: float, peak: int) -> StepRow:
        """What was measured; the first turn only warmed up."""
        seconds = {piece: median(values[1:] or values) for piece, values in self.seconds.items()}
        tensors = [*self.network.parameters(), *self.network.buffers()]
        tensors += [
            value for state in self.optimiser.state.values() for value in state.values() if isinstance(value, Tensor)
        ]
        held = sum(tensor.nbytes for tensor in tensors)
        rounding = ROUNDING[self.autocast or torch.float32]
        return StepRow(self.name, seconds, total, median(self.cpu[1:]), peak, held, self.losses[0], rounding)


def _optimiser(config: OptimConfig, network: Segmenter) -> torch.optim.Optimizer:
    """The recipe's optimiser with one rate for all weights: this room cannot see the engine's."""
    if config.name == "adamw":
        return torch.optim.AdamW(network.parameters(), config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)


class _Clock:
    """Seconds since it was asked last."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        synchronise(device)
        self.since = time.perf_counter()

    def note(self, into: list[float]) -> None:
        synchronise(self.device)
        before, self.since = self.since, time.perf_counter()
        into.append(self.since - before)


def measure(
    source: str | Segmenter,
    height: int,
    width: int,
    batch: int,
    rounds: int,
    device: torch.device,
    on_turn: Callable[[], object] = lambda: None,
    names: Sequence[str] = (),
) -> list[StepRow]:
    """Train every contestant for `rounds` steps in turns, on drawn street scenes; the plain network is the first row.

    Args:
        source: a recipe (its shipped weights, else random ones), a run, a checkpoint or a network.
        height: of the crops, in pixels.
        width: likewise.
        batch: pictures in a step.
        rounds: turns of each contestant, after one to warm up; one more step is counted byte by byte.
        device: where the networks run.
        on_turn: called after each turn.
        names: who takes part beside the plain network; by default all of `contestants(device)`.

    Raises:
        CrissCrossError: the loss is more than the cross-entropy that the plain network has.
    """
    network = _prepared(
        network_of(source) if isinstance(source, str) else deepcopy(source), height, width, batch, rounds
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset = scenes_on_disk(Path(folder), 2 * height, 2 * width, PICTURES)

        def batches() -> Iterator[Batch]:
            return training_batches(TrainingSamples(dataset, dataset.split("val"), network.experiment), 0)

        chosen = [name for name in contestants(device) if not names or name in (PLAIN, *names)]
        racers = [_contestant(name, network, device, batches()) for name in chosen]
        turns = {one.name: one.step for one in racers}
        totals = interleave(turns, rounds, device, on_turn, always=turns)
        rows = []
        for one in racers:
            # What Winograd keeps for its next call counts.
            release_memory()
            row = one.row(totals[one.name], 0)
            rows.append(replace(row, peak=peak_memory(one.step, device).peak))
            on_turn()
    return rows


def contestants(device: torch.device) -> list[str]:
    """The names of who takes part."""
    if device.type == "cpu":
        return [PLAIN, OURS, LEAN, LEAN_WINOGRAD, LEAST, LEAST_WINOGRAD, CHECKPOINTED]
    return [PLAIN, PLAIN_BF16, OURS, OURS_BF16, LEAN, LEAST, CHECKPOINTED]


def _contestant(name: str, network: Segmenter, device: torch.device, batches: Iterator[Batch]) -> Contestant:
    plain = name in (PLAIN, PLAIN_BF16)
    own = (plain_network(network) if plain else deepcopy(network)).to(device)
    if not plain:
        own.to(memory_format=torch.channels_last)
    if name in (LEAN_WINOGRAD, LEAST_WINOGRAD):
        train_by_winograd(own)
    if name in (LEAN, LEAN_WINOGRAD, LEAST, LEAST_WINOGRAD):
        make_lean(own, convolutions=name in (LEAST, LEAST_WINOGRAD))
    if name in (LEAST, LEAST_WINOGRAD):
        # As with model.attention_memory=lean.
        for module in own.modules():
            if isinstance(module, CrissCrossAttention):
                module.memory = "lean"
    if name == CHECKPOINTED:
        for block in recomputed_blocks(own.backbone.net):
            recompute_in_backward(block)
    half = torch.bfloat16 if name in (PLAIN_BF16, OURS_BF16) else None
    return Contestant(name, own, plain, batches, half)


def _prepared(network: Segmenter, height: int, width: int, batch: int, rounds: int) -> Segmenter:
    """The network with an open gate, and the experiment with the size, batch and length that are measured."""
    experiment = network.experiment
    if [term.name for term in experiment.loss.terms if term.weight] != [
        "cross_entropy"
    ] or experiment.loss.class_weights:
        raise CrissCrossError("benchmark train compares the plain cross-entropy; choose a recipe with that loss alone")
    for module in network.modules():
        if isinstance(module, CrissCrossAttention) and not module.gamma:
            nn.init.constant_(module.gamma, GATE)
    augment = replace(experiment.augment, crop=(height, width), scale=None)
    # Interleaving may call a quick step often in one turn.
    train = replace(experiment.train, batch=batch, accumulate=1, iterations=10**5)
    network.experiment = replace(experiment, augment=augment, train=train)
    return network.requires_grad_(True)


def plain_network(network: Segmenter) -> Segmenter:
    """A copy in contiguous memory whose attention is written out plainly; the same function of the same weights."""
    plain = deepcopy(network).to(memory_format=torch.contiguous_format)
    for name, module in list(plain.named_modules()):
        if isinstance(module, CrissCrossAttention):
            own = PlainCrissCross(module.channels, module.channels // module.query.out_channels)
            plain.set_submodule(name, give_weights(module, own))
    return plain


@dataclass(frozen=True)
class Goal:
    """A bound on a ratio to the plain network."""

    name: str
    against: str
    what: str
    needed: float

    def found(self, rows: list[StepRow]) -> float | None:
        """The ratio, or None where one of the two did not take part."""
        by_name = {row.name: row for row in rows}
        if self.name not in by_name or self.against not in by_name:
            return None
        return getattr(by_name[self.name], self.what) / getattr(by_name[self.against], self.what)


GOALS = (
    Goal(LEAN_WINOGRAD, PLAIN, "total", 0.9),
    Goal(LEAN_WINOGRAD, PLAIN, "memory", 0.8),
    Goal(LEAST_WINOGRAD, PLAIN, "total", 1.35),
    Goal(LEAST_WINOGRAD, PLAIN, "memory", 0.5),
)
GPU_GOALS = (
    Goal(OURS_BF16, PLAIN, "total", 0.5),
    Goal(OURS_BF16, PLAIN_BF16, "total", 0.9),
    Goal(LEAN, PLAIN, "memory", 0.8),
    Goal(LEAST, PLAIN, "memory", 0.5),
)
