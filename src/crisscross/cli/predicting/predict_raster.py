"""`crisscross predict NETWORK scene.tif --big`: the part about GeoTIFF."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crisscross.errors import CrissCrossError, shown

if TYPE_CHECKING:
    from crisscross.data.rasters.reading import RasterOptions


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is for rasters alone."""
    parser.add_argument(
        "--bands", metavar="R,G,B", help="GeoTIFF: the bands of red, green and blue, counted from 1, or one for gray"
    )
    parser.add_argument(
        "--stretch",
        metavar="LOW,HIGH",
        help="GeoTIFF: the values that become black and white, which all but 8-bit values need: 0,3000 or 2%%,98%% of "
        "each band's pixels (write --stretch=-20,5 for negative ones)",
    )


def options(arguments: argparse.Namespace, formats: Sequence[str]) -> "RasterOptions":
    """The values of the options; `formats` as `chosen_formats` returned them.

    Raises:
        CrissCrossError: an invalid value, or an option without `--big`.
    """
    given = [name for name in ("bands", "stretch") if getattr(arguments, name)]
    if given and not arguments.big:
        raise CrissCrossError(f"--{given[0]} is for --big, which reads a GeoTIFF block by block")
    from crisscross.data.rasters.reading import RasterOptions
    from crisscross.data.rasters.stretch import parse_stretch

    stretch = None if arguments.stretch is None else parse_stretch(arguments.stretch)
    return RasterOptions(_bands(arguments.bands), stretch, arguments.big and "polygons" in formats)


def _bands(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    words = [word.strip() for word in text.split(",")]
    valid = all(word.isascii() and word.isdecimal() and len(word) <= 5 and int(word) for word in words)
    if not valid or len(words) not in (1, 3):
        raise CrissCrossError(f"--bands: {shown(text)}: write one band or three, counted from 1, as in 3,2,1")
    return tuple(map(int, words))
