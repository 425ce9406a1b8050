"""A training step, piece by piece, beside the plain network of the published code.

The plain network is built from the same parts with the same weights: contiguous memory, attention as einsum, cat and
softmax, in-place ReLU, and its loss on logits resized to image size in float32 for the whole batch.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from benchmarks.compare.contestants import GATE, give_weights
from benchmarks.compare.evaluate import scenes_on_disk
from benchmarks.compare.peers import PlainCrissCross
from benchmarks.compare.steps import StepRow, Training
from crisscross.config import TrainConfig
from crisscross.data.samples.loader import Batch, TrainingSamples, training_batches
from crisscross.errors import CrissCrossError
from crisscross.layers import CrissCrossAttention
from crisscross.measurement.memory import peak_memory
from crisscross.measurement.network import network_of
from crisscross.measurement.timing import interleave
from crisscross.models import Segmenter
from crisscross.speed.memory import apply_memory
from crisscross.speed.winograd import release_memory

PLAIN, OURS, LEAN, RECOMPUTE, WINOGRAD = "plain", "ours", "lean", "recompute", "winograd"
LEAN_WINOGRAD, RECOMPUTE_WINOGRAD = (f"{memory}+{WINOGRAD}" for memory in (LEAN, RECOMPUTE))
PLAIN_BF16, OURS_BF16 = "plain-bf16", "ours-bf16"
# Images on disk; each is four times the crop, as in training.
IMAGES = 4


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
        batch: images in a step.
        rounds: turns of each contestant, after one to warm up; one more step is counted byte by byte.
        device: where the networks run.
        on_turn: called after each turn.
        names: which take part beside the plain network; by default all of `contestants(device)`.

    Raises:
        CrissCrossError: the loss is more than the cross-entropy that the plain network has.
    """
    network = _prepared(
        network_of(source) if isinstance(source, str) else deepcopy(source), height, width, batch, rounds
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset = scenes_on_disk(Path(folder), 2 * height, 2 * width, IMAGES)

        def batches() -> Iterator[Batch]:
            return training_batches(
                TrainingSamples(dataset, dataset.split("val"), network.experiment), 0, pin=device.type == "cuda"
            )

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
    """The names of all contestants on this device."""
    if device.type == "cpu":
        return [PLAIN, OURS, LEAN, LEAN_WINOGRAD, RECOMPUTE, RECOMPUTE_WINOGRAD]
    return [PLAIN, PLAIN_BF16, OURS, OURS_BF16, LEAN, RECOMPUTE]


def _contestant(name: str, network: Segmenter, device: torch.device, batches: Iterator[Batch]) -> Training:
    plain = name in (PLAIN, PLAIN_BF16)
    own = (plain_network(network) if plain else deepcopy(network)).to(device)
    if not plain:
        own.to(memory_format=torch.channels_last)
        apply_memory(own, _settings(name, own.experiment.train))
    half = torch.bfloat16 if name in (PLAIN_BF16, OURS_BF16) else None
    return Training(name, own, plain, batches, half)


def _settings(name: str, train: TrainConfig) -> TrainConfig:
    """The settings of the contestant of this name."""
    kind, _, winograd = name.partition("+")
    memory: Literal["fast", "lean", "recompute"] = "fast"
    if kind == LEAN:
        memory = "lean"
    elif kind == RECOMPUTE:
        memory = "recompute"
    return replace(train, memory=memory, winograd=winograd == WINOGRAD)


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
    Goal(RECOMPUTE, PLAIN, "total", 1.35),
    Goal(RECOMPUTE, PLAIN, "memory", 0.5),
)
GPU_GOALS = (
    Goal(OURS_BF16, PLAIN, "total", 0.5),
    Goal(OURS_BF16, PLAIN_BF16, "total", 0.9),
    Goal(LEAN, PLAIN, "memory", 0.8),
    Goal(RECOMPUTE, PLAIN, "memory", 0.5),
)
