"""The command `crisscross`. Nothing heavy is imported before a command needs it."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from crisscross import __version__
from crisscross.cli import benchmark, convert, data, demo, evaluate, predict, report, train, zoo
from crisscross.errors import CrissCrossError, CrissCrossWarning

COMMANDS = (demo, zoo, train, report, evaluate, predict, data, convert, benchmark)


def create_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each command's module adds its own."""
    parser = argparse.ArgumentParser(
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
    # So that `my_module:open_city` beside the user is found; last, so that nothing there shadows an installed package.
    sys.path.append(os.getcwd())
    parser = create_parser()
    parsed = parser.parse_args(arguments)
    if not hasattr(parsed, "run"):
        parser.print_help()
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", CrissCrossWarning)
            warnings.showwarning = _show_warning
            return parsed.run(parsed)
    except CrissCrossError as error:
        print(f"crisscross: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except OSError as error:
        print(f"crisscross: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("crisscross: stopped", file=sys.stderr)
        return 130


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    ours = issubclass(category, CrissCrossWarning)
    text = f"crisscross: warning: {message}\n" if ours else warnings.formatwarning(message, category, filename, lineno)
    sys.stderr.write(text)
