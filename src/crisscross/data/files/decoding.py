"""The only place that opens image files: which kinds are accepted, how large, and whether they are whole."""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from crisscross.data.files import headers as heads
from crisscross.data.files.containers import check_jpeg, check_png, check_png_rows
from crisscross.data.files.headers import Samples
from crisscross.errors import CrissCrossError

# What decoding takes at most, with transparency: two images of 4 bytes, and the array twice.
BYTES_A_PIXEL = 17
# An RGB image takes 1.3 GB while it is decoded.
MOST_PIXELS = 1 << 27
FILLING = b"\x55" * 64
# First bytes -> kind. Content decides, whatever the name ends with.
SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"RIFF": "WebP",
    b"BM": "BMP",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), "PPM"),
}


def open_file(path: Path) -> BinaryIO:
    """An ordinary file, to be read.

    Raises:
        OSError: there is none, or it may not be read.
        CrissCrossError: it is a FIFO, a socket or a device: opening those waits for others, reading them may never end.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise CrissCrossError(f"{path}: cannot be read: a FIFO, socket or device, not an ordinary file")
    return path.open("rb")


@contextmanager
def opened(path: Path, decode: bool, most_pixels: int | None = MOST_PIXELS) -> Iterator[tuple[Any, Samples]]:
    """The Pillow image of a file, and what its samples are.

    Args:
        path: an ordinary file.
        decode: whether to decode it, and to look for damage that decoders pass over, which reads the whole file.
        most_pixels: more are refused before room is made for them; None for no bound.

    Raises:
        CrissCrossError: missing, empty, damaged or unreadable file, one of another kind, or too many pixels.
    """
    with one_line_errors(str(path)), open_file(path) as file:
        if path.stat().st_size == 0:
            raise CrissCrossError(f"{path}: empty file (0 bytes)")
        image, samples = _open(file, str(path), most_pixels)
        with image:
            if decode:
                _decode(file, image)
            yield image, samples


def _open(file: BinaryIO, name: str, most_pixels: int | None) -> tuple[Any, Samples]:
    """What Pillow's class for this kind of content makes of it: no other of its many formats is ever asked."""
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
    # These two are asked first: Pillow makes room for a WebP, and reads all tags of a TIFF, when it opens one.
    if kind == "WebP":
        samples, width, height = heads.webp_head(file)
        check_size(width, height, most_pixels)
    elif kind == "TIFF":
        samples = heads.tiff_samples(file, name)
    plugins: dict[str, tuple[Callable[..., Any], Callable[..., Samples] | None]] = {
        "PNG": (PngImagePlugin.PngImageFile, heads.png_samples),
        "JPEG": (JpegImagePlugin.JpegImageFile, heads.jpeg_samples),
        "BMP": (BmpImagePlugin.BmpImageFile, heads.bmp_samples),
        "PPM": (PpmImagePlugin.PpmImageFile, heads.ppm_samples),
        "WebP": (WebPImagePlugin.WebPImageFile, None),
        "TIFF": (TiffImagePlugin.TiffImageFile, None),
    }
    create, ask = plugins[kind]
    file.seek(0)
    try:
        image = create(file)
    except SyntaxError as error:
        # Pillow's word for what it does not know.
        raise ValueError(f"{error}: {kind} of a kind that is not read; save it as 8-bit PNG") from error
    check_size(image.width, image.height, most_pixels)
    if ask:
        place = file.tell()
        samples = ask(file, image)
        file.seek(place)
    return image, samples


def check_size(width: int, height: int, most_pixels: int | None) -> None:
    """Refuse an image without extent, or one of more pixels than `most_pixels`.

    Raises:
        ValueError: it is refused.
    """
    if width < 1 or height < 1:
        raise ValueError(f"{width} x {height} pixels")
    if most_pixels is not None and width * height > most_pixels:
        raise ValueError(
            f"{width} x {height} pixels are more than {most_pixels}: cut it into tiles, or label it by "
            "`crisscross predict --big`"
        )


def _decode(file: BinaryIO, image: Any) -> None:
    place = file.tell()
    if image.format == "PNG":
        check_png(file)
    elif image.format == "JPEG":
        file.seek(0)
        content = file.read()
        end = check_jpeg(content)
    file.seek(place)
    image.load()
    if image.format == "PNG" and (image.info.get("interlace") or not any(_last_row(image).tobytes())):
        check_png_rows(file)
    if image.format == "JPEG" and _ends_grey(image):
        # The decoder paints gray what is missing. Whether it is, more bits tell: then they become pixels.
        longer = type(image)(io.BytesIO(content[:end] + FILLING + content[end:]))
        if longer.tobytes() != image.tobytes():
            raise ValueError("cut off: its coded pixels end before its last rows")


def _last_row(image: Any) -> Any:
    return image.crop((0, image.height - 1, image.width, image.height))


def _ends_grey(image: Any) -> bool:
    """Whether the last pixel is what decoders make of missing ones: 128 in all bands, in inverted ones 127."""
    last = _last_row(image).getpixel((image.width - 1, 0))
    return set(last if isinstance(last, tuple) else (last,)) <= {127, 128}


@contextmanager
def one_line_errors(name: str) -> Iterator[None]:
    """Turn whatever goes wrong with an image file into one line.

    Raises:
        CrissCrossError: that line; it begins with `name`.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except FileNotFoundError as error:
        raise CrissCrossError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise CrissCrossError(f"{name}: not an image") from error
    # Damaged files make PIL's decoders fail in all these ways.
    except (
        *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, ArithmeticError),
        *(AttributeError, AssertionError, RuntimeError, MemoryError, struct.error, Image.DecompressionBombError),
    ) as error:
        text = " ".join(str(error).split())
        if not isinstance(error, (OSError, ValueError, SyntaxError)):
            text = f"damaged ({type(error).__name__} {text})"
        raise CrissCrossError(f"{name}: cannot be read: {text}") from error
