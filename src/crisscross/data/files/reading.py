"""From files (or PIL images, or arrays) to uint8 arrays, with one clear line for everything that cannot be read."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.color import labels_of_colors, palette_of
from crisscross.data.cures import prepare_masks
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.decoding import MOST_PIXELS, one_line_errors, open_file, opened
from crisscross.data.files.samples import Samples
from crisscross.data.files.tiff import FLOATING_POINT, orientation, pillow_samples
from crisscross.data.labels import label_problem, label_table
from crisscross.errors import CrissCrossError, shown

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
LARGEST_16_BIT = 65535


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image. Hidden files, such as the `._name.jpg` of a Mac, are not images."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def open_array(path: Path) -> np.ndarray:
    """The uint8 array of a file `.npy`, mapped into memory once its header is known to fit the file's length.

    Raises:
        CrissCrossError: missing or unreadable file, another kind of file or of numbers, or one that is cut off.
    """
    try:
        with open_file(path) as file:
            version = np.lib.format.read_magic(file)
            if version not in NPY_HEADERS:
                raise ValueError(f"its format is {version}")
            shape, by_columns, kind = NPY_HEADERS[version](file)
            start = file.tell()
        # For types without extent NumPy ends the process in place of raising an error.
        if kind != np.uint8:
            raise ValueError(f"it holds {shown(kind)}, not uint8")
        if min(shape, default=0) < 0 or start + math.prod(shape) > path.stat().st_size:
            raise ValueError(f"it is shorter than its shape {shown(shape)}")
        return np.memmap(path, np.uint8, "r", start, shape, "F" if by_columns else "C")
    except CrissCrossError:
        raise
    # The header is parsed as Python, which fails in many ways.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CrissCrossError(f"{path}: not a readable array file: {reason}") from None


def read_image(
    source: "str | os.PathLike[str] | bytes | np.ndarray | Any", most_pixels: int | None = MOST_PIXELS
) -> np.ndarray:
    """RGB uint8 [H, W, 3] of a path, the content of a file, a PIL image or an array.

    Gray and palette images become RGB, transparency is laid over black, EXIF rotation is applied, of 16 bits the
    upper 8 are read; docs/data.md lists what is accepted. A file of more than `most_pixels` pixels is not decoded.

    Raises:
        CrissCrossError: missing, empty, damaged or unreadable file; one of a kind that is not accepted; floating-point
            or oddly shaped array.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, (str, os.PathLike, bytes)):
        file = source if isinstance(source, bytes) else Path(source)
        with opened(file, decode=True, most_pixels=most_pixels) as (image, samples):
            return _to_rgb(_upright(image), samples)
    if hasattr(source, "convert"):
        from PIL import ImageOps

        with one_line_errors("image"):
            given = pillow_samples(source) if hasattr(source, "tag_v2") else None
            return _to_rgb(ImageOps.exif_transpose(source), given)
    raise CrissCrossError(f"an image must be a path, a PIL image or a uint8 array, got {type(source).__name__}")


def read_mask(path: str | os.PathLike[str]) -> np.ndarray:
    """Class numbers uint8 [H, W] of an index, gray or palette image, values as stored.

    Raises:
        CrissCrossError: missing, empty, damaged or unreadable file; a color mask; one that was compressed with loss or
            is to be turned by its EXIF data; values above 255.
    """
    with opened(Path(path), decode=True) as (image, samples):
        if problem := mask_problem(image, samples):
            raise CrissCrossError(f"{path}: {problem}")
        values = np.asarray(image)
        if image.mode in ("P", "L", "1"):
            # Mode 1 holds 0 and 1 here, not 0 and 255.
            return _stored(values.astype(np.uint8), samples, 1 if image.mode == "1" else 255)
        if image.mode.startswith("I"):
            values = _stored(values, samples, max(samples.largest, LARGEST_16_BIT))
            if illegal := {int(values.min()), int(values.max())}.difference(range(256)):
                if set(np.unique(values).tolist()) <= {0, LARGEST_16_BIT}:
                    cure = prepare_masks(Path(path), f"0,{LARGEST_16_BIT}")
                    raise CrissCrossError(f"{path}: 16-bit mask of 0 and {LARGEST_16_BIT}; {cure} makes them classes")
                raise CrissCrossError(
                    f"{path}: 16-bit mask with value {max(illegal)}; masks hold class numbers 0..255; if each value is "
                    f"one object, {prepare_masks(Path(path), '0,1')} makes all objects one class"
                )
            return values.astype(np.uint8)
        if bool((values == values[..., :1]).all()):
            return _stored(np.ascontiguousarray(values[..., 0]), samples, 255)
        raise CrissCrossError(f"{path}: {_color_mask(image.mode)}")


