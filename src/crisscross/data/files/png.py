"""PNG files: what their samples are, and damage that decoders pass over."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from crisscross.data.files.samples import Samples, last_row

BLOCK = 1 << 20
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row, and the steps to the next, of the seven passes of an interlaced PNG.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_samples(file: BinaryIO, image: Any) -> Samples:
    """The samples of a PNG. Its transparent gray is scaled as the gray itself is.

    Raises:
        ValueError: of a kind that is not accepted.
    """
    file.seek(12)
    head = file.read(14)
    if not head.startswith(b"IHDR"):
        raise ValueError("a PNG that does not begin with its header (IHDR); save it as PNG again")
    bits, color = head[12], head[13]
    if getattr(image, "is_animated", False):
        raise ValueError("an animation; save the frame that is meant")
    transparent = image.info.get("transparency")
    if bits == 16 and color == 2 and transparent is not None:
        raise ValueError("16-bit color with a transparent color (tRNS); save it with an alpha channel or 8 bits")
    largest = 2**bits - 1 if color != 3 else 255
    if isinstance(transparent, int) and color == 0 and bits < 8:
        image.info["transparency"] = (transparent & largest) * 255 // largest
    return Samples(largest)


def load_png(file: BinaryIO, image: Any) -> None:
    """Decode a PNG after comparing the checksum of every chunk, which decoders do not for pixels.

    Raises:
        ValueError: damaged or cut off.
    """
    start = file.tell()
    for _ in _blocks(file):
        pass
    file.seek(start)
    image.load()
    if image.info.get("interlace") or not any(last_row(image).tobytes()):
        _check_rows(file)


def _blocks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of every chunk in pieces, and an error where the file is damaged."""
    start = file.seek(8)
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("cut off: its end chunk (IEND) is missing")
        length, kind = struct.unpack(">I4s", head)
        name = kind.decode("ascii") if kind.isalpha() else repr(kind)
        if (kind == b"IHDR") != (start == 8):
            raise ValueError("damaged: its header (IHDR) is not the first chunk, or there are two")
        checksum, missing = zlib.crc32(kind), length
        while missing and (block := file.read(min(missing, BLOCK))):
            checksum, missing = zlib.crc32(block, checksum), missing - len(block)
            yield kind, block
        stored = file.read(4)
        if missing or len(stored) < 4:
            raise ValueError(f"cut off in the chunk {name} at byte {start}")
        if stored != struct.pack(">I", checksum):
            raise ValueError(f"damaged: the checksum of the chunk {name} at byte {start} is wrong")
        if kind == b"IEND":
            return
        start += length + 12


def _check_rows(file: BinaryIO) -> None:
    """Unpack the pixels once more to count them: decoders leave missing rows black without an error."""
    file.seek(16)
    width, height, bits, color, _, _, interlaced = struct.unpack(">IIBBBBB", file.read(13))
    needed = found = 0
    for left, top, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-max(width - left, 0) // across), -(-max(height - top, 0) // down)
        needed += rows * (1 + (columns * bits * CHANNELS[color] + 7) // 8) if columns else 0
    unpacker = zlib.decompressobj()
    for kind, packed in _blocks(file):
        while kind == b"IDAT" and packed and found < needed:
            found += len(unpacker.decompress(packed, BLOCK))
            packed = unpacker.unconsumed_tail
    if found < needed:
        raise ValueError(f"cut off: its pixels have {found} of {needed} bytes")
