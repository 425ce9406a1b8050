"""What image files say of the samples that they hold, asked before anything is decoded.

Decoders scale, turn round and leave out as they see fit. Here stands which kinds of each format are accepted and what
became of their samples; all functions raise ValueError for the others.
"""

import functools
import io
import re
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from crisscross.data.files.containers import small_value, tiff_directories, webp_chunks
from crisscross.errors import CrissCrossWarning, shown

NEEDED_PPM = 4096
EXIF_ORIENTATION = 0x0112
# By number; JPEG changes values.
TIFF_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000}
TIFF_JPEG = 7
# Rare, and nothing in them tells of damage.
BMP_RUN_LENGTHS = (1, 2)
FLOATS = 3
FLOATING_POINT = "floating-point image; save it as 8-bit RGB"
MOST_IN_A_TILE = 1 << 26
WHITE_IS_0, BLACK_IS_0, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6


@dataclass(frozen=True)
class Samples:
    """What the stored numbers are, and what the decoder makes of them.

    - `largest`: the largest number a sample can hold; gray of fewer than 8 bits (9 to 15) is scaled to 8 (16) bits.
    - `inverted`: the decoder gives `largest` - the stored number, because 0 is white.
    - `lossy`: name of a compression that changes numbers; empty where they are kept.
    - `no_alpha`: the fourth band is no transparency, whatever the decoder says.
    - `extra`: bands that are left out.
    - `turn`: orientation, 1 to 8, of a TIFF: the decoder turns it by itself.
    """

    largest: int = 255
    inverted: bool = False
    lossy: str = ""
    no_alpha: bool = False
    extra: int = 0
    turn: int = 1


def png_samples(file: BinaryIO, image: Any) -> Samples:
    """Of a PNG. Its transparent gray is scaled as the gray itself is."""
    file.seek(12)
    head = file.read(14)
    if not head.startswith(b"IHDR"):
        raise ValueError("a PNG that does not begin with its head (IHDR); save it as PNG again")
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


def jpeg_samples(file: BinaryIO, image: Any) -> Samples:
    """Of a JPEG."""
    if image.mode == "CMYK" and "adobe" not in image.info:
        raise ValueError("a CMYK JPEG without Adobe's marker: nothing says whether 0 is ink; save it as RGB")
    return Samples(lossy="JPEG")


