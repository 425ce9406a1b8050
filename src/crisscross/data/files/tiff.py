"""TIFF files: what their samples are, and whether all of them are there. EXIF data are stored in the same form."""

import functools
import io
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from crisscross.data.files.samples import Samples
from crisscross.errors import CrissCrossWarning, shown

# Bytes of a value by the number of its kind, and how whole numbers are stored.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
NUMBERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
ORIENTATION = 0x0112
GEO_KEYS = 34735
# All tags that are read; others may hold megabytes.
READ = {
    254,
    *range(256, 260),
    262,
    266,
    273,
    ORIENTATION,
    *range(277, 280),
    284,
    320,
    *range(322, 326),
    338,
    339,
    GEO_KEYS,
}
# By number; JPEG changes values.
COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000}
JPEG = 7
FLOATS = 3
FLOATING_POINT = "floating-point image; save it as 8-bit RGB"
TO_BYTES = ": gdal_translate -ot Byte -b 3 -b 2 -b 1 -scale LOW HIGH -co PHOTOMETRIC=RGB IN OUT"
MOST_IN_A_TILE = 1 << 26
WHITE_IS_0, BLACK_IS_0, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
# The whole numbers of one page by tag.
Tags = Mapping[int, Sequence[int]]


def tiff_samples(file: BinaryIO, name: str) -> Samples:
    """The samples of a TIFF, before Pillow makes an image of it; `name` is the file's, for a warning.

    Smaller copies and transparency masks of the first image do not count as images.

    Raises:
        ValueError: of a kind that is not accepted, or cut off.
    """
    pages = list(directories(file))
    kinds = [_first(page, 254, 0) for page in pages]
    if not kinds or kinds[0] & 5:
        raise ValueError("a TIFF whose first page is not an image of full size")
    if others := sum(not kind & 5 for kind in kinds[1:]):
        raise ValueError(f"a TIFF of {others + 1} images; save the one that is meant as a file of its own")
    return tag_samples(pages[0], name, file.seek(0, 2))


def directories(file: BinaryIO) -> Iterator[Tags]:
    """The whole numbers in the directories of a TIFF file (or of EXIF data), one a page.

    Entries that point outside the file have no values. More values than the file has bytes are refused: entries may
    share bytes, and then a small file fills any memory when all are read.

    Raises:
        ValueError: damaged or cut off.
    """
    size = file.seek(0, 2)
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    big = struct.unpack(order + "H", file.read(2))[0] == 43
    file.seek(8 if big else 4)
    many, long = ("Q", "Q") if big else ("H", "I")
    width = struct.calcsize("=" + long)
    seen: set[int] = set()
    announced = 0
    while start := struct.unpack(order + long, _exactly(file, width))[0]:
        if start in seen:
            raise ValueError("damaged: its directories form a circle")
        seen.add(start)
        file.seek(min(start, size))
        count = struct.unpack(order + many, _exactly(file, struct.calcsize("=" + many)))[0]
        table = _exactly(file, min(count, size) * (4 + 2 * width))
        after, entries = file.tell(), list(struct.iter_unpack(f"{order}HH{long}{width}s", table))
        announced += sum(SIZES.get(kind, 1) * values for _, kind, values, _ in entries)
        if announced > size + 4 * width * len(entries):
            raise ValueError("damaged: its directory announces more bytes than the file has")
        yield {
            tag: np.frombuffer(_value(file, raw, NUMBERS[kind], values, order, size), order + NUMBERS[kind]).tolist()
            for tag, kind, values, raw in entries
            if kind in NUMBERS and tag in READ
        }
        file.seek(after)


def _value(file: BinaryIO, raw: bytes, kind: str, count: int, order: str, size: int) -> bytes:
    """The bytes of an entry: those in the directory, or where these point to; none where they point outside."""
    length = count * int(kind[1])
    if length <= len(raw):
        return raw[:length]
    (where,) = struct.unpack(order + ("Q" if len(raw) == 8 else "I"), raw)
    if where + length > size:
        return b""
    file.seek(where)
    return file.read(length)


def _exactly(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) < count:
        raise ValueError("cut off: its directory ends outside the file")
    return content


def _first(tags: Tags, tag: int, default: int) -> int:
    return next(iter(tags.get(tag, ())), default)


def pillow_samples(image: Any) -> Samples:
    """The samples of a TIFF that somebody else opened with Pillow, which decodes some kinds wrongly.

    Raises:
        ValueError: of a kind that is not accepted.
    """
    return tag_samples({tag: value if isinstance(value, tuple) else (value,) for tag, value in image.tag_v2.items()})


