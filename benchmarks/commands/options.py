"""Options of several sizes."""

from benchmarks.compare.rows import Size
from crisscross.cli.options import parse_size
from crisscross.errors import CrissCrossError


def parse_sizes(text: str, channels: int, option: str = "--sizes") -> list[Size]:
    """`64x64,97x97` as sizes.

    Raises:
        CrissCrossError: a size is no HxW of whole numbers from 1 to 32768, or is there twice.
    """
    sizes: list[Size] = []
    for part in text.split(","):
        size = Size(*parse_size(part, option=option), channels)
        if size in sizes:
            raise CrissCrossError(f"{option}: {part} is there twice")
        sizes.append(size)
    return sizes
