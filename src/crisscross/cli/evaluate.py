"""`crisscross evaluate`: score weights on one split."""

import argparse
from pathlib import Path

from crisscross.cli.options import add_card, add_computing, add_force, add_network, workers
from crisscross.cli.tables import print_result
from crisscross.terminal import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Score a network on one split of a data set."
    add_network(parser, exported=True)
    add_card(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="the data set's folder")
    parser.add_argument("--name", metavar="NAME", help="the data set's layout (default: that of training)")
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="the split to score (default: the experiment's test split, else its validation split)",
    )
    parser.add_argument(
        "--dice", action="store_true", help="also print Dice (F1), precision and recall of each class, in one table"
    )
    parser.add_argument("--tta", action="store_true", help="predict at several scales, with flips")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the scores and counts as JSON")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="also write DIR/evaluation.html: scores with intervals, boundaries, calibration, confusions, images",
    )
    parser.add_argument(
        "--save-predictions",
        type=Path,
        metavar="DIR",
        help="also write every prediction, in the format of the data set's benchmark",
    )
    parser.add_argument(
        "--workers", type=workers, default=2, metavar="N", help="processes that read images (default 2)"
    )
    add_computing(parser)
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross.api import evaluate
    from crisscross.api.evaluation_page import PAGE
    from crisscross.engine.processes import is_first_process

    names = (
        "device",
        "name",
        "dice",
        "tta",
        "json",
        "report",
        "save_predictions",
        "force",
        "workers",
        "optimize",
        "precision",
        "backend",
        "weights",
        "card",
    )
    options = {name: getattr(arguments, name) for name in (*names, "offline", "trust")}
    result = evaluate(arguments.network, arguments.data, arguments.split, **options)
    if is_first_process():
        print_result(result)
        if arguments.precision:
            say(f"computed in {arguments.precision}")
        if arguments.report:
            say(f"report: {arguments.report / PAGE}")
    return 0
