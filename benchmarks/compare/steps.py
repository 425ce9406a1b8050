"""One way of training a network step by step: its optimizer, its loss and its share of the clock."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.config import OptimConfig
from crisscross.data.samples.loader import Batch
from crisscross.losses import create_loss, cross_entropy
from crisscross.measurement.timing import synchronize
from crisscross.models import Segmenter

PIECES = ("data", "forward", "loss", "backward", "optimizer")
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
        held: bytes that live between steps: weights, statistics, the optimizer's memory.
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


class Training:
    """A network with its optimizer and its share of the clock.

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
        self.optimizer = _optimizer(experiment.optim, network)
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
            logits = self._logits(batch.images)
        clock.note(self.seconds["forward"])
        value = self._loss(logits, batch.labels)
        del logits
        clock.note(self.seconds["loss"])
        value.backward()
        clock.note(self.seconds["backward"])
        self.optimizer.step()
        self.losses.append(float(value.detach()))
        self.optimizer.zero_grad()
        clock.note(self.seconds["optimizer"])
        self.cpu.append(time.process_time() - cpu)

    def _logits(self, images: Tensor) -> Any:
        if self.plain:
            return self.network.coarse(images)
        return self.network(images.contiguous(memory_format=torch.channels_last), coarse=True)

    def _loss(self, logits: Any, labels: Tensor) -> Tensor:
        if not self.plain:
            return self.loss(logits.main, logits.aux, labels, logits.embedding, logits.edges).total
        experiment = self.network.experiment
        config, size = experiment.loss, labels.shape[-2:]
        total = labels.new_zeros((), dtype=torch.float32)
        for coarse, weight in ((logits.main, 1.0), (logits.aux, config.aux_weight)):
            if coarse is not None and weight:
                align_corners = experiment.model.align_corners
                wide = functional.interpolate(coarse, size, mode="bilinear", align_corners=align_corners)
                total = total + weight * cross_entropy(wide, labels, experiment.data.ignore, config.normalizer)
        return total

    def row(self, total: float, peak: int) -> StepRow:
        """What was measured; the first turn only warmed up."""
        seconds = {piece: median(values[1:] or values) for piece, values in self.seconds.items()}
        tensors = [*self.network.parameters(), *self.network.buffers()]
        tensors += [
            value for state in self.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)
        ]
        held = sum(tensor.nbytes for tensor in tensors)
        rounding = ROUNDING[self.autocast or torch.float32]
        return StepRow(self.name, seconds, total, median(self.cpu[1:]), peak, held, self.losses[0], rounding)


def _optimizer(config: OptimConfig, network: Segmenter) -> torch.optim.Optimizer:
    """The recipe's optimizer with one rate for all weights: the engine's is not used here."""
    if config.name == "adamw":
        return torch.optim.AdamW(network.parameters(), config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)


class _Clock:
    """Seconds since it was asked last."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        synchronize(device)
        self.since = time.perf_counter()

    def note(self, into: list[float]) -> None:
        synchronize(self.device)
        before, self.since = self.since, time.perf_counter()
        into.append(self.since - before)
