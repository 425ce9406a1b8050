"""The command `crisscross`. Nothing heavy is imported before a command needs it."""

import argparse
import os
import sys
from collections.abc import Sequence

from crisscross import __version__
from crisscross.cli import benchmark, convert, data, demo, evaluate, predict, report, train, zoo
from crisscross.errors import CrissCrossError

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
