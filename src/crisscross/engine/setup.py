"""What is decided before the first step: the options of the machine, the validation, the accelerator."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from crisscross.config import TrainConfig
from crisscross.engine.processes import is_first_process, start_on
from crisscross.engine.run.trackers import check_trackers
from crisscross.engine.task import Data, check_split
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.layers.precision import check_precision, float32_products, warn_of_emulation

# cuBLAS is deterministic only with this variable, which is read when CUDA starts.
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@dataclass(frozen=True)
class Machine:
    """Options that belong to a machine: the result does not depend on them, and no recipe contains them.

    `workers` processes read images; `device` is `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; `track` names some of
    accelerate's trackers; `compile` runs the network through torch.compile;
    `cache` keeps decoded training images: `ram`, `disk` or `disk:FOLDER`;
    `shard` spreads weights, gradients and optimizer state over the processes;
    `per_class` prints the scores of every class at each validation.
    """

    workers: int = 0
    device: str = "auto"
    track: tuple[str, ...] = ()
    compile: bool = False
    cache: str = ""
    shard: bool = False
    per_class: bool = False


def check_validation(settings: Any, data: Data, val_split: str, early_stop: int) -> None:
    """Warn where validations would score the training images.

    Args:
        settings: the experiment's section `data`.
        data: the opened data set.
        val_split: the split to validate on, or "" where the data has none.
        early_stop: `train.early_stop`.

    Raises:
        CrissCrossError: `train.early_stop` waits for validations that never come, or the data does not have the split.
    """
    if val_split:
        check_split(data, val_split)
    if early_stop and not val_split:
        raise CrissCrossError(
            f"train.early_stop={early_stop} counts validations, and the data has no split {settings.val_split!r}: "
            "set train.early_stop=0, or data.val_split"
        )
    if val_split and val_split == settings.train_split and is_first_process():
        what = f"data.val_split is data.train_split ({val_split!r}): scores are those of the training images"
        warnings.warn(what, CrissCrossWarning, 2)


def create_accelerator(precision: str, machine: Machine, folder: Path) -> Accelerator:
    """accelerate's `Accelerator` for the device, the processes, the precision and the trackers.

    Raises:
        CrissCrossError: the device is not available, or the precision not on it, a tracker is not installed, or
            accelerate is set up to split the network itself.
    """
    check_trackers(machine.track)
    for kind in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{kind}", "").lower() == "true":
            raise CrissCrossError(
                f"accelerate is set up for {kind}, which splits the weights in its own way; "
                "start with torchrun or `accelerate launch --multi_gpu`, and add --shard to split them"
            )
    # One process may train several times, each with a precision of its own.
    AcceleratorState._reset_state()
    mixed = precision if precision in ("bf16", "fp16") else "no"
    trackers, device = list(machine.track) or None, start_on(machine.device)
    try:
        accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision=mixed, log_with=trackers, project_dir=folder
        )
    except (ValueError, RuntimeError) as error:
        raise CrissCrossError(f"train.precision={precision} is not available on this device: {error}") from None
    # accelerate silently falls back to float32, or emulates the precision.
    check_precision(precision, accelerator.device)
    if is_first_process():
        warn_of_emulation(precision, accelerator.device)
    return accelerator


@contextmanager
def algorithms(train: TrainConfig) -> Iterator[None]:
    """Within the context, products are computed in TF32 and operators are deterministic where `train` asks for it.

    torch warns of operators that have no deterministic version on this device.
    """
    with float32_products(train.precision == "tf32"), _repeating() if train.deterministic else nullcontext():
        yield


@contextmanager
def _repeating() -> Iterator[None]:
    os.environ.setdefault(CUBLAS, ":4096:8")
    former, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(former, warn_only=warns)


@contextmanager
def trying_convolutions(wanted: bool) -> Iterator[None]:
    """Within the context, cuDNN searches for the fastest algorithm for each new shape, or does not.

    The search pays off where shapes recur; where images have many sizes it costs time and memory.
    """
    former = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = wanted
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = former