def _stored(values: np.ndarray, samples: Samples, top: int) -> np.ndarray:
    """Gray as stored of gray as decoded, which was scaled to 0..`top` and perhaps inverted."""
    if samples.inverted:
        values = top - values
    if samples.largest == top:
        return values
    table = (np.arange(top + 1, dtype=np.int64) * samples.largest + top // 2) // top
    return table.astype(values.dtype)[values]


def mask_problem(image: Any, samples: Samples) -> str:
    """Why an opened file cannot be a mask, as far as its header shows; empty where it can.

    RGB may be gray, which only the pixels show.
    """
    if samples.lossy:
        return (
            f"a mask compressed with loss ({samples.lossy}): it invents classes beside every edge; write it again from "
            "its source as PNG (converting this file keeps the damage)"
        )
    if turned(image, samples):
        return "a mask with an EXIF rotation, which is not applied to masks; save it upright, without EXIF data"
    if image.mode == "RGB" and samples.largest > 255:
        return "16-bit colors; masks must be index or palette images holding class numbers 0..255"
    if image.mode in ("1", "L", "P", "RGB") and not samples.extra:
        return ""
    return "" if image.mode.startswith("I") else _color_mask(image.mode)


def turned(image: Any, samples: Samples) -> bool:
    """Whether the EXIF data of an opened file turn or mirror it."""
    return bool(samples.turn != 1 or orientation(image) != 1)


def exif_turn(path: Path) -> int:
    """The EXIF orientation of an image, 1 to 8, as far as its header shows; 1 where it cannot be read."""
    try:
        with opened(path, decode=False, most_pixels=None) as (image, samples):
            return max(samples.turn, orientation(image))
    except CrissCrossError:
        return 1


def _color_mask(mode: str) -> str:
    """The error of a mask in a PIL mode that holds no class numbers."""
    return (
        f"a color mask (mode {mode}); masks must be index or palette images holding class numbers 0..255; "
        "crisscross.data.color.labels_of_colors turns colors into class numbers"
    )


def read_header(
    path: str | os.PathLike[str], mask: bool = False, most_pixels: int | None = MOST_PIXELS
) -> tuple[int, int]:
    """Width and height of an image (after EXIF rotation) or mask, without decoding it.

    Only the header is read: EXIF data that a PNG holds behind its pixels are not seen.

    Raises:
        CrissCrossError: missing, empty or unreadable file, or one of a kind that is not accepted.
    """
    with opened(Path(path), decode=False, most_pixels=most_pixels) as (image, samples):
        if mask and (problem := mask_problem(image, samples)):
            raise CrissCrossError(f"{path}: {problem}")
        # Some versions of Pillow give the size of a TIFF after its rotation.
        width, height = (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size
        return (height, width) if max(samples.turn, orientation(image)) >= 5 else (width, height)


def read_pair(pair: Pair, dataset: DataSet) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [H, W, 3] and mask uint8 [H, W] of one pair: class numbers, and `dataset.ignore` for ignored pixels.

    Raises:
        CrissCrossError: unreadable file, sizes that differ, or a label outside the classes.
    """
    image, mask = read_image(pair.image), read_stored(pair.mask, dataset)
    if image.shape[:2] != mask.shape:
        raise CrissCrossError(
            f"{pair.mask}: the mask is {mask.shape[1]} x {mask.shape[0]}, its image {image.shape[1]} x {image.shape[0]}"
        )
    if problem := label_problem(mask, dataset, pair.mask):
        raise CrissCrossError(f"{pair.mask}: {problem}")
    return image, label_table(dataset)[mask]


def read_stored(path: Path, dataset: DataSet) -> np.ndarray:
    """The values uint8 [H, W] that a mask of a data set stores: numbers, or those of the classes whose colors it shows.

    Raises:
        CrissCrossError: as `read_mask`, or a color that no class has; the most frequent one is named.
    """
    if not dataset.colored:
        return read_mask(path)
    with opened(path, decode=True) as (image, samples):
        colors = np.asarray(image.convert("RGB")) if color_image(image, samples) or _shows(image, dataset) else None
    if colors is None:
        return read_mask(path)
    labels = labels_of_colors(colors, dataset.palette)
    if (unknown := labels < 0).any():
        found, counts = np.unique(colors[unknown], axis=0, return_counts=True)
        worst = found[counts.argmax()]
        distances = ((np.array(dataset.palette, np.int64) - worst) ** 2).sum(axis=1)
        raise CrissCrossError(
            f"{path}: color {worst.tolist()} at {counts.max()} pixels (one of {len(found)}) is no class; nearest is "
            f"{dataset.classes[distances.argmin()]} {list(dataset.palette[distances.argmin()])}"
        )
    return labels.astype(np.uint8)


def _shows(image: Any, dataset: DataSet) -> bool:
    """Whether an opened palette image shows colors of classes alone: then these count, not the numbers behind them."""
    table = palette_of(image)
    return bool(table) and {table.get(value) for value in np.unique(np.asarray(image)).tolist()} <= {*dataset.palette}


def color_image(image: Any, samples: Samples) -> bool:
    """Whether an opened mask shows colors: it has three channels that differ somewhere, or is black all over."""
    if image.mode not in ("RGB", "RGBA") or samples.lossy:
        return False
    pixels = np.asarray(image)[..., :3]
    return bool((pixels != pixels[..., :1]).any() or not pixels.any())


def _upright(image: Any) -> Any:
    """A decoded image, rotated by its EXIF orientation."""
    from PIL.Image import Transpose

    turn = orientation(image)
    if turn == 1:
        return image

    turns = (
        *(Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM, Transpose.TRANSPOSE),
        *(Transpose.ROTATE_270, Transpose.TRANSVERSE, Transpose.ROTATE_90),
    )
    return image.transpose(turns[turn - 2])


def _to_rgb(image: Any, samples: Samples | None) -> np.ndarray:
    """RGB of a decoded image; `samples` is None for one that did not come from a file of ours."""
    from PIL import Image

    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if samples and samples.largest > LARGEST_16_BIT:
            raise ValueError("a gray image of 32 bits; save it as 8-bit gray or RGB")
        # Mode I in memory may hold 8-bit values or, from older Pillow, a 16-bit file.
        if samples or image.mode != "I" or values.max(initial=0) > 255:
            values = values // 256
        if isinstance(transparent, int):
            values = np.where(np.asarray(image) == transparent, 0, values)
        return np.repeat(values.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError(FLOATING_POINT)
    if samples and image.mode == "P" and image.getextrema()[1] >= len(image.getpalette() or ()) // 3:
        raise ValueError("damaged: it holds numbers beyond its palette")
    if image.mode == "La":
        image = image.convert("LA")
    alpha = image.mode in ("RGBA", "LA", "PA", "RGBa") and not (samples and samples.no_alpha)
    # Writers of 32-bit BMP leave the fourth byte 0, which does not make the image transparent.
    if alpha and image.format == "BMP" and not image.getchannel("A").getextrema()[1]:
        alpha = False
    if alpha or transparent is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    # `convert` would copy an RGB image, which is a third more memory.
    image = image if image.mode == "RGB" else image.convert("RGB")
    return np.array(image)


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        raise CrissCrossError(f"an image array must be uint8 (0..255), got {array.dtype}")
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise CrissCrossError(f"an image array must be [H, W, 3] or [H, W], got {list(array.shape)}")
    return np.ascontiguousarray(array)
