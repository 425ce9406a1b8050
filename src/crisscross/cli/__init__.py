"""The command `crisscross`. Nothing heavy is imported before a command needs it."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

from crisscross import __version__
from crisscross.cli import benchmark, convert, data, demo, evaluate, predict, report, train, zoo
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.terminal import say

COMMANDS = (demo, zoo, train, report, evaluate, predict, data, convert, benchmark)


class Parser(argparse.ArgumentParser):
    """argparse's parser; what it tells goes through the one place that prints."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            say(*message.splitlines(), error=file is not sys.stdout)


def create_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each command's module adds its own."""
    parser = Parser(
        prog="crisscross",
        description="CCNet: criss-cross attention for semantic segmentation.",
        epilog="Start with `crisscross demo`: no data and no network needed.",
    )
    parser.add_argument("--version", action="version", version=f"crisscross {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in COMMANDS:
        module.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 when all went well, 2 for bad input, 130 after Ctrl-C."""
    try:
        parser = create_parser()
        parsed = parser.parse_args(arguments)
        if not hasattr(parsed, "run"):
            parser.print_help()
            return 0
        _check_folder()
        with warnings.catch_warnings():
            warnings.simplefilter("always", CrissCrossWarning)
            warnings.showwarning = _show_warning
            return parsed.run(parsed)
    except BrokenPipeError:
        # Nobody reads any more; what is left in the buffer goes nowhere, so that Python does not complain at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (CrissCrossError, OSError) as error:
        say(f"crisscross: {error}", error=True)
        return 2
    except KeyboardInterrupt:
        say("crisscross: stopped", error=True)
        return 130


def _check_folder() -> None:
    """Refuse to work from a folder that was removed: no relative path leads anywhere, and PyTorch's libraries abort."""
    try:
        os.getcwd()
    except OSError as error:
        raise CrissCrossError("the folder that you work in was removed: change to one that is there") from error


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    ours = issubclass(category, CrissCrossWarning)
    text = f"crisscross: warning: {message}" if ours else warnings.formatwarning(message, category, filename, lineno)
    say(*([text] if ours else text.splitlines()), error=True)