def webp_head(file: BinaryIO) -> tuple[Samples, int, int]:
    """Samples, width and height of a WebP: asked before its decoder makes room for them."""
    kinds, sizes = set(), [(0, 0)]
    for kind, head in webp_chunks(file):
        kinds.add(kind)
        if kind == b"VP8X" and len(head) == 10:
            sizes.append((int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1))
        elif kind == b"VP8L" and len(head) >= 5:
            packed = int.from_bytes(head[1:5], "little")
            sizes.append(((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1))
        elif kind == b"VP8 " and len(head) == 10:
            sizes.append(tuple(number & 0x3FFF for number in struct.unpack("<HH", head[6:])))  # type: ignore[arg-type]
    if kinds & {b"ANIM", b"ANMF"}:
        raise ValueError("an animation; save the frame that is meant")
    width, height = (max(lengths) for lengths in zip(*sizes, strict=True))
    return Samples(lossy="lossy WebP" if b"VP8 " in kinds else ""), width, height


def bmp_samples(file: BinaryIO, image: Any) -> Samples:
    """Of a BMP."""
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
    """Of a PPM, PGM or PBM."""
    file.seek(0)
    words = re.sub(rb"#[^\r\n]*", b" ", file.read(NEEDED_PPM)).split()
    if words[0] in (b"P1", b"P4"):
        return Samples(1, inverted=True)
    return Samples(int(words[3]))


def tiff_samples(file: BinaryIO, name: str) -> Samples:
    """Of a TIFF, before Pillow makes an image of it; `name` is the file's, for the warning about bands left out."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    _check_pages(file)
    file.seek(0)
    head = file.read(8)
    tags = ImageFileDirectory_v2(head if b"*" in head[2:4] else head + file.read(8))
    file.seek(tags.next)
    tags.load(file)
    return tag_samples(tags, name, file.seek(0, 2))


def _check_pages(file: BinaryIO) -> None:
    """Refuse a TIFF of several images. Smaller copies and transparency masks of the first do not count."""
    file.seek(0)
    order = file.read(2)
    kinds = [small_value(entries, 254, order, 0) for entries in tiff_directories(file)]
    if not kinds or kinds[0] & 5:
        raise ValueError("a TIFF whose first page is no image of full size")
    if others := sum(not kind & 5 for kind in kinds[1:]):
        raise ValueError(f"a TIFF of {others + 1} images; save the one that is meant as a file of its own")


def tag_samples(tags: Any, name: str, size: int | None = None) -> Samples:
    """Of a TIFF by the tags of its first page, as Pillow gives them; `size` is that of the file, where known.

    Pillow reads more kinds, of which some come out wrong: accepted is what tests/test_accepted_images.py has compared
    with the definition, number by number.
    """
    compression, kind, planes = tags.get(259, 1), tags.get(262), tags.get(284, 1)
    if compression not in TIFF_COMPRESSIONS:
        raise ValueError(f"TIFF compression {compression}; save it with LZW or deflate")
    bands, bits, formats = tags.get(277, 1), set(tags.get(258, (1,))), set(tags.get(339, (1,)))
    if len(bits) > 1 or len(formats) > 1:
        raise ValueError(f"a TIFF whose bands differ in kind (bits {shown(sorted(bits))}); save it as 8-bit RGB")
    depth, number = bits.pop(), formats.pop()
    if number == FLOATS:
        raise ValueError(FLOATING_POINT)
    lossy = "JPEG in TIFF" if compression == TIFF_JPEG else ""
    samples = Samples(2**depth - 1, lossy=lossy, turn=tags.get(EXIF_ORIENTATION, 1))
    found = _tiff_kind(tags, samples, depth, number)
    if found is None:
        layout = ", band behind band" if planes != 1 else ""
        raise ValueError(
            f"a TIFF of {bands} x {depth} bits{layout} (PhotometricInterpretation {kind}, SampleFormat {number}, "
            f"ExtraSamples {shown(list(tags.get(338, ())))}), which is not read; save it as 8-bit RGB or as PNG"
        )
    _check_strips(tags, bands, depth, planes, size)
    if found.extra:
        _warn_of_bands(str(Path(name).parent), bands)
    return found


def _tiff_kind(tags: Any, samples: Samples, depth: int, number: int) -> Samples | None:
    """The samples of an accepted kind, None for any other."""
    kind, bands, planes, extra = tags.get(262), tags.get(277, 1), tags.get(284, 1), tags.get(338, ())
    alpha = extra[:1] in ((1,), (2,))
    if planes not in (1, 2) or (planes == 2 and (kind, depth, tags.get(266, 1)) != (RGB, 8, 1)):
        return None
    if number != 1:
        # Masks of whole numbers, as NumPy's default kind has it.
        return samples if (kind, bands, depth, number) == (BLACK_IS_0, 1, 32, 2) else None
    if kind in (BLACK_IS_0, WHITE_IS_0) and bands == 1:
        # Pillow turns round what has up to 8 bits.
        known = (1, 2, 4, 8) if kind == WHITE_IS_0 else (1, 2, 4, 8, 16, 32)
        return replace(samples, inverted=kind == WHITE_IS_0) if depth in known else None
    if (kind, bands, depth) == (BLACK_IS_0, 2, 8) and len(extra) == 1:
        return replace(samples, extra=int(not alpha), no_alpha=not alpha)
    if kind == PALETTE and bands == 1 and depth <= 8 and max(tags[320]) > 255:
        return replace(samples, largest=255)
    if (
        kind == RGB
        and bands >= 3
        and depth in (8, 16)
        and len(extra) in ((bands - 3,) if planes == 2 else (bands - 3, 0))
    ):
        return replace(samples, no_alpha=not alpha, extra=bands - 3 - alpha)
    if (kind, bands, depth) == (CMYK, 4, 8):
        return samples
    jpeg = tags.get(259) == TIFF_JPEG
    return samples if (kind, bands, depth, jpeg) == (YCBCR, 3, 8, True) else None


def _check_strips(tags: Any, bands: int, depth: int, planes: int, size: int | None) -> None:
    """Refuse a TIFF with fewer bytes than its size needs: decoders leave the rest black, or read beyond."""
    width, height = tags[256], tags[257]
    across, down = (tags[322], tags[323]) if 324 in tags else (width, min(tags.get(278, height), height))
    offsets, lengths = (324, 325) if 324 in tags else (273, 279)
    if min(across, down, width, height) < 1:
        raise ValueError("a TIFF without extent")
    if 324 in tags and across * down > MOST_IN_A_TILE:
        raise ValueError(f"a TIFF with tiles of {across} x {down} pixels; save it without tiles")
    count = -(-width // across) * -(-height // down) * (bands if planes == 2 else 1)
    places, given = tags.get(offsets, ())[:count], tags.get(lengths, ())[:count]
    if len(places) < count or len(given) < count or not all(given):
        raise ValueError(f"cut off: it lacks some of its {count} strips or tiles")
    if size is not None and max(map(sum, zip(places, given, strict=True))) > size:
        raise ValueError("cut off: some of its strips or tiles lie outside the file")
    row = -(-across * depth * (1 if planes == 2 else bands) // 8)
    rows = down * count if 324 in tags else height * (bands if planes == 2 else 1)
    if tags.get(259, 1) == 1 and sum(given) < row * rows:
        raise ValueError(f"cut off: its strips or tiles have {sum(given)} of {row * rows} bytes")


@functools.lru_cache(maxsize=4096)
def _warn_of_bands(folder: str, bands: int) -> None:
    """Once for each folder in a process."""
    text = f"{folder}: TIFF files of {bands} bands: the first are taken as red, green, blue, those behind are left out"
    warnings.warn(text, CrissCrossWarning, stacklevel=2)


def orientation(image: Any) -> int:
    """How an image is to be turned, 1 (not at all) to 8, by its EXIF data; 1 where they are damaged.

    Of a PNG all is known after decoding. For a TIFF it is 1: Pillow turns it by itself.
    """
    exif = image.info.get("exif", b"")
    try:
        if not exif and (text := image.info.get("Raw profile type exif")):
            exif = bytes.fromhex("".join(text.split("\n")[3:]))
        exif = exif.removeprefix(b"Exif\0\0")
        found = small_value(next(tiff_directories(io.BytesIO(exif), inside=False), {}), EXIF_ORIENTATION, exif[:2], 1)
    except (ValueError, TypeError, struct.error):
        return 1
    return found if found in range(1, 9) else 1
