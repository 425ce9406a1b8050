"""Images of any size, and the memory that they take."""

import os
from pathlib import Path

import numpy as np

from crisscross.data.files.decoding import BYTES_A_PIXEL
from crisscross.data.files.reading import open_array, read_header, read_image
from crisscross.errors import CrissCrossError


def read_big(path: str | os.PathLike[str]) -> np.ndarray:
    """An image of any size, uint8 [H, W, 3] or [H, W]: an array file `.npy` mapped into memory, any other decoded.

    Raises:
        CrissCrossError: it cannot be read, or takes more memory than is free.
    """
    source = Path(path)
    if source.suffix.lower() == ".npy":
        return open_array(source)
    width, height = read_header(source, most_pixels=None)
    needed, free = width * height * BYTES_A_PIXEL, free_memory()
    if free is not None and needed > free:
        raise CrissCrossError(
            f"{source}: {width} x {height} pixels take {needed / 2**30:.1f} GiB to decode, {free / 2**30:.1f} are "
            "free; save it as an array file (.npy), which is read block by block"
        )
    return read_image(source, most_pixels=None)


def free_memory() -> int | None:
    """Bytes that can be taken without swapping, or None where that is not known."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
