"""The command `crisscross`. Nothing heavy is imported before a command needs it."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, TextIO

from crisscross import __version__
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.terminal import say

# What the list of commands says of each; the rest is in the module of that name.
COMMANDS = {
    "demo": "see it work in three minutes",
    "zoo": "list recipes and what they score",
    "train": "train a recipe on your data",
    "report": "compare runs in one table and one plot",
    "evaluate": "score a network on a split",
    "predict": "label your images and videos",
    "data": "list, prepare or check a data set",
    "convert": "read and write other publishers' weights",
    "benchmark": "time and memory of a network on this machine",
}


class Parser(argparse.ArgumentParser):
    """argparse's parser; what it tells goes through the one place that prints.

    Args:
        module: of a command; it is imported when the command is parsed, and its `add_arguments` called.
    """

    def __init__(self, *words: Any, module: str = "", **options: Any) -> None:
        super().__init__(*words, **options)
        self.module = module

    def add_commands(self, package: str, commands: Mapping[str, str]) -> None:
        """Add a command for each module of a package that is named, with the line that the list says of it."""
        listed = self.add_subparsers(title="commands", metavar="COMMAND")
        for name, line in commands.items():
            listed.add_parser(name, help=line, module=f"{package}.{name}")

    def fill(self) -> None:
        """Add the arguments of the module, once."""
        if self.module:
            import_module(self.module).add_arguments(self)
            self.module = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, after `fill`."""
        self.fill()
        return super().parse_known_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            say(*message.splitlines(), error=file is not sys.stdout)


def create_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="crisscross",
        description="CCNet: criss-cross attention for semantic segmentation.",
        epilog="Start with `crisscross demo`: no data and no network needed.",
    )
    parser.add_argument("--version", action="version", version=f"crisscross {__version__}")
    parser.add_commands("crisscross.cli", COMMANDS)
    return parser


def main(arguments: Sequence[str] | None = None, create: Callable[[], Parser] = create_parser) -> int:
    """Run one command of the parser. Returns 0 when all went well, 2 for bad input, 130 after Ctrl-C."""
    try:
        parser = create()
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
