"""From files (or PIL pictures, or arrays) to uint8 arrays, with one clear line for everything that cannot be read."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.advice import colour_advice, label_advice, legal_values
from crisscross.data.dataset import DataSet, Pair
from crisscross.errors import CrissCrossError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
EXIF_ORIENTATION = 0x0112


def is_picture_file(path: Path) -> bool:
    """Whether the name is that of a picture. Hidden files, such as the `._name.jpg` of a Mac, are not meant."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def read_picture(source: "str | os.PathLike[str] | np.ndarray | Any") -> np.ndarray:
    """RGB uint8 [H, W, 3] of a path, a PIL picture or an array.

    Grey and palette pictures become RGB, transparency is laid over black, EXIF rotation is applied. 16-bit grey is
    divided by 256 when read from a file or PIL picture.

    Raises:
        CrissCrossError: missing, empty, truncated or unreadable file; floating-point or oddly shaped array.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, os.PathLike)):
        return _to_rgb(_open(Path(source), exif=True), str(source))
    if hasattr(source, "convert"):
        with _one_line_errors("picture"):
            return _to_rgb(_upright(source), "picture")
    raise CrissCrossError(f"a picture must be a path, a PIL picture or a uint8 array, got {type(source).__name__}")


def read_mask(path: str | os.PathLike[str], advice: str = "") -> np.ndarray:
    """Class numbers uint8 [H, W] of an index or palette picture, values as stored.

    `advice` ends the line about a colour mask.

    Raises:
        CrissCrossError: missing, empty, truncated or unreadable file; a colour mask; 16-bit values above 255.
    """
    picture = _open(Path(path), exif=False)
    if picture.mode in ("P", "L", "1"):
        # Mode 1 holds 0 and 1 here, not 0 and 255.
        return np.asarray(picture).astype(np.uint8)
    values = np.asarray(picture)
    if picture.mode.startswith("I"):
        if illegal := {int(values.min()), int(values.max())}.difference(range(256)):
            raise CrissCrossError(f"{path}: 16-bit mask with value {max(illegal)}; masks hold class numbers 0..255")
        return values.astype(np.uint8)
    if picture.mode == "RGB" and bool((values == values[..., :1]).all()):
        return np.ascontiguousarray(values[..., 0])
    raise CrissCrossError(f"{path}: {colour_mask(picture.mode)}{advice}")


def colour_mask(mode: str) -> str:
    """What to say of a mask in a PIL mode that holds no class numbers."""
    return f"a colour mask (mode {mode}); masks must be index or palette pictures holding class numbers 0..255"


def read_header(path: str | os.PathLike[str], exif: bool) -> tuple[str, int, int]:
    """PIL mode, width and height of a picture file, without decoding it.

    With `exif` the size is that after EXIF rotation, as far as the head of the file tells: a PNG may hold its EXIF
    behind the pixels.

    Raises:
        CrissCrossError: missing, empty or unreadable file.
    """
    with _opened(Path(path)) as picture:
        width, height = picture.size
        # Asking a PNG for EXIF that is not in its head decodes it; PIL itself turns a TIFF and its size.
        ask = exif and picture.format != "TIFF" and (picture.format != "PNG" or "exif" in picture.info)
        turned = ask and picture.getexif().get(EXIF_ORIENTATION) in (5, 6, 7, 8)
        return (picture.mode, height, width) if turned else (picture.mode, width, height)


def read_pair(pair: Pair, dataset: DataSet) -> tuple[np.ndarray, np.ndarray]:
    """Picture uint8 [H, W, 3] and mask uint8 [H, W] of one pair: class numbers, and `dataset.ignore` where none counts.

    Raises:
        CrissCrossError: unreadable file, sizes that differ, or a label outside the classes.
    """
    picture, mask = read_picture(pair.picture), read_mask(pair.mask, colour_advice(dataset))
    if picture.shape[:2] != mask.shape:
        raise CrissCrossError(
            f"{pair.mask}: the mask is {mask.shape[1]} x {mask.shape[0]}, "
            f"its picture {picture.shape[1]} x {picture.shape[0]}"
        )
    table = label_table(dataset)
    mapped = table[mask]
    if illegal := illegal_labels(mask, dataset):
        value, count = illegal[0]
        advice = label_advice(dataset, [value for value, _ in illegal])
        raise CrissCrossError(f"{pair.mask}: label {value} at {count} pixels, but {legal_values(dataset)}{advice}")
    return picture, mapped


def label_table(dataset: DataSet) -> np.ndarray:
    """uint8 [256]: what each stored mask value is read as; values that are not legal stay as they are."""
    table = np.arange(256, dtype=np.uint8)
    for stored, number in (dataset.labels or {}).items():
        table[stored] = number
    table[list(dataset.void)] = dataset.ignore
    return table


def illegal_labels(mask: np.ndarray, dataset: DataSet) -> list[tuple[int, int]]:
    """(value, pixels) for every stored mask value that is neither a class nor ignored.

    With `dataset.labels` only its keys are legal: `ignore` is a value of the masks only where they say so.
    """
    counts = np.bincount(mask.ravel(), minlength=256)
    known = {*range(len(dataset.classes)), dataset.ignore} if dataset.labels is None else set(dataset.labels)
    legal = known | set(dataset.void)
    return [(int(value), int(counts[value])) for value in np.flatnonzero(counts) if int(value) not in legal]


def _open(path: Path, exif: bool) -> Any:
    with _opened(path) as picture:
        picture.load()
        return _upright(picture) if exif else picture


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The PIL picture of a file, not yet decoded; whatever goes wrong with it ends as one line."""
    from PIL import Image

    with _one_line_errors(str(path)):
        if path.stat().st_size == 0:
            raise CrissCrossError(f"{path}: empty file (0 bytes)")
        with path.open("rb") as file, Image.open(file) as picture:
            yield picture


@contextmanager
def _one_line_errors(name: str) -> Iterator[None]:
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except FileNotFoundError as error:
        raise CrissCrossError(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise CrissCrossError(f"{name}: not a picture") from error
    # Damaged files make PIL's decoders fail in all these ways.
    except (
        *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, OverflowError),
        *(struct.error, Image.DecompressionBombError),
    ) as error:
        raise CrissCrossError(f"{name}: cannot be read: {' '.join(str(error).split())}") from error


def _upright(picture: Any) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


def _to_rgb(picture: Any, name: str) -> np.ndarray:
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        # Mode I has 32 bits a pixel: it may hold 8-bit values or, from older Pillow, a 16-bit file.
        if picture.mode != "I" or values.max(initial=0) > 255:
            values = values // 256
        return np.repeat(values.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode == "F":
        raise CrissCrossError(f"{name}: floating-point picture; save it as 8-bit RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        from PIL import Image

        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
    return np.array(picture.convert("RGB"))


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        raise CrissCrossError(f"a picture array must be uint8 (0..255), got {array.dtype}")
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise CrissCrossError(f"a picture array must be [H, W, 3] or [H, W], got {list(array.shape)}")
    return np.ascontiguousarray(array)
