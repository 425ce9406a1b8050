"""The training loop, which yields a `Step` for every iteration. The caller logs, validates and saves."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from crisscross.data.samples.loader import seed_for
from crisscross.engine.optimizer import set_rate
from crisscross.engine.schedule import learning_rate
from crisscross.engine.setup import trying_convolutions
from crisscross.engine.task import AnyExperiment, StepLosses
from crisscross.errors import CrissCrossError
from crisscross.layers import attention_layers
from crisscross.losses import Losses

# fp16 steps in a row that may be skipped because gradients overflow: the loss scale halves with each of them.
MOST_SKIPPED = 20


class NoImages(CrissCrossError):
    """The next images cannot be read; the network is as the last finished step left it."""


@dataclass(frozen=True)
class Step:
    """One finished iteration: `iteration` counts from 1, `loss` is the mean over its images, `lr` is what it used.

    `parts` are the loss's terms by name, weighted: their sum is the loss.

    `skipped`: gradients or loss overflowed in fp16, and the weights were left as they were. `grad_norm` is the norm of
    all gradients before clipping, where `optim.clip` asks for it. `gates` are gamma of the network's criss-cross layers
    by name, as the step found them.
    """

    iteration: int
    loss: float
    lr: float
    parts: Mapping[str, float] = field(default_factory=dict)
    skipped: bool = False
    grad_norm: float | None = None
    gates: Mapping[str, float] = field(default_factory=dict)


def training_steps(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[Any],
    losses: StepLosses,
    experiment: AnyExperiment,
    accelerator: Accelerator,
    start: int = 0,
    one_size: bool = True,
) -> Iterator[Step]:
    """Train from iteration `start` to the end, yielding after each optimizer step.

    Every iteration seeds torch's generator (dropout, sampled boxes) by (seed, iteration, process), so that a resumed
    run repeats what an uninterrupted one does. `one_size`: all batches have one size.

    Raises:
        NoImages: an image cannot be read, or a process that reads them died.
        CrissCrossError: the loss is not finite (the images of the batch are named), or too many steps in a row were
            skipped.
    """
    train, scaled, skipped = experiment.train, accelerator.scaler is not None, 0
    network.train()
    gates = {name: layer.gamma for name, layer in attention_layers(accelerator.unwrap_model(network)).items()}
    statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()] if scaled else []
    for iteration in range(start, train.iterations):
        rate = learning_rate(experiment.optim, iteration, train.iterations)
        set_rate(optimizer, rate)
        # All of them before anything changes: if reading fails, the network is at the end of a step.
        passes = fetch(batches, train.accumulate)
        torch.manual_seed(seed_for(train.seed, 2, iteration, accelerator.process_index))
        optimizer.zero_grad()
        found, former = [], [buffer.clone() for buffer in statistics]
        for place, batch in enumerate(passes, 1):
            # Gradients travel between processes once an iteration.
            with (
                nullcontext() if place == len(passes) else accelerator.no_sync(network),
                trying_convolutions(one_size and not train.deterministic),
            ):
                found.append(_one_pass(network, batch.to(accelerator.device), losses, accelerator, train.accumulate))
        numbers = read(found, clip(accelerator, network, experiment.optim.clip), accelerator, gates)
        if not scaled:
            check_finite(numbers, iteration, passes, experiment.optim.clip)
        optimizer.step()
        left_out = scaled and bool(optimizer.step_was_skipped)  # type: ignore[attr-defined]
        skipped = skipped + 1 if left_out else 0
        if not math.isfinite(numbers.loss):
            # The overflow has reached the running statistics, too.
            for buffer, value in zip(statistics, former, strict=True):
                buffer.copy_(value)
        if skipped >= MOST_SKIPPED:
            raise CrissCrossError(too_many(skipped, iteration, accelerator))
        yield Step(iteration + 1, numbers.loss, rate, numbers.parts, left_out, numbers.norm, numbers.gates)


def _one_pass(network: nn.Module, batch: Any, losses: StepLosses, accelerator: Accelerator, accumulate: int) -> Losses:
    """Forward and backward with a batch on the device; what it adds to the iteration's loss, without a gradient."""

    def forward(*inputs: Any, **options: Any) -> Any:
        # The network alone: losses are computed in float32.
        with accelerator.autocast():
            return network(*inputs, **options)

    with _clear_errors(batch):
        terms = losses(forward, batch)
        value = terms.total / accumulate
        accelerator.backward(value)
    return Losses(value.detach(), terms.parts)


def fetch(batches: Iterator[Any], count: int) -> list[Any]:
    """The next `count` batches.

    Raises:
        NoImages: they cannot be read.
    """
    try:
        return [next(batches) for _ in range(count)]
    except CrissCrossError as error:
        raise NoImages(str(error)) from None


def clip(accelerator: Accelerator, network: nn.Module, limit: float) -> Tensor | None:
    """Bound the norm of all gradients; their norm before that, a scalar, None where `limit` is 0."""
    if not limit:
        return None
    return _whole(accelerator.clip_grad_norm_(network.parameters(), limit))


