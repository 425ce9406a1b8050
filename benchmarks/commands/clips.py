"""`python -m benchmarks clips`: the 3-D criss-cross layer beside the plain expression of it."""

import argparse
import time
from typing import TYPE_CHECKING

from benchmarks.commands.options import choose_device
from crisscross.cli.options import positive, side
from crisscross.cli.tables import print_table
from crisscross.errors import CrissCrossError, shown
from crisscross.terminal import say

if TYPE_CHECKING:
    from benchmarks.compare.rows import Row

DTYPES = ("float32", "bfloat16", "float16")
MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Measure the 3-D criss-cross layer beside the plain expression of it: time, memory, error."
    parser.epilog = "Compare ratios: they come from layers that take turns in one process."
    parser.add_argument("--size", default="5x45x60", metavar="TxHxW", help="of the clip of features (default 5x45x60)")
    parser.add_argument("--channels", type=positive, default=512, metavar="N", help="default 512")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="clips (default 1)")
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="turns of each (default 7)")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    parser.add_argument("--dtype", default="float32", metavar="NAME", help=f"{', '.join(DTYPES)}; default float32")
    parser.add_argument("--cpu-time", action="store_true", help="count the processor's seconds: for a busy machine")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    size = parse_clip(arguments.size)
    if arguments.channels < 8:
        raise CrissCrossError(f"--channels must be at least 8, got {arguments.channels}")
    if arguments.dtype not in DTYPES:
        raise CrissCrossError(f"--dtype: unknown {arguments.dtype}; known: {', '.join(DTYPES)}")

    import torch

    from benchmarks.compare.clips import measure, steps
    from benchmarks.compare.results import environment
    from crisscross.measurement.network import conditions
    from crisscross.progress import Progress

    device, dtype = choose_device(arguments.device), getattr(torch, arguments.dtype)
    if arguments.cpu_time and device.type != "cpu":
        raise CrissCrossError(f"--cpu-time says nothing about {device}; leave it out")
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    say(conditions(environment(device, dtype)))
    shape = (arguments.batch, arguments.channels, *size)
    with Progress(arguments.size, steps(arguments.rounds)) as progress:
        rows = measure(shape, dtype, device, arguments.rounds, lambda: progress.update(progress.done + 1), clock)
    what = "CPU time, medians" if arguments.cpu_time else "medians"
    say("", f"{' x '.join(map(str, shape))}, {what} of {arguments.rounds} rounds")
    show(rows)
    return 0


def parse_clip(text: str) -> tuple[int, int, int]:
    """`5x45x60` as frames, height and width.

    Raises:
        CrissCrossError: it is not three whole numbers from 1 to 32768.
    """
    parts = text.strip().lower().split("x")
    if len(parts) != 3 or not all(map(side, parts)):
        raise CrissCrossError(f"--size: {shown(text)} is no clip; write frames x height x width, as in 5x45x60")
    frames, height, width = map(side, parts)
    return frames, height, width


def show(rows: "list[Row]") -> None:
    """Print times and memory, and how many times less they are than the plain expression's."""
    from benchmarks.compare.clips import PASSES, PLAIN
    from benchmarks.compare.goals import ratio

    factors = {"forward": 1e3, "training": 1e3, "forward_peak": 1 / MIB, "training_peak": 1 / MIB}

    def cells(row: "Row", *fields: str) -> list[str]:
        found = []
        for field in fields:
            found += [f"{getattr(row, field) * factors[field]:.1f}", f"{ratio(rows, row.name, field, PLAIN):.2f}"]
        return found

    print_table(
        [["one pass, ms", "fwd", "x plain", "fwd+bwd", "x plain", "error", "grad error"]]
        + [[r.name, *cells(r, "forward", "training"), f"{r.error:.1e}", f"{r.gradient_error:.1e}"] for r in rows]
    )
    say()
    print_table(
        [["memory in MiB", "fwd", "x plain", f"training, {PASSES} passes", "x plain", "kept/pass"]]
        + [[r.name, *cells(r, "forward_peak", "training_peak"), f"{(r.kept or 0) / MIB:.1f}"] for r in rows]
    )
