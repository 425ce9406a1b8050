"""Option values that several commands share."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.errors import SHOWN, CrissCrossError, shown

if TYPE_CHECKING:
    import torch


def add_network(parser: ArgumentParser) -> None:
    """`network`, `--weights` and `--offline`: what `crisscross.load` wants to know."""
    parser.add_argument("network", metavar="RUN|FILE|NAME", help="a run folder, a weights file or a zoo name")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights for the recipe NAME, of any publisher")
    parser.add_argument("--offline", action="store_true", help="download nothing")
    add_trust(parser)


def network_files(arguments: Namespace) -> list[Path]:
    """What a command that names a network reads of it, for `crisscross.files.claim`."""
    network, weights = Path(arguments.network), getattr(arguments, "weights", None)
    return [network, *(network.iterdir() if network.is_dir() else ()), *([weights] if weights else ())]


def add_trust(parser: ArgumentParser) -> None:
    """`--trust`: whose weights may run code."""
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="FOLDER",
        help="import what weights in this folder name as package.module:attribute",
    )


def add_precision(parser: ArgumentParser) -> None:
    """`--precision`, None where it is not given; see `computing_in`."""
    parser.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), help="of convolutions and matrix products (default fp32)"
    )


def computing_in(arguments: Namespace, network: "torch.nn.Module") -> AbstractContextManager[object]:
    """Inside, the network computes as `--precision` says."""
    from crisscross.layers import modes
    from crisscross.layers.precision import check_precision

    precision, device = arguments.precision or "fp32", modes.device_of(network)
    if device.type == "cuda":
        check_precision(precision, device, "--precision")
    return modes.computing_in(precision, device)


def add_force(parser: ArgumentParser) -> None:
    """`--force`, for commands that write files where the user says."""
    parser.add_argument(
        "--force", action="store_true", help="replace files that crisscross did not write, and inputs, where need be"
    )


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`, for argparse."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= 20 else low - 1
        if value < low:
            raise ArgumentTypeError(f"must be a whole number, {low} or more, got {text[:SHOWN]}")
        if value > high:
            raise ArgumentTypeError(f"must be a whole number, {high} or less, got {text[:SHOWN]}")
        return value

    return read


# Bounds above refuse slips of the keyboard before memory, processes or threads are asked for.
MOST_PIXELS, MOST_PROCESSES = 32_768, 1024
count, positive = whole(0, MOST_PIXELS), whole(1, MOST_PIXELS)
workers, threads = whole(0, MOST_PROCESSES), whole(1, MOST_PROCESSES)


def share(text: str) -> float:
    """A number between 0 and 1.

    Raises:
        ArgumentTypeError: it is not.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be a number between 0 and 1, got {text[:SHOWN]}")
    return value


def side(text: str) -> int:
    """A side of an image or map in pixels; 0 where the text is none, or beyond `MOST_PIXELS`."""
    value = int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else 0
    return value if value <= MOST_PIXELS else 0


def parse_size(text: str, least: int = 1, option: str = "--size") -> tuple[int, int]:
    """`512x1024` as height and width in pixels.

    Raises:
        CrissCrossError: it is no HxW of whole numbers from `least` to 32768.
    """
    height, _, width = text.strip().lower().partition("x")
    if not (side(height) and side(width)):
        raise CrissCrossError(f"{option}: {shown(text)} is no size; write height x width, as in 64x128")
    if min(side(height), side(width)) < least:
        raise CrissCrossError(f"{option} must be at least {least}x{least}, got {shown(text)}")
    return side(height), side(width)
