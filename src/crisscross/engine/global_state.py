"""What a training changes in its process and gives back: random numbers, accelerate's state, variables, warnings."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

# Beginnings of environment variables that accelerate or `train.deterministic` set.
VARIABLES = ("ACCELERATE_", "CUBLAS_WORKSPACE_CONFIG")


@contextmanager
def kept_global_state() -> Iterator[None]:
    """Afterwards the process is as before, so that a notebook may train between other work.

    Of a training in several processes, which end with it, accelerate's state and the process group stay.
    """
    variables = _variables()
    with warnings.catch_warnings(), _kept_torch(), _own_accelerate():
        try:
            yield
        finally:
            for name in _variables().keys() - variables.keys():
                del os.environ[name]
            os.environ.update(variables)


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}


@contextmanager
def _kept_torch() -> Iterator[None]:
    """torch's current GPU, and the generators of all devices; an unused one gets its first seed."""
    used, seed = torch.cuda.is_initialized(), torch.initial_seed()
    cpu, gpus = torch.get_rng_state(), torch.cuda.get_rng_state_all() if used else []
    device = torch.cuda.current_device() if used else 0
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if used:
            torch.cuda.set_rng_state_all(gpus)
            torch.cuda.set_device(device)
        else:
            torch.cuda.manual_seed_all(seed)


@contextmanager
def _own_accelerate() -> Iterator[None]:
    """Without what accelerate remembers of the device and precision of other work in this process, and with it again.

    It holds them in dictionaries that all of its objects share, and takes the first device for good.
    """
    shared: list[Any] = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        shared = []
    former = [dict(state) for state in shared]
    for state in shared:
        state.clear()
    try:
        yield
    finally:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            for state, values in zip(shared, former, strict=True):
                state.clear()
                state.update(values)
