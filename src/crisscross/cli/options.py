"""Options that several commands share, and the types of their values."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path

from crisscross.errors import SHOWN, CrissCrossError, shown


def add_network(parser: ArgumentParser, exported: bool = False) -> None:
    """`network`, `--weights`, `--offline` and `--trust`: the arguments of `crisscross.load`; or an exported file."""
    files = "a weights file, an exported file (.onnx, .xml, .pt2)" if exported else "a weights file"
    parser.add_argument("network", metavar="RUN|FILE|NAME", help=f"a run folder, {files} or a zoo name")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="weights for the recipe NAME: ours or a publisher's"
    )
    parser.add_argument("--offline", action="store_true", help="do not download anything")
    add_trust(parser)


def network_files(arguments: Namespace) -> list[Path]:
    """The files that a command reads for its network, for `crisscross.files.claim`."""
    network, weights = Path(arguments.network), getattr(arguments, "weights", None)
    return [network, *(network.iterdir() if network.is_dir() else ()), *([weights] if weights else ())]


def add_device(parser: ArgumentParser) -> None:
    """`--device`, which `crisscross.layers.devices.find_device` reads."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="where to compute (default auto: a GPU of CUDA where there is one, else the CPU)",
    )


def add_card(parser: ArgumentParser) -> None:
    """`--card`, for commands that run exported files."""
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE",
        help="classes and preprocessing as JSON, for an exported file that crisscross did not write",
    )


def add_trust(parser: ArgumentParser) -> None:
    """`--trust`: the folder whose weights may run code."""
    parser.add_argument(
        "--trust",
        type=Path,
        metavar="FOLDER",
        help="allow weights in this folder to run code: import what they name as package.module:attribute",
    )


def add_computing(parser: ArgumentParser) -> None:
    """`--device`, `--optimize`, `--precision` and `--backend`; the last two are None if they are not given."""
    add_device(parser)
    parser.add_argument(
        "--optimize", action="store_true", help="rewrite the network for speed first, which helps most on a CPU"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        help="precision of convolutions and matrix products (default fp32)",
    )
    parser.add_argument(
        "--backend",
        choices=("torch", "onnx", "openvino", "auto"),
        help="what computes on a CPU: PyTorch (default), ONNX Runtime or OpenVINO, to which the network is exported "
        "once; or auto, the fastest of those that are installed and give the same labels, which is measured once",
    )


def add_force(parser: ArgumentParser) -> None:
    """`--force`, for commands that write files to a place of the user's choice."""
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace existing files even if crisscross did not write them, or they are inputs",
    )


def whole(low: int, high: int) -> Callable[[str], int]:
    """A type for argparse: whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= 20 else low - 1
        if value < low:
            raise ArgumentTypeError(f"must be a whole number, {low} or more, got {text[:SHOWN]}")
        if value > high:
            raise ArgumentTypeError(f"must be a whole number, {high} or less, got {text[:SHOWN]}")
        return value

    return read


# Upper bounds catch typing errors before memory, processes or threads are requested.
MOST_PIXELS, MOST_PROCESSES = 32_768, 1024
positive, workers = whole(1, MOST_PIXELS), whole(0, MOST_PROCESSES)


def fraction(text: str) -> float:
    """A type for argparse: numbers from 0 to 1.

    Raises:
        ArgumentTypeError: anything else.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be a number between 0 and 1, got {text[:SHOWN]}")
    return value


def side(text: str) -> int:
    """The side of an image or map in pixels; 0 if the text is not a whole number, or one above `MOST_PIXELS`."""
    value = int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else 0
    return value if value <= MOST_PIXELS else 0


def parse_size(text: str, least: int = 1, option: str = "--size") -> tuple[int, int]:
    """Height and width in pixels of a text such as `512x1024`.

    Raises:
        CrissCrossError: it is not HxW with whole numbers from `least` to 32768.
    """
    height, _, width = text.strip().lower().partition("x")
    if not (side(height) and side(width)):
        raise CrissCrossError(f"{option}: {shown(text)} is not a size; write HEIGHTxWIDTH, as in 64x128")
    if min(side(height), side(width)) < least:
        raise CrissCrossError(f"{option} must be at least {least}x{least}, got {shown(text)}")
    return side(height), side(width)