def _whole(value: Any) -> Tensor:
    """A tensor that may be sharded over the processes, as each of them has it."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


@dataclass(frozen=True)
class Numbers:
    """What an iteration computed: the loss of each of this process's `passes`; `loss`, their sum, and its `parts`, the
    means of all processes; the `norm` of the gradients, where it was taken; the `gates` by name."""

    passes: list[float]
    loss: float
    parts: dict[str, float]
    norm: float | None
    gates: dict[str, float] = field(default_factory=dict)


def read(
    found: Sequence[Losses], norm: Tensor | None, accelerator: Accelerator, gates: Mapping[str, Tensor] | None = None
) -> Numbers:
    """The numbers of an iteration, from scalars on the device: the one moment in which the CPU waits for it.

    Args:
        found: what each pass adds to the iteration's loss, and its parts.
        norm: of the gradients, or None.
        accelerator: the processes.
        gates: gamma of criss-cross layers by name.
    """
    alone = accelerator.num_processes == 1
    own = torch.stack([one.total for one in found])
    means = torch.stack([torch.stack(list(one.parts.values())) for one in found]).mean(dim=0)
    if not alone:
        # Added in float64, as below.
        means = accelerator.reduce(torch.cat([own.double().sum()[None].to(own.dtype), means]), "mean")
    gates = gates or {}
    others = [] if norm is None else [norm[None]]
    others += [_whole(gate.detach()).reshape(1) for gate in gates.values()]
    numbers = iter(torch.cat([own, means, *others]).tolist())
    passes = list(islice(numbers, len(own)))
    loss = sum(passes) if alone else next(numbers)
    parts = dict(zip(found[0].parts, islice(numbers, len(found[0].parts)), strict=True))
    return Numbers(passes, loss, parts, None if norm is None else next(numbers), dict(zip(gates, numbers, strict=True)))


def check_finite(numbers: Numbers, iteration: int, batches: Sequence[Any], limit: float) -> None:
    """Refuse a loss, or a norm of the gradients, that is not finite, before a step is taken by it.

    Args:
        numbers: of the iteration.
        iteration: counted from 0.
        batches: those of its passes, with their `names`.
        limit: `optim.clip`.

    Raises:
        CrissCrossError: naming the images, where they are this process's.
    """
    at = f"at iteration {iteration + 1}"
    cures = "try a smaller optim.lr, a longer optim.warmup or train.precision=fp32"
    for value, batch in zip(numbers.passes, batches, strict=True):
        if not math.isfinite(value):
            raise CrissCrossError(f"the loss became {value} {at} with the images {', '.join(batch.names)}; {cures}")
    if not math.isfinite(numbers.loss):
        raise CrissCrossError(f"the loss of another process became {numbers.loss} {at}; its own message says more")
    if numbers.norm is not None and not math.isfinite(numbers.norm):
        raise CrissCrossError(
            f"the norm of the gradients became {numbers.norm} {at}, which optim.clip={limit:g} cannot bound; {cures}"
        )


def too_many(skipped: int, iteration: int, accelerator: Accelerator) -> str:
    """The error for a training whose steps overflow one after the other."""
    scale = accelerator.scaler.get_scale()
    return (
        f"{skipped} steps in a row were skipped up to iteration {iteration + 1}, because numbers overflow in fp16 (the "
        f"loss scale fell to {scale:g}); try train.precision=bf16 or fp32, a smaller optim.lr or a longer optim.warmup"
    )


@contextmanager
def _clear_errors(batch: Any) -> Iterator[None]:
    """Turn errors of torch that users can do something about into lines that say what to change."""
    images = getattr(batch, "images", None)
    size = " x ".join(map(str, images.shape)) if isinstance(images, Tensor) else f"{len(batch.names)} images"
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        if "more than 1 value per channel" in str(error):
            raise CrissCrossError(
                f"batch norm cannot train on a batch of {size}: a single value is left of each channel; "
                "enlarge augment.crop or train.batch, or set train.batch_norm=frozen"
            ) from None
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
            raise CrissCrossError(
                f"out of memory with a batch of {size}; lower train.batch or the size of the images, raise "
                "train.accumulate, or set train.memory=recompute"
            ) from None
        if "changes its input in place" in str(error):
            raise CrissCrossError(f"train.memory=recompute cannot be used with this backbone: {error}") from error
        if "mixed torch.Tensor and DTensor" in str(error):
            raise CrissCrossError(
                "--shard cannot be used with this backbone: it reads the weights of a submodule without calling it"
            ) from error
        if "finished reduction" in str(error):
            raise CrissCrossError(
                "a weight of this network gets a gradient in some steps and none in others; several processes cannot "
                "train it: start one process"
            ) from None
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            first = str(error).strip().splitlines()[0]
            raise CrissCrossError(f"--compile: torch.compile failed ({first}); leave --compile out") from error
        raise


def freeze_unread(network: nn.Module, losses: StepLosses, batch: Any, accelerator: Accelerator) -> None:
    """Freeze the weights that no gradient reaches: outputs that no loss reads, and what no output comes from.

    Of several processes each waits for the gradient of every weight that is not frozen, and torch gives up when one
    never comes. These weights do not train in a single process either. All processes call this with a batch of the
    training's own size; nothing else changes.

    Raises:
        CrissCrossError: as `training_steps`.
    """
    # DistributedDataParallel would find them too (`find_unused_parameters`), but by a walk through the whole graph in
    # every step.
    former = [buffer.clone() for buffer in network.buffers()]
    network.train()
    _one_pass(network, batch.to(accelerator.device), losses, accelerator, accumulate=1)
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    for buffer, value in zip(network.buffers(), former, strict=True):
        buffer.copy_(value)
