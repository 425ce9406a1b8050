"""The devices that torch can compute on here."""

import re

import torch

from crisscross.errors import CrissCrossError, shown


def find_device(name: str) -> str:
    """The device that `--device` names: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    `auto` is the GPU of CUDA where there is one, else the CPU; Apple's `mps` has to be asked for.

    Raises:
        CrissCrossError: no such device here; those that there are are named.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name in (here := available_devices()):
        return name
    known = name in ("cuda", "mps") or re.fullmatch(r"cuda:\d{1,4}", name)
    what = f"is not available here; there is {', '.join(here)}" if known else "must be auto, cpu, cuda, cuda:N or mps"
    why = "" if not known or torch.cuda.is_available() or name == "mps" else f" ({_without_cuda()})"
    raise CrissCrossError(f"--device {shown(name) if not known else name} {what}{why}")


def available_devices() -> list[str]:
    """The names that `find_device` takes on this machine, but for `auto`."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ["cuda", *(f"cuda:{number}" for number in range(count))] if count else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _without_cuda() -> str:
    """Why there is no GPU."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for CPUs alone"
    return "torch finds no GPU and driver"
