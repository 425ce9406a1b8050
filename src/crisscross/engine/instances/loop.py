"""The training loop of instances: an iterator of facts. The caller logs, validates and saves."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from accelerate import Accelerator
from torch import nn

from crisscross.config import InstanceExperiment
from crisscross.data.coco_samples import InstanceBatch
from crisscross.data.samples.loader import seed_for
from crisscross.engine.instances.optimizer import learning_rate
from crisscross.engine.loop import Step, check_finite, clip, fetch, read, too_many
from crisscross.engine.optimizer import set_rate
from crisscross.errors import CrissCrossError
from crisscross.losses import Losses


def training_steps(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[InstanceBatch],
    experiment: InstanceExperiment,
    accelerator: Accelerator,
    start: int = 0,
) -> Iterator[Step]:
    """Train from iteration `start` to the end, yielding after each optimizer step.

    Every iteration seeds torch's generator (which boxes are sampled, the short side) by (seed, iteration, process), so
    that a resumed run repeats what an uninterrupted one does.

    Raises:
        NoImages: an image cannot be read, or a process that reads them died.
        CrissCrossError: the loss is not finite (the images of the batch are named), or too many steps in a row were
            skipped.
    """
    train, scaled, skipped = experiment.train, accelerator.scaler is not None, 0
    network.train()
    for iteration in range(start, train.iterations):
        rate = learning_rate(experiment.optim, iteration)
        set_rate(optimizer, rate)
        passes = fetch(batches, train.accumulate)
        torch.manual_seed(seed_for(train.seed, 2, iteration, accelerator.process_index))
        optimizer.zero_grad()
        found = []
        for place, part in enumerate(passes, 1):
            batch = part.to(accelerator.device)
            with nullcontext() if place == len(passes) else accelerator.no_sync(network), _clear_errors(batch):
                with accelerator.autocast():
                    losses = network(batch.images, batch.targets)
                value = torch.stack(list(losses.values())).sum() / train.accumulate
                parts = {name.removeprefix("loss_"): loss.detach() for name, loss in losses.items()}
                found.append(Losses(value.detach(), parts))
                accelerator.backward(value)
        numbers = read(found, clip(accelerator, network, experiment.optim.clip), accelerator)
        if not scaled:
            check_finite(numbers, iteration, passes, experiment.optim.clip)
        optimizer.step()
        left_out = scaled and bool(optimizer.step_was_skipped)  # type: ignore[attr-defined]
        skipped = skipped + 1 if left_out else 0
        if skipped >= train.max_skipped:
            raise CrissCrossError(too_many(skipped, iteration, accelerator))
        yield Step(iteration + 1, numbers.loss, rate, numbers.parts, left_out, numbers.norm)


@contextmanager
def _clear_errors(batch: InstanceBatch) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
            raise CrissCrossError(
                f"out of memory with {len(batch.images)} images at a time; lower train.batch, preprocess.short or "
                "proposals.boxes, or raise train.accumulate"
            ) from error
        raise
