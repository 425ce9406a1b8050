"""Options that several benchmarks share: sizes and devices."""

import torch

from benchmarks.compare.rows import Size
from crisscross.cli.options import parse_size
from crisscross.errors import CrissCrossError


def parse_sizes(text: str, channels: int, option: str = "--sizes") -> list[Size]:
    """`64x64,97x97` as sizes.

    Raises:
        CrissCrossError: a size is no HxW of whole numbers from 1 to 32768, or is there twice.
    """
    sizes: list[Size] = []
    for part in text.split(","):
        size = Size(*parse_size(part, option=option), channels)
        if size in sizes:
            raise CrissCrossError(f"{option}: {part} is there twice")
        sizes.append(size)
    return sizes


def choose_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        CrissCrossError: it is neither cpu nor cuda, or there is no such GPU.
    """
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (index.isascii() and index.isdecimal() and len(index) <= 4)):
        raise CrissCrossError(f"--device: unknown {name}; known: cpu, cuda, cuda:1 ...")
    if kind == "cuda" and not torch.cuda.is_available():
        raise CrissCrossError("--device cuda: PyTorch finds no GPU here; leave the option out to measure on the CPU")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise CrissCrossError(f"--device {name}: there are {torch.cuda.device_count()} GPUs, counted from 0")
    return torch.device(name)
