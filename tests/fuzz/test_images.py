"""Small valid image files of every accepted kind, damaged by chance: an array of the right kind, or one line."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from fuzzing import read_or_refused, tries
from hypothesis import given
from hypothesis import strategies as st
from image_files import bmp, exif, png, png_chunk, tiff
from PIL import Image
from small_data import draw_image, draw_labels

from crisscross.data.files import decoding
from crisscross.data.files.reading import read_header, read_image, read_mask

pytestmark = pytest.mark.slow
resource = pytest.importorskip("resource")

RGB, GREY = draw_image(1, 14, 19), draw_labels(1, 14, 19)
# A head may announce up to this many pixels here, so that what is allocated for them stays small beside the bound.
MOST_PIXELS = 1 << 20
MOST_KILOBYTES = 256 << 10


def encoded(image: np.ndarray, kind: str, mode: str = "", **options: object) -> bytes:
    file = io.BytesIO()
    pixels = Image.fromarray(image)
    (pixels.convert(mode) if mode else pixels).save(file, kind, **options)
    return file.getvalue()


def seeds() -> list[bytes]:
    """A file of every kind that is accepted."""
    palette = png_chunk(b"PLTE", bytes(range(256)) * 3)
    turned = Image.Exif()
    turned[0x0112] = 6
    colors = [(320, 3, list(range(0, 65536, 256)) * 3)]
    four = np.dstack([RGB, GREY])
    return [
        png(GREY),
        png(GREY % 4, 2, interlaced=True),
        png(GREY, 8, 3, palette + png_chunk(b"tRNS", b"\0\x80")),
        png(RGB, 16, 2, png_chunk(b"eXIf", exif(6))),
        png(four, 8, 6, after=png_chunk(b"eXIf", exif(3))),
        *(encoded(RGB, "JPEG", mode, exif=turned) for mode in ("RGB", "L", "CMYK")),
        encoded(RGB, "JPEG", progressive=True, restart_marker_blocks=2),
        *(encoded(four, "WEBP", lossless=lossless, exif=turned) for lossless in (False, True)),
        bmp(GREY % 16, 4, [(k, 255 - k, 7) for k in range(16)]),
        bmp(four, 32, masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        encoded(RGB, "BMP"),
        *(
            tiff(RGB, 8, 2, order, planar, tile, compression=packing)
            for order, planar, tile, packing in (("<", 1, 0, 1), (">", 2, 0, 8), ("<", 1, 16, 32773), (">", 2, 16, 1))
        ),
        tiff(GREY, photometric=0, more=[(274, 3, [6])]),
        tiff(GREY, photometric=3, more=colors),
        tiff(RGB.astype(np.uint16) * 256, 16, 2, compression=8),
        tiff(four, 8, 2, extra=(2,), pages=(0, 1)),
        encoded(RGB, "TIFF", compression="tiff_lzw"),
        encoded(RGB, "TIFF", compression="jpeg"),
        encoded(GREY > 0, "TIFF", compression="group4"),
        b"P6\n19 14\n255\n" + RGB.tobytes(),
        b"P5\n19 14\n1000\n" + GREY.astype(">u2").tobytes(),
        b"P2 # plain\n3 2 18\n0 1 2 3 4 18\n",
        b"P4\n19 14\n" + np.packbits(GREY > 0, axis=1).tobytes(),
    ]


SEEDS = seeds()
NUMBERS = (0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 13300, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A seed with some changed bytes, numbers, cuts, repeats and pieces of other seeds; checksums of PNGs put right."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        if not content:
            break
        # Heads are short and matter most.
        place = draw(st.integers(0, min(len(content), 200) - 1) | st.integers(0, len(content) - 1))
        how = draw(st.integers(0, 6))
        if how == 0:
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif how == 1:
            content[place] = draw(st.integers(0, 255))
        elif how in (2, 3):
            width, order = draw(st.sampled_from("BHI")), draw(st.sampled_from("<>"))
            number = draw(st.sampled_from(NUMBERS)) % (1 << 8 * struct.calcsize(width))
            packed = struct.pack(order + width, number)
            content[place : place + len(packed)] = packed
        elif how == 4:
            del content[place : place + draw(st.integers(1, 1 << draw(st.integers(0, 10))))]
        elif how == 5:
            content[place:place] = content[place : place + draw(st.integers(1, 64))]
        else:
            other = draw(st.sampled_from(SEEDS))
            start = draw(st.integers(0, len(other) - 1))
            content[place:place] = other[start : start + draw(st.integers(1, 200))]
    return mended(bytes(content)) if draw(st.booleans()) else bytes(content)


def mended(content: bytes) -> bytes:
    """A PNG whose checksums fit whatever its chunks hold; anything else as it is."""
    if content[:4] != b"\x89PNG":
        return content
    made, place = content[:8], 8
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        body = content[place + 4 : place + 8 + length]
        made += content[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return made


def check_outcome(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    shapes = []
    for read in (read_header, read_image, read_mask):
        found = read_or_refused(read, path, where=f"{path}: ")
        if isinstance(found, tuple):
            assert all(isinstance(length, int) and length > 0 for length in found)
        elif found is not None:
            assert found.dtype == np.uint8
            assert found.flags["C_CONTIGUOUS"]
            assert found.shape[2:] == ((3,) if read is read_image else ())
            shapes.append(found.shape[:2])
    assert len(set(shapes)) < 2


def test_seeds_are_read(tmp_path: Path) -> None:
    for number, content in enumerate(SEEDS):
        (tmp_path / "a.png").write_bytes(content)
        assert read_image(tmp_path / "a.png").size, number


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = decoding.check_size
    monkeypatch.setattr(decoding, "check_size", lambda width, height, most: original(width, height, MOST_PIXELS))

    @tries(10000)
    @given(content=files())
    def check(content: bytes) -> None:
        with warnings.catch_warnings():
            # Pillow warns of damaged EXIF data, we of bands that are left out.
            warnings.simplefilter("ignore")
            check_outcome(tmp_path / "a.png", content)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check()
    # In units of 1024 bytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_KILOBYTES
