"""What a training shows first: network, device, images, classes and length."""

import os
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from crisscross.config import NO_SPLIT
from crisscross.engine.task import Data

# Names of classes that are shown.
SHOWN = 12


def overview(
    network: nn.Module, experiment: Any, data: Data, val_split: str, epoch: int, accelerator: Accelerator
) -> list[str]:
    """A line for each of them.

    Args:
        network: what is trained, on its device.
        experiment: settled, with its classes and iterations.
        data: the data set.
        val_split: what is validated on, or "".
        epoch: samples of one epoch.
        accelerator: its device and processes.
    """
    rows = {
        "network": f"{title_of(experiment)}, {_parameters(network)}",
        "device": _device(accelerator),
        "images": _images(experiment, data, val_split),
        "classes": _classes(getattr(experiment.data, "classes", ())),
        "training": _length(experiment, epoch),
    }
    lines = [f"{name:9}{text}" for name, text in rows.items() if text]
    if val_split:
        return lines
    split = experiment.data.val_split
    why = f"data.val_split={split}" if split == NO_SPLIT else f"no split {split!r}"
    return [*lines, f"{why}: nothing is validated, the last weights are the result"]


def title_of(experiment: Any) -> str:
    """The network in a few words; the experiment's name where it has no other."""
    return getattr(getattr(experiment, "model", None), "title", "") or experiment.name


def _parameters(network: nn.Module) -> str:
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    total, frozen = sum(count for count, _ in counts), sum(count for count, learns in counts if not learns)
    return f"{millions(total)} parameters" + (f" ({millions(frozen)} frozen)" if frozen else "")


def millions(count: int) -> str:
    """A count as `23.52 M`, below a hundredth of that as it is."""
    return f"{count / 1e6:.2f} M" if count >= 10_000 else str(count)


def _device(accelerator: Accelerator) -> str:
    device, count = accelerator.device, accelerator.num_processes
    if device.type == "cuda":
        name = f"{device}, {torch.cuda.get_device_name(device)}"
    elif device.type == "cpu":
        threads = torch.get_num_threads()
        name = f"cpu, {threads} of {os.cpu_count()} threads"
    else:
        name = str(device)
    return name if count == 1 else f"{name}; {count} processes"


def _images(experiment: Any, data: Data, val_split: str) -> str:
    splits = dict.fromkeys([experiment.data.train_split, *([val_split] if val_split else [])])
    counts = ", ".join(f"{len(data.splits[split])} {split}" for split in splits)
    return f"{counts} ({data.name}: {data.root})"


def _classes(names: tuple[str, ...]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)}: {', '.join(names[:SHOWN])}{more}" if names else ""


def _length(experiment: Any, epoch: int) -> str:
    train = experiment.train
    epochs = train.iterations * train.batch / epoch if epoch else 0.0
    return f"{train.iterations} iterations of {train.batch} images, {epochs:.{0 if epochs >= 10 else 2}f} epochs"
