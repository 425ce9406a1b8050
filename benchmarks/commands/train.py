"""`python -m benchmarks train`: where the time and the memory of a training step go."""

import argparse
from typing import TYPE_CHECKING

from benchmarks.commands.options import choose_device
from crisscross.cli.options import add_trust, parse_size, positive
from crisscross.cli.tables import print_table
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from benchmarks.compare.steps import StepRow

MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Measure a training step, piece by piece, and its peak memory, beside the plain network."
    parser.epilog = "Compare ratios: they come from networks that take turns in one process."
    parser.add_argument("network", nargs="?", default="ccnet-r50", help="recipe, run or file (default ccnet-r50)")
    add_trust(parser)
    parser.add_argument("--size", default="512x512", metavar="HxW", help="of the crops (default 512x512)")
    parser.add_argument("--batch", type=positive, default=2, metavar="N", help="images in a step (default 2)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="turns of each (default 5)")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="CPU threads (default 1)")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    parser.add_argument("--only", metavar="NAME,...", help="which take part beside `plain` (default: all)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    height, width = parse_size(arguments.size, least=32)
    size = f"{height}x{width}"
    import torch

    from benchmarks.compare.results import environment
    from benchmarks.compare.train import contestants, measure
    from crisscross.measurement.network import conditions, network_of
    from crisscross.progress import Progress

    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    say(conditions(environment(device, torch.float32)))
    network = network_of(arguments.network, arguments.trust)
    what = (network, height, width, arguments.batch, arguments.rounds)
    names = [name for name in (arguments.only or "").split(",") if name]
    if unknown := [name for name in names if name not in contestants(device)]:
        raise CrissCrossError(f"--only: unknown {', '.join(unknown)}; known: {', '.join(contestants(device))}")
    taking_part = len({"plain", *names}) if names else len(contestants(device))
    with Progress(size, taking_part * (arguments.rounds + 2)) as progress:
        rows = measure(*what, device, lambda: progress.update(progress.done + 1), names)
    say("", f"{arguments.network}, {arguments.batch} x 3 x {size}, medians of {arguments.rounds} rounds")
    show(rows, device.type == "cuda")
    return 0


def show(rows: "list[StepRow]", gpu: bool) -> None:
    """Print times, memory, the goals and whether all computed the same."""
    from benchmarks.compare.steps import PIECES
    from benchmarks.compare.train import GOALS, GPU_GOALS

    plain = rows[0]
    times = [["ms of a step", *PIECES, "all", "x plain", "CPU time", "x plain"]]
    memory = [["MiB", "between steps", "a step adds", "peak", "x plain", "loss from plain's"]]
    for row in rows:
        pieces = [*(row.seconds[piece] for piece in PIECES), row.total]
        cells = [f"{1000 * value:.0f}" for value in pieces]
        ratios = f"{row.total / plain.total:.2f}", f"{row.cpu / plain.cpu:.2f}"
        times.append([row.name, *cells, ratios[0], f"{1000 * row.cpu:.0f}", ratios[1]])
        sizes = [f"{value / MIB:.0f}" for value in (row.held, row.peak, row.memory)]
        away = abs(row.loss - plain.loss) / abs(plain.loss)
        verdict = f"{away:.1e}" if away <= row.rounding else f"{away:.1e}: NOT THE SAME FUNCTION"
        memory.append([row.name, *sizes, f"{row.memory / plain.memory:.2f}", verdict])
    print_table(times)
    say()
    print_table(memory)
    say()
    goals = [["goal", "at most", "found", "reached"]]
    for goal in GPU_GOALS if gpu else GOALS:
        found = goal.found(rows)
        what = "time" if goal.what == "total" else "peak memory"
        name = f"{goal.name}: {what} beside {goal.against}"
        reached = "-" if found is None else "yes" if found <= goal.needed else "no"
        goals.append([name, f"{goal.needed:g}x", "-" if found is None else f"{found:.2f}x", reached])
    print_table(goals)
