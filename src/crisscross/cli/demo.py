"""`crisscross demo`: draw street scenes, train a small CCNet on them, and write a report. No data, no network."""

import argparse
from pathlib import Path


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("demo", help="see it work in three minutes", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo")
    parser.add_argument("--baseline", action="store_true", help="also train the same network without attention (R = 0)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one value of the recipe")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross.engine.demo import run_demo

    run_demo(arguments.out, arguments.baseline, arguments.set)
    return 0
