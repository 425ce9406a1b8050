"""The command `crisscross`. A command's module is imported when the command is used, and heavy packages later still."""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from crisscross import __version__
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.terminal import say

# The commands, each in the module of its name, and their lines in `crisscross --help`.
COMMANDS = {
    "demo": "train a small network with and without attention on drawn scenes, in three minutes",
    "zoo": "list recipes and their scores, or print one",
    "train": "train a recipe on a data set",
    "report": "compare training runs: tables and curves",
    "evaluate": "score a network on a data set",
    "predict": "label images and videos",
    "serve": "label images over HTTP",
    "app": "label images in the browser, and see what attention looks at",
    "explain": "show what attention looks at from a pixel",
    "data": "list, prepare or check a data set",
    "export": "write a network for ONNX Runtime, OpenVINO or torch.export",
    "convert": "convert weights from and to other publishers' formats",
    "benchmark": "measure time and memory of a network on this machine",
    "doctor": "check this installation and say what to do",
}

# What `requirements-deploy.txt` leaves out of the dependencies: the packages, by the modules that they install.
FULL = {
    **{name: name for name in ("torch", "torchvision", "timm", "accelerate", "safetensors", "filelock", "rich")},
    **{"huggingface_hub": "huggingface-hub", "cv2": "opencv-python-headless"},
}
# Those that are worth installing on their own, and do not bring PyTorch.
SMALL = {"cv2": "opencv-python-headless", "yaml": "pyyaml"}


class Parser(argparse.ArgumentParser):
    """argparse's parser, which prints with `crisscross.terminal.say`.

    Args:
        module: a command's module, whose `add_arguments` is called when the command is parsed.
    """

    def __init__(self, *words: Any, module: str = "", **options: Any) -> None:
        super().__init__(*words, **options)
        self.module = module

    def add_commands(self, package: str, commands: Mapping[str, str]) -> None:
        """Add commands, each in the module of its name in `package`, with their lines of help."""
        listed = self.add_subparsers(title="commands", metavar="COMMAND")
        for name, line in commands.items():
            listed.add_parser(name, help=line, module=f"{package}.{name}")

    def fill(self) -> None:
        """Let the module add its arguments, once."""
        if self.module:
            import_module(self.module).add_arguments(self)
            self.module = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, after `fill`; what is left over is refused here, under the usage of this command."""
        self.fill()
        found, left_over = super().parse_known_args(args, namespace)
        if left_over:
            self.error(f"unrecognized arguments: {' '.join(left_over)}")
        return found, left_over

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            say(*message.splitlines(), error=file is not sys.stdout)


def create_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="crisscross",
        description="CCNet: semantic segmentation with criss-cross attention.",
        epilog="Start with `crisscross demo`: it needs no data and no internet connection.",
    )
    parser.add_argument("--version", action="version", version=f"crisscross {__version__}")
    parser.add_commands("crisscross.cli", COMMANDS)
    return parser


def main(arguments: Sequence[str] | None = None, create: Callable[[], Parser] = create_parser) -> int:
    """Run one command of the parser. Returns 0 if all went well, 1 if `doctor` found a problem, 2 for bad input, 130
    after Ctrl-C, 143 where SIGTERM stopped a training."""
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
        # The reader of the pipe has ended (`| head`). Python would report an error at exit when it flushes the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except (CrissCrossError, OSError) as error:
        say(f"crisscross: {error}", error=True)
        return 2
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        package = (FULL | SMALL).get(module)
        if package is None:
            raise
        advice = (
            f"run `pip install {package}`" if module in SMALL else "run `pip install .` in a checkout of crisscross"
        )
        say(f"crisscross: this needs {package}, which is not installed here: {advice}", error=True)
        return 2
    except KeyboardInterrupt:
        say("crisscross: stopped", error=True)
        return 130


def _check_folder() -> None:
    """Refuse a working folder that was removed: relative paths fail, and PyTorch's libraries abort."""
    try:
        os.getcwd()
    except OSError:
        raise CrissCrossError("the working folder was removed; change to one that exists") from None


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *ignored: Any, **also_ignored: Any
) -> None:
    if issubclass(category, CrissCrossWarning):
        say(f"crisscross: warning: {message}", error=True)
    else:
        say(*warnings.formatwarning(message, category, filename, lineno).splitlines(), error=True)
