"""Image files written byte by byte from the formats' own definitions, so that no decoder is asked what it reads."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def pack_bits(rows: np.ndarray, bits: int, order: str = ">") -> list[bytes]:
    """The bytes of each row of unsigned numbers [H, N] of 1 to 32 bits, each row from a byte of its own."""
    if bits >= 8:
        return [row.astype(f"{order}u{bits // 8}").tobytes() for row in rows]
    single = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    return [row.tobytes() for row in np.packbits(single.reshape(len(rows), -1), axis=1)]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Length, name, content, checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


# Adam7: first row and column, and the steps between rows and columns, of the seven passes.
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png(
    values: np.ndarray,
    bits: int = 8,
    color: int = 0,
    before: bytes = b"",
    interlaced: bool = False,
    after: bytes = b"",
) -> bytes:
    """A PNG of [H, W] or [H, W, C]; `before` and `after` are whole chunks before and behind the pixels."""
    height, width = values.shape[:2]
    passes = [values]
    if interlaced:
        passes = [values[top::down, left::across] for top, left, down, across in ADAM7]
    rows = [b"\0" + row for part in passes if part.size for row in pack_bits(part.reshape(len(part), -1), bits)]
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    pixels = png_chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + before + pixels + after + png_chunk(b"IEND", b"")


def exif(orientation: int) -> bytes:
    """EXIF data that hold the orientation alone."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def run_lengths(content: bytes) -> bytes:
    """PackBits without any run: literal pieces of up to 128 bytes."""
    pieces = [content[start : start + 128] for start in range(0, len(content), 128)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


COMPRESS = {1: bytes, 8: zlib.compress, 32773: run_lengths}


def _strips(values: np.ndarray, bits: int, order: str, planar: int, tile: int, rows: int) -> list[bytes]:
    """Uncompressed strips of `rows` rows, or tiles of side `tile`, of [H, W, C]."""
    height, width, bands = values.shape
    layers = [values[..., band : band + 1] for band in range(bands)] if planar == 2 else [values]
    parts = []
    for layer in layers:
        if not tile:
            parts += [layer[top : top + rows] for top in range(0, height, rows)]
            continue
        padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile, layer.shape[2]), layer.dtype)
        padded[:height, :width] = layer
        parts += [
            padded[top : top + tile, left : left + tile]
            for top in range(0, height, tile)
            for left in range(0, width, tile)
        ]
    return [b"".join(pack_bits(part.reshape(len(part), -1), bits, order)) for part in parts]


def tiff(
    values: np.ndarray,
    bits: int = 8,
    photometric: int = 1,
    order: str = "<",
    planar: int = 1,
    tile: int = 0,
    rows: int = 5,
    compression: int = 1,
    extra: Sequence[int] = (),
    pages: Sequence[int] = (0,),
    more: Sequence[tuple[int, int, Sequence[int]]] = (),
) -> bytes:
    """A TIFF of [H, W] or [H, W, C]; `pages` holds NewSubfileType of each page, all of the same pixels.

    `more` holds further tags, or others in the place of the usual: (tag, 3 for 16 bits or 4 for 32, values).
    """
    values = values.reshape(*values.shape[:2], -1)
    height, width, bands = values.shape
    strips = [COMPRESS[compression](strip) for strip in _strips(values, bits, order, planar, tile, rows)]
    body, places = b"", []
    for strip in strips:
        places.append(8 + len(body))
        # Each begins at an even byte.
        body += strip + b"\0" * (len(strip) % 2)
    where, lengths = (324, 325) if tile else (273, 279)
    tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * bands),
        259: (3, [compression]),
        262: (3, [photometric]),
        277: (3, [bands]),
        284: (3, [planar]),
        where: (4, places),
        lengths: (4, [len(strip) for strip in strips]),
        **({322: (4, [tile]), 323: (4, [tile])} if tile else {278: (4, [rows])}),
        **({338: (3, list(extra))} if extra else {}),
        **{tag: (kind, list(numbers)) for tag, kind, numbers in more},
    }
    content = bytearray((b"II*\0" if order == "<" else b"MM\0*") + b"\0" * 4 + body)
    link = 4
    for subfile in pages:
        struct.pack_into(order + "I", content, link, len(content))
        page = sorted({254: (4, [subfile]), **tags}.items())
        rest = len(content) + 2 + 12 * len(page) + 4
        table, values_ = struct.pack(order + "H", len(page)), b""
        for tag, (kind, numbers) in page:
            packed = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
            if len(packed) > 4:
                packed, values_ = struct.pack(order + "I", rest + len(values_)), values_ + packed
            table += struct.pack(order + "HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
        link = len(content) + len(table)
        content += table + b"\0" * 4 + values_
    return bytes(content)


def bmp(
    indices: np.ndarray, bits: int, palette: Sequence[tuple[int, int, int]] = (), masks: Sequence[int] = ()
) -> bytes:
    """A BMP, bottom row first: indices [H, W] into a palette (red, green, blue), or [H, W, 4] bytes."""
    height, width = indices.shape[:2]
    rows = [row + b"\0" * (-len(row) % 4) for row in pack_bits(indices.reshape(height, -1), min(bits, 8))][::-1]
    table = b"".join(bytes([blue, green, red, 0]) for red, green, blue in palette)
    # Of 108 bytes where color masks (red, green, blue, alpha) are given, of 40 without.
    head = struct.pack(
        "<IiiHHIIiiII", 108 if masks else 40, width, height, 1, bits, 3 if masks else 0, 0, 0, 0, len(palette), 0
    )
    if masks:
        head += struct.pack("<IIII", *masks) + bytes(52)
    start = 14 + len(head) + len(table)
    body = b"".join(rows)
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + head + table + body


def write(path: Path, content: bytes) -> Path:
    """The path, for a call inside a call."""
    path.write_bytes(content)
    return path
