"""Option values that several commands share."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path


def add_network(parser: ArgumentParser) -> None:
    """`network`, `--weights` and `--offline`: what `crisscross.load` wants to know."""
    parser.add_argument("network", metavar="RUN|FILE|NAME", help="a run folder, a weights file or a zoo name")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights for the recipe NAME, of any publisher")
    parser.add_argument("--offline", action="store_true", help="download nothing")


def count(text: str) -> int:
    """A whole number, 0 or more.

    Raises:
        ArgumentTypeError: it is not.
    """
    return _at_least(0, text)


def positive(text: str) -> int:
    """A whole number, 1 or more.

    Raises:
        ArgumentTypeError: it is not.
    """
    return _at_least(1, text)


def _at_least(low: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if value < low:
        raise ArgumentTypeError(f"must be a whole number, {low} or more, got {text}")
    return value
