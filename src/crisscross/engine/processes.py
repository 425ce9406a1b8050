"""Training in several processes: they end together, and the one that failed says why."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from torch import nn

from crisscross.engine.run.state import LAST
from crisscross.errors import CrissCrossError
from crisscross.layers.devices import find_device

# The device that accelerate takes, if the variable is set.
DEVICE = "ACCELERATE_TORCH_DEVICE"
# Words in the errors of torch's backends for communication when another process has ended.
LOST = ("gloo", "connection closed", "connection reset", "connection refused", "broken pipe", "timed out", "nccl")


def is_first_process() -> bool:
    """Whether this process is the first of its training; can be asked before there is an accelerator."""
    # torchrun and accelerate set it.
    return os.environ.get("RANK", "0") == "0"


def start_on(device: str) -> torch.device:
    """The device that `--device` names, for accelerate too; of several processes, this one's.

    Raises:
        CrissCrossError: it is not available, or several processes are asked to share one GPU.
    """
    chosen = find_device(device)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and ":" in chosen:
        raise CrissCrossError(f"--device {chosen} names one GPU, and this training has several processes: use cuda")
    if not several:
        # One process may compute several times, each time somewhere else; accelerate alone would choose mps.
        PartialState._reset_state()
        before = os.environ.get(DEVICE)
        os.environ[DEVICE] = chosen
    try:
        state = PartialState(cpu=chosen == "cpu")
    finally:
        if not several:
            os.environ.pop(DEVICE) if before is None else os.environ.update({DEVICE: before})
    if state.device.type == "cuda" and state.device.index is not None:
        torch.cuda.set_device(state.device)
    return state.device


def asked_to_stop(accelerator: Accelerator, here: bool) -> bool:
    """Whether any process was asked to stop, such as this one `here`: all of them get the same answer."""
    if accelerator.num_processes == 1:
        return here
    return bool(accelerator.reduce(torch.tensor(int(here), device=accelerator.device), "sum"))


def share_statistics(network: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the batch-norm statistics of the first, which are the ones that are saved."""
    if accelerator.num_processes > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)


@contextmanager
def ending_together(folder: Path) -> Iterator[None]:
    """Leave the group of processes when something goes wrong, so that no other process waits for this one.

    Raises:
        CrissCrossError: in place of torch's error when another process has ended.
    """
    # A warning of every process about the speed of 1 x 1 convolutions, which are a negligible part of a step.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # Deprecated from torch 2.15 on; its replacement does not exist in 2.11.
    warnings.filterwarnings("ignore", ".*torch.distributed.nn.functional.all_reduce", FutureWarning)
    try:
        yield
    except BaseException as error:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        # Leaving an NCCL group waits for the others; there the launcher ends them.
        if distributed and torch.distributed.get_backend() == "gloo":
            with contextlib.suppress(RuntimeError):
                torch.distributed.destroy_process_group()
        if distributed and isinstance(error, RuntimeError) and _is_lost(error):
            raise CrissCrossError(
                f"another process of this training ended; its own message says why; {_what_is_saved(folder)}"
            ) from error
        raise


def _what_is_saved(folder: Path) -> str:
    if (folder / LAST).is_file():
        return "the last checkpoint is intact, continue with --resume"
    return "nothing was saved yet (train.checkpoint_every), start again"


def _is_lost(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or any(word in text for word in LOST)
