"""Memory and time of the training loss from coarse logits, beside the plain way on full-size float32 logits.

`python benchmarks/loss.py` measures cross-entropy and the terms that need whole images: forward and backward, taking
turns in one process. Compare ratios.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.config import LossConfig, LossTerm
from crisscross.config.loss import TERMS
from crisscross.losses import create_loss, cross_entropy
from crisscross.measurement.memory import peak_memory
from crisscross.measurement.timing import Work, synchronize

OF_LOGITS = [name for name, term in TERMS.items() if term.reads == "logits"]


def plain(coarse: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """The gradient of the published loss, from logits brought to full size at once."""
    full = functional.interpolate(coarse, labels.shape[-2:], mode="bilinear")
    return torch.autograd.grad(cross_entropy(full, labels), coarse)


def ours(coarse: Tensor, labels: Tensor, name: str) -> tuple[Tensor, ...]:
    """The gradient of one term as training computes it."""
    loss = create_loss(LossConfig(terms=(LossTerm(name),)), 255)
    return torch.autograd.grad(loss(coarse, None, labels).total, coarse)


def taking_turns(works: Mapping[str, Work], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each, after one call that warms up."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            synchronize(device)
            began = clock()
            work()
            synchronize(device)
            taken[name].append(clock() - began)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def main() -> None:
    """Measure and print one table for each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["2x19x512", "8x150x512"], help="batch x classes x side")
    parser.add_argument("--terms", nargs="+", default=["cross_entropy"], choices=OF_LOGITS, help="which of ours")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    for shape in arguments.shapes:
        batch, classes, side = map(int, shape.split("x"))
        coarse = torch.randn(batch, classes, side // 8, side // 8, device=device)
        coarse = coarse.to(memory_format=torch.channels_last).requires_grad_()
        labels = torch.randint(0, classes, (batch, side, side), device=device).to(torch.uint8)
        works = {"plain": functools.partial(plain, coarse, labels)}
        works |= {name: functools.partial(ours, coarse, labels, name) for name in arguments.terms}
        peaks = {name: peak_memory(work, device).peak / 2**20 for name, work in works.items()}
        times = taking_turns(works, arguments.rounds, device)
        print(f"{batch} x {classes} x {side} x {side} on {device}, {arguments.threads} threads")
        for name in works:
            relative = f"{peaks[name] / peaks['plain']:6.2f} {times[name] / times['plain']:6.2f}"
            print(f"  {name:14} {peaks[name]:8.0f} MiB {times[name]:8.3f} s   of plain: {relative}")


if __name__ == "__main__":
    main()
