"""`python -m benchmarks model`: what `crisscross.optimize` does to a network on this CPU."""

import argparse

from crisscross.cli.options import add_trust, parse_size, positive
from crisscross.cli.tables import print_table
from crisscross.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Measure what `crisscross.optimize` does to a network here: time, memory, agreement."
    parser.add_argument("network", nargs="?", default="ccnet-r50", help="recipe, run or checkpoint (default ccnet-r50)")
    add_trust(parser)
    parser.add_argument("--size", default="512x1024", metavar="HxW", help="of the image (default 512x1024)")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="CPU threads (default 1)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="turns of each variant (default 5)")
    parser.add_argument("--convolutions", action="store_true", help="time every 3 x 3 convolution too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    height, width = parse_size(arguments.size)
    import torch

    from benchmarks.compare.model import measure_convolutions, measure_model
    from benchmarks.compare.results import convolution_table, environment, model_table
    from crisscross.measurement.network import conditions, network_of
    from crisscross.progress import Progress

    torch.set_num_threads(arguments.threads)
    say(conditions(environment(torch.device("cpu"), torch.float32)))
    network = network_of(arguments.network, arguments.trust)
    what = (network, height, width, arguments.rounds, arguments.threads)
    with Progress(f"{height}x{width}", 3 * (arguments.rounds + 1)) as progress:
        rows = measure_model(*what, on_turn=lambda: progress.update(progress.done + 1, at=arguments.network))
    say("", f"{arguments.network}, {height}x{width}")
    print_table(model_table(rows))
    if arguments.convolutions:
        say()
        print_table(convolution_table(measure_convolutions(*what)))
    return 0
