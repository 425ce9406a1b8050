"""MATLAB's files (level 5, as MATLAB and SciPy save them): one numeric field of a structure.

SciPy's reader is compiled code that a damaged file can crash; this one compares sizes with what is there.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# A file, and what is unpacked of it: labels of one image take far less.
MOST = 64 << 20
HEADER = 128
MATRIX, COMPRESSED, STRUCTURE = 14, 15, 2
# NumPy's types of stored numbers, and of the array's numbers.
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read_field(path: Path, variable: str, field: str) -> np.ndarray:
    """The array of `field` in the structure `variable`, which has one element.

    Raises:
        OSError: it cannot be read.
        ValueError: a damaged file, another kind of file, or nothing numeric of these names in it.
    """
    with path.open("rb") as file:
        content = file.read(MOST + 1)
    order = {b"IM": "<", b"MI": ">"}.get(content[HEADER - 2 : HEADER])
    if order is None or len(content) > MOST:
        raise ValueError("not a MATLAB file of level 5")
    for kind, data in _elements(content[HEADER:], order):
        for part, inner in _elements(_unpacked(data), order) if kind == COMPRESSED else [(kind, data)]:
            if part == MATRIX and (found := _field(inner, order, variable, field)) is not None:
                return found
    raise ValueError(f"no {variable}.{field} in it")


def _elements(content: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and data of one element after the other."""
    at = 0
    while at < len(content):
        if len(content) < at + 8:
            raise ValueError("cut off")
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start, step = at + 8, size if kind == COMPRESSED else -(-size // 8) * 8
        if kind >> 16:
            # Up to four bytes are stored in place of the size.
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 4
        if len(content) < start + size or size > step:
            raise ValueError("cut off")
        yield kind, content[start : start + size]
        at = start + step


def _unpacked(content: bytes) -> bytes:
    try:
        found = zlib.decompressobj().decompress(content, MOST + 1)
    except zlib.error as error:
        raise ValueError(f"damaged: {error}") from None
    if len(found) > MOST:
        raise ValueError(f"it holds more than {MOST} bytes")
    return found


def _field(content: bytes, order: str, variable: str, field: str) -> np.ndarray | None:
    """The field, where a matrix is the structure of that name."""
    parts = _elements(content, order)
    kind, shape, name = _head(parts, order)
    if name != variable.encode() or kind != STRUCTURE:
        return None
    (length,) = np.frombuffer(_next(parts), f"{order}i4")[:1].tolist() or [0]
    names = _next(parts)
    if math.prod(shape) != 1 or length < 1:
        raise ValueError(f"{variable} is not a structure with one element")
    fields = [names[start : start + length].split(b"\0")[0] for start in range(0, len(names), length)]
    for its, (part, inner) in zip(fields, parts, strict=False):
        if its == field.encode() and part == MATRIX:
            return _numbers(inner, order)
    return None


def _numbers(content: bytes, order: str) -> np.ndarray:
    parts = _elements(content, order)
    kind, shape, _ = _head(parts, order)
    stored, data = next(parts, (0, b""))
    if kind not in CLASSES or stored not in STORED:
        raise ValueError("it holds no numbers")
    values = np.frombuffer(data, order + STORED[stored])
    if min(shape, default=0) < 0 or values.size != math.prod(shape):
        raise ValueError(f"it holds {values.size} numbers, but its shape is {shape}")
    return values.astype(CLASSES[kind]).reshape(shape, order="F")


def _head(parts: Iterator[tuple[int, bytes]], order: str) -> tuple[int, tuple[int, ...], bytes]:
    """Class, shape and name of a matrix."""
    flags = _next(parts)
    if len(flags) != 8:
        raise ValueError("damaged: a matrix without its class")
    shape = np.frombuffer(_next(parts), f"{order}i4").tolist()
    return struct.unpack_from(f"{order}I", flags)[0] & 0xFF, tuple(shape[:8]), _next(parts)


def _next(parts: Iterator[tuple[int, bytes]]) -> bytes:
    return next(parts, (0, b""))[1]