def tag_samples(tags: Tags, name: str = "image", size: int | None = None) -> Samples:
    """The samples by the tags of the first page; `size` is that of the file, where known.

    Pillow reads more kinds, of which some come out wrong: accepted is what a test has compared with the definition,
    number by number.

    Raises:
        ValueError: of a kind that is not accepted, or cut off.
    """
    compression = _first(tags, 259, 1)
    if compression not in COMPRESSIONS:
        raise ValueError(f"TIFF compression {compression}; save it with LZW or deflate")
    bits, formats = set(tags.get(258, (1,))), set(tags.get(339, (1,)))
    if len(bits) != 1 or len(formats) != 1:
        raise ValueError(f"a TIFF whose bands differ in kind (bits {shown(sorted(bits))}); save it as 8-bit RGB")
    depth, number, bands, planes = bits.pop(), formats.pop(), _first(tags, 277, 1), _first(tags, 284, 1)
    cure = TO_BYTES if GEO_KEYS in tags else ""
    if number == FLOATS:
        raise ValueError(FLOATING_POINT + cure)
    found = _accepted(tags, depth, number, bands, planes) if depth in range(1, 65) else None
    if found is None:
        layout = ", band behind band" if planes != 1 else ""
        raise ValueError(
            f"a TIFF of {bands} x {depth} bits{layout} (PhotometricInterpretation {_first(tags, 262, -1)}, "
            f"SampleFormat {number}, ExtraSamples {shown(list(tags.get(338, ())))}), which is not read; save it as "
            f"8-bit RGB or as PNG{cure}"
        )
    _check_strips(tags, bands, depth, planes, size)
    if found.extra:
        _warn_of_bands(str(Path(name).parent), bands)
    return found


def _accepted(tags: Tags, depth: int, number: int, bands: int, planes: int) -> Samples | None:
    """The samples of an accepted kind, None for any other."""
    kind, extra, jpeg = _first(tags, 262, -1), tags.get(338, ()), _first(tags, 259, 1) == JPEG
    alpha = _first(tags, 338, 0) in (1, 2)
    samples = Samples(2**depth - 1, lossy="JPEG in TIFF" if jpeg else "", turn=_first(tags, ORIENTATION, 1))
    if planes not in (1, 2) or (planes == 2 and (kind, depth, _first(tags, 266, 1)) != (RGB, 8, 1)):
        return None
    if number != 1:
        # Masks of whole numbers, as NumPy's default kind has it.
        return samples if (kind, bands, depth, number) == (BLACK_IS_0, 1, 32, 2) else None
    if kind in (BLACK_IS_0, WHITE_IS_0) and bands == 1:
        # Pillow inverts what has up to 8 bits.
        known = (1, 2, 4, 8) if kind == WHITE_IS_0 else (1, 2, 4, 8, 16, 32)
        return replace(samples, inverted=kind == WHITE_IS_0) if depth in known else None
    if (kind, bands, depth) == (BLACK_IS_0, 2, 8) and len(extra) == 1:
        return replace(samples, extra=int(not alpha), no_alpha=not alpha)
    if kind == PALETTE and bands == 1 and depth <= 8 and max(tags.get(320, ()), default=0) > 255:
        return replace(samples, largest=255)
    extras = (bands - 3,) if planes == 2 else (bands - 3, 0)
    if kind == RGB and bands >= 3 and depth in (8, 16) and len(extra) in extras:
        return replace(samples, no_alpha=not alpha, extra=bands - 3 - alpha)
    known_color = (kind, bands, depth) == (CMYK, 4, 8) or ((kind, bands, depth) == (YCBCR, 3, 8) and jpeg)
    return samples if known_color else None


def _check_strips(tags: Tags, bands: int, depth: int, planes: int, size: int | None) -> None:
    """Refuse a TIFF with fewer bytes than its size needs: decoders leave the rest black, or read beyond."""
    width, height, tiled = _first(tags, 256, 0), _first(tags, 257, 0), 324 in tags
    across, down = width, min(_first(tags, 278, height), height)
    if tiled:
        across, down = _first(tags, 322, 0), _first(tags, 323, 0)
    if min(across, down, width, height) < 1:
        raise ValueError("a TIFF without extent")
    if tiled and across * down > MOST_IN_A_TILE:
        raise ValueError(f"a TIFF with tiles of {across} x {down} pixels; save it without tiles")
    count = -(-width // across) * -(-height // down) * (bands if planes == 2 else 1)
    starts, given = (tags.get(tag, ())[:count] for tag in ((324, 325) if tiled else (273, 279)))
    if len(starts) < count or len(given) < count or not all(given):
        raise ValueError(f"cut off: it lacks some of its {count} strips or tiles")
    if size is not None and max(map(sum, zip(starts, given, strict=True))) > size:
        raise ValueError("cut off: some of its strips or tiles lie outside the file")
    row = -(-across * depth * (1 if planes == 2 else bands) // 8)
    rows = down * count if tiled else height * (bands if planes == 2 else 1)
    if _first(tags, 259, 1) == 1 and sum(given) < row * rows:
        raise ValueError(f"cut off: its strips or tiles have {sum(given)} of {row * rows} bytes")


@functools.lru_cache(maxsize=4096)
def _warn_of_bands(folder: str, bands: int) -> None:
    """Once for each folder in a process."""
    text = f"{folder}: TIFF files of {bands} bands: the first are taken as red, green, blue, the others are left out"
    warnings.warn(text, CrissCrossWarning, stacklevel=2)


def orientation(image: Any) -> int:
    """The EXIF orientation of an image, 1 (upright) to 8; 1 where its EXIF data are damaged.

    Of a PNG it is certain only after decoding. For a TIFF it is 1: Pillow turns it by itself.
    """
    exif = image.info.get("exif", b"")
    try:
        if not exif and (text := image.info.get("Raw profile type exif")):
            exif = bytes.fromhex("".join(text.split("\n")[3:]))
        tags = next(directories(io.BytesIO(exif.removeprefix(b"Exif\0\0"))), {})
    except (ValueError, TypeError, struct.error):
        return 1
    found = tags.get(ORIENTATION, ())
    return found[0] if len(found) == 1 and found[0] in range(1, 9) else 1
