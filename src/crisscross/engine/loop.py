"""The training loop: an iterator of facts. The caller logs, validates and saves."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from crisscross.config import Experiment, OptimConfig
from crisscross.data.loader import Batch, seed_for
from crisscross.engine.schedule import learning_rate
from crisscross.errors import CrissCrossError
from crisscross.losses import TrainingLoss


@dataclass(frozen=True)
class Step:
    """One finished iteration: `iteration` counts from 1, `loss` is the mean over its pictures, `lr` is what it used.

    `parts` are the loss's terms by name, weighted: their sum is the loss.
    """

    iteration: int
    loss: float
    lr: float
    parts: Mapping[str, float] = field(default_factory=dict)


def create_optimiser(config: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over all parameters that are not frozen, weight decay on all as published."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if config.name == "adamw":
        return torch.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(parameters, config.lr, config.momentum, weight_decay=config.weight_decay)


def training_steps(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterator[Batch],
    loss: TrainingLoss,
    experiment: Experiment,
    accelerator: Accelerator,
    start: int = 0,
) -> Iterator[Step]:
    """Train from iteration `start` to the end, yielding after each optimiser step.

    Every iteration seeds torch's generator (dropout) by (seed, iteration, process), so that a resumed run repeats what
    an uninterrupted one does.

    Raises:
        CrissCrossError: the loss is not finite; the pictures of the batch are named.
    """
    train = experiment.train
    network.train()
    for iteration in range(start, train.iterations):
        rate = learning_rate(experiment.optim, iteration, train.iterations)
        for group in optimiser.param_groups:
            group["lr"] = rate
        torch.manual_seed(seed_for(train.seed, 2, iteration, accelerator.process_index))
        optimiser.zero_grad()
        total, parts = 0.0, []
        for _ in range(train.accumulate):
            batch = next(batches).to(accelerator.device)
            with _clear_errors(batch), accelerator.autocast():
                logits = network(batch.pictures.contiguous(memory_format=torch.channels_last), coarse=True)
            with _clear_errors(batch):
                found = loss(logits.main, logits.aux, batch.labels, logits.embedding)
            value = found.total / train.accumulate
            total += _finite(value, iteration, batch)
            parts.append(found.parts)
            with _clear_errors(batch):
                accelerator.backward(value)
        optimiser.step()
        if accelerator.num_processes > 1:
            total = float(accelerator.reduce(torch.tensor(total, device=accelerator.device), "mean"))
        yield Step(iteration + 1, total, rate, _mean_parts(parts, accelerator))


def _mean_parts(parts: Sequence[Mapping[str, Tensor]], accelerator: Accelerator) -> dict[str, float]:
    """The mean of each part over the passes of an iteration and over processes."""
    values = torch.stack([torch.stack(list(one.values())) for one in parts]).mean(dim=0)
    if accelerator.num_processes > 1:
        values = accelerator.reduce(values, "mean")
    return dict(zip(parts[0], values.tolist(), strict=True))


@contextmanager
def _clear_errors(batch: Batch) -> Iterator[None]:
    """Say what to change where torch only says what went wrong."""
    size = " x ".join(map(str, batch.pictures.shape))
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        if "more than 1 value per channel" in str(error):
            raise CrissCrossError(
                f"batch norm cannot train on a batch of {size}: a single value is left of each channel; "
                "enlarge augment.crop or train.batch"
            ) from error
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
            raise CrissCrossError(
                f"out of memory with a batch of {size}; lower train.batch or augment.crop, or raise train.accumulate"
            ) from error
        raise


def _finite(value: Tensor, iteration: int, batch: Batch) -> float:
    number = float(value.detach())
    if not math.isfinite(number):
        raise CrissCrossError(
            f"the loss became {number} at iteration {iteration + 1} with the pictures {', '.join(batch.names)}; "
            "try a smaller optim.lr, a longer optim.warmup or train.precision=fp32"
        )
    return number
