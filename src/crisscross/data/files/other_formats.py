"""WebP, BMP and PPM files: what their samples are."""

import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from crisscross.data.files.samples import Samples

# A PPM may hold a comment of any length before its numbers.
HEADER_PPM = 4096
# Rare, and damage in them cannot be detected.
BMP_RUN_LENGTHS = (1, 2)


def webp_header(file: BinaryIO) -> tuple[Samples, int, int]:
    """Samples, width and height of a WebP, before its decoder allocates them.

    Raises:
        ValueError: an animation, damaged or cut off.
    """
    kinds, sizes = set(), [(0, 0)]
    for kind, head in _webp_chunks(file):
        kinds.add(kind)
        if kind == b"VP8X" and len(head) == 10:
            sizes.append((int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1))
        elif kind == b"VP8L" and len(head) >= 5:
            packed = int.from_bytes(head[1:5], "little")
            sizes.append(((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1))
        elif kind == b"VP8 " and len(head) == 10:
            sizes.append((int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:], "little") & 0x3FFF))
    if kinds & {b"ANIM", b"ANMF"}:
        raise ValueError("an animation; save the frame that is meant")
    width, height = (max(lengths) for lengths in zip(*sizes, strict=True))
    return Samples(lossy="lossy WebP" if b"VP8 " in kinds else ""), width, height


def _webp_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Name and first ten bytes of every chunk. A file that ends before the length that it announces is refused."""
    size = file.seek(0, 2)
    file.seek(4)
    end = int.from_bytes(file.read(4), "little") + 8
    if end > size:
        raise ValueError(f"cut off: {size} of {end} bytes")
    at = 12
    while at + 8 <= end:
        file.seek(at)
        kind, length = struct.unpack("<4sI", file.read(8))
        if at + 8 + length > end:
            raise ValueError(f"damaged: the chunk {kind!r} at byte {at} is longer than the file")
        yield kind, file.read(min(length, 10))
        at += 8 + length + length % 2


def bmp_samples(file: BinaryIO, image: Any) -> Samples:
    """The samples of a BMP.

    Raises:
        ValueError: of a kind that is not accepted.
    """
    file.seek(14)
    head = file.read(20)
    bits = struct.unpack_from("<H", head, 10 if head[0] == 12 else 14)[0]
    if head[0] != 12 and head[16] in BMP_RUN_LENGTHS:
        raise ValueError("a BMP compressed by run lengths; save it as PNG")
    # Pillow takes gray palettes for gray of 8 bits (black and white: of 1 bit), whatever the file has.
    if (image.mode == "L" and bits != 8) or (image.mode == "1" and bits != 1):
        raise ValueError(f"a BMP of {bits} bits with a gray palette; save it as PNG")
    return Samples(1 if image.mode == "1" else 255)


def ppm_samples(file: BinaryIO, image: Any) -> Samples:
    """The samples of a PPM, PGM or PBM."""
    file.seek(0)
    words = re.sub(rb"#[^\r\n]*", b" ", file.read(HEADER_PPM)).split()
    return Samples(1, inverted=True) if words[0] in (b"P1", b"P4") else Samples(int(words[3]))
