"""What has to be settled before the first step: the machine, the classes, the accelerator."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import is_tensorboard_available
from torch import nn

from crisscross.config import DataConfig, Experiment, TrainConfig
from crisscross.data import DataSet
from crisscross.errors import CrissCrossError
from crisscross.layers.lean import make_lean
from crisscross.layers.winograd_train import train_by_winograd

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Machine:
    """What a recipe never mentions: `workers` read pictures, `cpu` forbids an accelerator, `tensorboard` adds files."""

    workers: int = 0
    cpu: bool = False
    tensorboard: bool = False


def with_classes(experiment: Experiment, dataset: DataSet) -> Experiment:
    """The experiment with the data set's classes, palette, ignore value and flip pairs filled in.

    Raises:
        CrissCrossError: the experiment names other classes.
    """
    named = experiment.data.classes
    if named and named != dataset.classes:
        raise CrissCrossError(
            f"data.classes names {len(named)} classes ({', '.join(named[:4])}, ...), "
            f"{dataset.root} has {len(dataset.classes)} ({', '.join(dataset.classes[:4])}, ...)"
        )
    if experiment.data.ignore not in (DataConfig.ignore, dataset.ignore):
        raise CrissCrossError(
            f"data.ignore is {experiment.data.ignore}, {dataset.root} ignores {dataset.ignore}; leave data.ignore out"
        )
    weights = experiment.loss.class_weights
    if weights != "auto" and len(weights) not in (0, len(dataset.classes)):
        raise CrissCrossError(
            f"loss.class_weights must hold one number for each of {len(dataset.classes)} classes, got {len(weights)}"
        )
    palette = experiment.data.palette or dataset.palette
    data = replace(
        experiment.data,
        classes=dataset.classes,
        palette=palette,
        ignore=dataset.ignore,
        flip_pairs=experiment.data.flip_pairs or dataset.flip_pairs,
    )
    return replace(experiment, data=data)


def save_in_steps(network: Network, train: TrainConfig) -> Network:
    """The same network, whose training steps save what `train.memory` and `train.winograd` ask for."""
    if train.memory != "fast":
        make_lean(network, convolutions=train.memory == "least")
    if train.winograd:
        train_by_winograd(network)
    return network


def create_accelerator(precision: str, machine: Machine, folder: Path) -> Accelerator:
    """accelerate's view of device, processes, precision and trackers.

    Raises:
        CrissCrossError: the precision cannot be had on this device, or TensorBoard is not installed.
    """
    tracker = None
    if machine.tensorboard:
        if not is_tensorboard_available():
            raise CrissCrossError(
                "--tensorboard needs the package tensorboard: pip install crisscross-seg[tensorboard]"
            )
        tracker = "tensorboard"
    # One process may train several times, each with a precision of its own.
    AcceleratorState._reset_state()
    mixed = "no" if precision == "fp32" else precision
    try:
        accelerator = Accelerator(cpu=machine.cpu, mixed_precision=mixed, log_with=tracker, project_dir=folder)
    except (ValueError, RuntimeError) as error:
        raise CrissCrossError(f"train.precision={precision} cannot be had on this device: {error}") from error
    # accelerate itself falls back on float32 here without a word.
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise CrissCrossError("train.precision=fp16 cannot be had on this device: a CPU trains in fp32 or bf16")
    # Crops have one size, so trying convolution algorithms once pays.
    torch.backends.cudnn.benchmark = True
    return accelerator
