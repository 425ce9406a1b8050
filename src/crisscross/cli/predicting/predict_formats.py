"""`crisscross predict`: in which formats results are written."""

import argparse
from typing import TYPE_CHECKING

from crisscross.errors import CrissCrossError, shown

if TYPE_CHECKING:
    from crisscross.engine.task import Task

# As in `crisscross.engine.formats`, which is slow to import.
FORMATS = ("png", "polygons", "coco", "rle", "csv")


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--format` and `--legend`."""
    parser.add_argument(
        "--format",
        action="append",
        type=_formats,
        metavar="F",
        help="png (default: labels/, color/, overlay/), polygons or rle (a JSON file an image), coco (coco.json), csv "
        "(fractions.csv: the fraction of each class); several separated by commas",
    )
    parser.add_argument(
        "--legend", action="store_true", help="write the classes of an image and their colors below its overlay"
    )


def _formats(text: str) -> list[str]:
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        wrong = shown(unknown[0] if unknown else text)
        raise argparse.ArgumentTypeError(f"{wrong} is no format; known: {', '.join(FORMATS)}")
    return names


def chosen_formats(arguments: argparse.Namespace, task: "Task", images: bool) -> tuple[str, ...]:
    """The formats that are wanted, each once, in the order of `FORMATS`.

    Raises:
        CrissCrossError: they are for images and there are none, or do not go together with the task or other options.
    """
    from crisscross.engine.formats import check_formats

    given = [name for names in arguments.format or [["png"]] for name in names]
    if not images and (arguments.format or arguments.legend):
        option = "--format" if arguments.format else "--legend"
        raise CrissCrossError(f"{option} is for images; videos are written as videos")
    return check_formats(task, given, arguments.legend, arguments.big)
