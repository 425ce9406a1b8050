"""Walks through whole image files, byte by byte, for the damage that decoders pass over: all raise ValueError."""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

BLOCK = 1 << 20
FF = 0xFF
RESTARTS, END, SCAN, INTERVAL = range(0xD0, 0xD8), 0xD9, 0xDA, 0xDD
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row, and the steps to the next, of the seven passes of an interlaced PNG.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
# Bytes of a value by the number of its kind.
TIFF_KINDS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# (kind, count, the 4 or 8 bytes of the entry: the values, or where they lie) by tag.
Directory = dict[int, tuple[int, int, bytes]]


def check_png(file: BinaryIO) -> None:
    """Compare the checksum of every chunk, which decoders do not for pixels, and look for the end chunk."""
    place = file.seek(8)
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("cut off: its end chunk (IEND) is missing")
        length, kind = struct.unpack(">I4s", head)
        checksum, left = zlib.crc32(kind), length
        while left and (block := file.read(min(left, BLOCK))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        stored = file.read(4)
        if left or len(stored) < 4:
            raise ValueError(f"cut off in the chunk {_text(kind)} at byte {place}")
        if stored != struct.pack(">I", checksum):
            raise ValueError(f"damaged: the checksum of the chunk {_text(kind)} at byte {place} is wrong")
        if (kind == b"IHDR") != (place == 8):
            raise ValueError("damaged: its head (IHDR) is not the first chunk, or there are two")
        if kind == b"IEND":
            return
        place += length + 12


def check_png_rows(file: BinaryIO) -> None:
    """Unpack the pixels of a whole PNG once more to count them: decoders leave missing rows black, without a word."""
    file.seek(16)
    width, height, bits, color, _, _, interlaced = struct.unpack(">IIBBBBB", file.read(13))
    needed = 0
    for left, top, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-max(width - left, 0) // across), -(-max(height - top, 0) // down)
        needed += rows * (1 + (columns * bits * PNG_CHANNELS[color] + 7) // 8) if columns else 0
    unpacker = zlib.decompressobj()
    place, found = file.seek(8), 0
    while found < needed and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        place += length + 12
        if kind == b"IDAT":
            packed = file.read(length)
            while packed and found < needed:
                found += len(unpacker.decompress(packed, BLOCK))
                packed = unpacker.unconsumed_tail
        file.seek(place)
    if found < needed:
        raise ValueError(f"cut off: its pixels have {found} of {needed} bytes")


def _text(kind: bytes) -> str:
    return kind.decode("ascii") if kind.isalpha() else repr(kind)


def webp_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Name and first ten bytes of every chunk. A file that ends before the length that it announces is refused."""
    size = file.seek(0, 2)
    file.seek(4)
    end = struct.unpack("<I", file.read(4))[0] + 8
    if end > size:
        raise ValueError(f"cut off: {size} of {end} bytes")
    place = 12
    while place + 8 <= end:
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8))
        if place + 8 + length > end:
            raise ValueError(f"damaged: the chunk {_text(kind)} at byte {place} is longer than the file")
        yield kind, file.read(min(length, 10))
        place += 8 + length + length % 2


def tiff_directories(file: BinaryIO, inside: bool = True) -> Iterator[Directory]:
    """The directories of a TIFF file (or of EXIF data), one a page.

    With `inside`, values outside the file are refused. So are, always, more values than the file has bytes: entries may
    share bytes, and then a small file fills any memory when all are read.
    """
    size = file.seek(0, 2)
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    big = struct.unpack(order + "H", file.read(2))[0] == 43
    file.seek(8 if big else 4)
    many, long = ("Q", "Q") if big else ("H", "I")
    width = struct.calcsize("=" + long)
    step = 4 + 2 * width
    seen: set[int] = set()
    announced = 0
    while place := struct.unpack(order + long, _exactly(file, width))[0]:
        if place in seen:
            raise ValueError("damaged: its directories form a circle")
        seen.add(place)
        file.seek(min(place, size))
        count = struct.unpack(order + many, _exactly(file, struct.calcsize("=" + many)))[0]
        entries: Directory = {}
        table = _exactly(file, min(count, size) * step)
        after = file.tell()
        for number in range(count):
            tag, kind, values, where = struct.unpack_from(order + "HH" + 2 * long, table, number * step)
            length = TIFF_KINDS.get(kind, 1) * values
            announced += length
            if inside and length > width and where + length > size:
                raise ValueError(f"cut off: its tag {tag} lies outside the file")
            entries[tag] = (kind, values, table[(number + 1) * step - width : (number + 1) * step])
        if announced > size + 4 * width * len(entries):
            raise ValueError("damaged: its directory announces more bytes than the file has")
        yield entries
        file.seek(after)


def small_value(entries: Directory, tag: int, order: bytes, default: int) -> int:
    """One whole number (SHORT or LONG) of a directory; `order` is the file's first two bytes."""
    kind, count, raw = entries.get(tag, (0, 0, b""))
    if count != 1 or kind not in (3, 4):
        return default
    return int(struct.unpack_from(("<" if order == b"II" else ">") + ("H" if kind == 3 else "I"), raw)[0])


def _exactly(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise ValueError("cut off: its directory ends outside the file")
    return content


def check_jpeg(content: bytes) -> int:
    """Follow the markers to the end of the image; decoders go on where one is missing, and paint what they lack gray.

    A JPEG holds no checksum: a changed bit amid the coded pixels is seen only where it makes or breaks a marker.

    Returns:
        Where the end marker lies.
    """
    frame = _Frame()
    place = 2
    numbers = np.frombuffer(content, np.uint8)
    # What may be a marker: 0xFF and what is neither 0 (a coded 0xFF) nor another 0xFF (filling).
    markers = np.flatnonzero((numbers[:-1] == FF) & (numbers[1:] != 0) & (numbers[1:] != FF))
    while True:
        while content[place : place + 2] == b"\xff\xff":
            place += 1
        if place + 2 > len(content) or content[place] != FF:
            raise ValueError(f"{'damaged' if place + 2 < len(content) else 'cut off'}: no JPEG marker at byte {place}")
        marker, place = content[place + 1], place + 2
        if marker == END:
            frame.check_complete()
            return place - 2
        if marker in RESTARTS or marker == 1:
            raise ValueError(f"damaged: a restart marker outside the pixels at byte {place}")
        length = int.from_bytes(content[place : place + 2], "big")
        segment = content[place + 2 : place + length]
        if length < 2 or len(segment) < length - 2:
            raise ValueError(f"cut off in the JPEG segment at byte {place}")
        place += length
        if marker in FRAMES:
            frame.begin(marker, segment)
        elif marker == INTERVAL:
            frame.interval = int.from_bytes(segment[:2], "big")
        elif marker == SCAN:
            behind = markers[np.searchsorted(markers, place) :]
            place = _check_scan(content, behind, frame.restarts(segment))


def _check_scan(content: bytes, markers: np.ndarray, restarts: int) -> int:
    """Where the marker behind a scan's coded pixels lies, of those that follow its header."""
    count = 0
    for place in map(int, markers):
        marker = content[place + 1]
        if marker in RESTARTS and marker == RESTARTS[count % 8]:
            count += 1
            continue
        # Some cameras end with one restart marker too many.
        if marker in RESTARTS or count not in (restarts, restarts + 1):
            raise ValueError(f"damaged: restart markers are missing or astray before byte {place}")
        return place
    raise ValueError("cut off: its end marker is missing")


class _Frame:
    """What the frame header of a JPEG announces, and which of its scans have been met."""

    def __init__(self) -> None:
        self.interval = 0
        self.progressive = False
        self.size = (0, 0)
        # Component number -> (horizontal, vertical) sampling factors, and the bits that coefficients still lack.
        self.sampling: dict[int, tuple[int, int]] = {}
        self.lacking: dict[int, list[int]] = {}

    def begin(self, marker: int, segment: bytes) -> None:
        if self.sampling or len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
            raise ValueError("damaged: a second or a short JPEG frame header")
        self.progressive = marker in PROGRESSIVE
        self.size = (int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big"))
        for start in range(6, 6 + 3 * segment[5], 3):
            self.sampling[segment[start]] = (segment[start + 1] >> 4 or 1, segment[start + 1] & 15 or 1)
            self.lacking[segment[start]] = [1] * 64

    def restarts(self, segment: bytes) -> int:
        """Note a scan by its header; how many restart markers it needs."""
        count = segment[0] if segment else 0
        parts = segment[1 : 1 + 2 * count : 2]
        if len(segment) < 4 + 2 * count or not parts or not set(parts) <= set(self.sampling):
            raise ValueError("damaged: a JPEG scan of components that its frame header does not announce")
        first, last, low = segment[1 + 2 * count], segment[2 + 2 * count], segment[3 + 2 * count] & 15
        for part in parts:
            if self.progressive:
                self.lacking[part][first : last + 1] = [low] * len(self.lacking[part][first : last + 1])
            else:
                self.lacking[part] = [0]
        return (self._units(parts) - 1) // self.interval if self.interval else 0

    def _units(self, parts: bytes) -> int:
        """Minimum coded units of a scan: blocks of one component, or groups of blocks of all."""
        widest, highest = (max(factors) for factors in zip(*self.sampling.values(), strict=True))
        across, down = (widest, highest) if len(parts) > 1 else self.sampling[parts[0]]
        width, height = (-(-self.size[0] * across // widest), -(-self.size[1] * down // highest))
        side = (8 * widest, 8 * highest) if len(parts) > 1 else (8, 8)
        return -(-width // side[0]) * -(-height // side[1])

    def check_complete(self) -> None:
        if not self.lacking or any(any(bits) for bits in self.lacking.values()):
            raise ValueError("cut off: scans of the JPEG are missing")
