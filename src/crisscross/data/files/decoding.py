"""Opening image files, here and nowhere else: which kinds are accepted, how large, and whether they are whole."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from crisscross.data.files.jpeg import jpeg_samples, load_jpeg
from crisscross.data.files.other_formats import bmp_samples, ppm_samples, webp_header
from crisscross.data.files.png import load_png, png_samples
from crisscross.data.files.samples import Samples
from crisscross.data.files.tiff import tiff_samples
from crisscross.errors import CrissCrossError

# Memory of decoding at most, with transparency: two images of 4 bytes, and the array twice.
BYTES_A_PIXEL = 17
# An RGB image takes 1.3 GB while it is decoded.
MOST_PIXELS = 1 << 27
# First bytes -> kind. Content decides, whatever the name ends with.
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"RIFF": "WebP",
    b"BM": "BMP",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), "PPM"),
}
LOADERS = {"PNG": load_png, "JPEG": load_jpeg}


class TooManyPixels(ValueError):
    """An image has more pixels than a bound; it was not decoded."""


def open_file(path: Path) -> BinaryIO:
    """An ordinary file, to be read.

    Raises:
        OSError: there is none, or it may not be read.
        CrissCrossError: it is a FIFO, a socket or a device: opening one may block, reading one may never end.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise CrissCrossError(f"{path}: cannot be read: a FIFO, socket or device, not an ordinary file")
    return path.open("rb")


@contextmanager
def opened(path: Path | bytes, decode: bool, most_pixels: int | None = MOST_PIXELS) -> Iterator[tuple[Any, Samples]]:
    """The Pillow image of a file, and what its samples are.

    Args:
        path: an ordinary file, or the content of one.
        decode: whether to decode it, and to look for damage that decoders pass over, which reads the whole file.
        most_pixels: larger images are refused before memory is allocated; None for no bound.

    Raises:
        CrissCrossError: missing, empty, damaged or unreadable file, one of another kind, or too many pixels.
    """
    name = "image" if isinstance(path, bytes) else str(path)
    with one_line_errors(name), BytesIO(path) if isinstance(path, bytes) else open_file(path) as file:
        if not (path if isinstance(path, bytes) else path.stat().st_size):
            raise CrissCrossError(f"{name}: empty file (0 bytes)")
        image, samples = _open(file, name, most_pixels)
        with image:
            if decode and image.format in LOADERS:
                LOADERS[image.format](file, image)
            elif decode:
                image.load()
            yield image, samples


def _open(file: BinaryIO, name: str, most_pixels: int | None) -> tuple[Any, Samples]:
    """The image that Pillow's class for this kind of content makes: none of its many other formats is tried."""
    from PIL import (
        BmpImagePlugin,
        ImageFile,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise CrissCrossError(f"{name}: PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set: set it to False, it hides damage")
    start = file.read(12)
    kind = next((kind for signature, kind in SIGNATURES.items() if start.startswith(signature)), None)
    if kind is None or (kind == "WebP" and start[8:] != b"WEBP"):
        accepted = ", ".join(dict.fromkeys(SIGNATURES.values()))
        raise CrissCrossError(f"{name}: not an image: its content is none of {accepted}")
    file.seek(0)
    samples = Samples()
    # Before Pillow opens it, which allocates the pixels of a WebP, and reads all tags of a TIFF.
    if kind == "WebP":
        samples, width, height = webp_header(file)
        check_size(width, height, most_pixels)
    elif kind == "TIFF":
        samples = tiff_samples(file, name)
    plugins: dict[str, tuple[Any, Callable[[BinaryIO, Any], Samples] | None]] = {
        "PNG": (PngImagePlugin.PngImageFile, png_samples),
        "JPEG": (JpegImagePlugin.JpegImageFile, jpeg_samples),
        "BMP": (BmpImagePlugin.BmpImageFile, bmp_samples),
        "PPM": (PpmImagePlugin.PpmImageFile, ppm_samples),
        "WebP": (WebPImagePlugin.WebPImageFile, None),
        "TIFF": (TiffImagePlugin.TiffImageFile, None),
    }
    create, ask = plugins[kind]
    file.seek(0)
    try:
        image = create(file)
    except SyntaxError as error:
        # What Pillow raises for a kind that it does not read.
        raise ValueError(f"{error}: {kind} of a kind that is not read; save it as 8-bit PNG") from None
    check_size(image.width, image.height, most_pixels)
    if ask:
        start_of_pixels = file.tell()
        samples = ask(file, image)
        file.seek(start_of_pixels)
    return image, samples


def check_size(width: int, height: int, most_pixels: int | None) -> None:
    """Refuse an image without extent, or one of more pixels than `most_pixels`.

    Raises:
        ValueError: it is refused; `TooManyPixels` for the second reason.
    """
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} pixels")
    if most_pixels is not None and width * height > most_pixels:
        raise TooManyPixels(
            f"{width} x {height} pixels are more than {most_pixels}: cut it into tiles, or label it by "
            "`crisscross predict --big`"
        )


@contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """Turn whatever goes wrong with an image file into one line.

    Raises:
        CrissCrossError: that line; it begins with `name`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except FileNotFoundError:
        raise CrissCrossError(f"{name}: no such file") from None
    except UnidentifiedImageError:
        raise CrissCrossError(f"{name}: not an image") from None
    # Damaged files make PIL's decoders fail in all these ways.
    except (
        *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, ArithmeticError),
        *(AttributeError, AssertionError, RuntimeError, MemoryError, struct.error, Image.DecompressionBombError),
    ) as error:
        text = " ".join(str(error).split())
        if not isinstance(error, (OSError, ValueError, SyntaxError)):
            text = f"damaged ({type(error).__name__} {text})"
        raise CrissCrossError(f"{name}: cannot be read: {text}") from None
