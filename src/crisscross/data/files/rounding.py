"""Index masks from masks whose values scatter: compressed with loss, or with soft edges."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crisscross.data.color import write_mask
from crisscross.data.files.decoding import opened
from crisscross.data.files.reading import turned
from crisscross.errors import CrissCrossError

# Gray (65535 for 16 bits), or red, green and blue.
Value = int | tuple[int, int, int]


def parse_values(text: str) -> tuple[Value, ...]:
    """The values of classes 0, 1, ... from text such as `0,255` or `#000000,#ff0000`.

    Raises:
        CrissCrossError: fewer than two, one twice, grays mixed with colors, or a word that is neither.
    """
    words = [word.strip() for word in text.split(",")]
    grays = all(re.fullmatch(r"[0-9]{1,5}", word) and int(word) <= 65535 for word in words)
    if not grays and not all(re.fullmatch(r"#[0-9a-fA-F]{6}", word) for word in words):
        raise CrissCrossError(f"{text!r:.80}: give gray values such as 0,255, or colors such as #000000,#ff0000")
    values: tuple[Value, ...] = tuple(map(int, words)) if grays else tuple(map(_color, words))
    if not 2 <= len(values) <= 255 or len(set(values)) < len(values):
        raise CrissCrossError(f"{text!r:.80}: give 2 to 255 values that differ, one for each class in order")
    return values


def _color(word: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(word[1:])
    return red, green, blue


def nearest_class(pixels: np.ndarray, values: Sequence[Value]) -> np.ndarray:
    """uint8 [H, W]: the number of the value that is nearest to each pixel, of two equally near ones the first.

    Args:
        pixels: gray [H, W], or colors [H, W, 3] where the values are colors.
        values: grays or colors, see `parse_values`.
    """
    channels = 1 if pixels.ndim == 2 else 3
    flat = pixels.reshape(-1, channels)
    found, inverse = np.unique(flat, axis=0, return_inverse=True)
    wanted = np.array(values, np.int64).reshape(-1, channels)
    distances = ((found.astype(np.int64)[:, None] - wanted) ** 2).sum(axis=2)
    return distances.argmin(axis=1).astype(np.uint8)[inverse.reshape(-1)].reshape(pixels.shape[:2])


def round_mask(source: Path, target: Path, values: Sequence[Value]) -> int:
    """Write an index PNG whose numbers are those of the nearest values.

    A mask whose colors are all the same and whose transparency differs is read by its transparency.

    Returns:
        How many pixels had none of the values exactly.

    Raises:
        CrissCrossError: a source that cannot be read or is turned by its EXIF data, a target that cannot be written.
    """
    with opened(source, decode=True) as (image, samples):
        if turned(image, samples):
            raise CrissCrossError(f"{source}: a mask with an EXIF rotation; save it upright, without EXIF data")
        if isinstance(values[0], tuple):
            pixels = np.asarray(image.convert("RGB"))
        elif image.mode.startswith("I"):
            pixels = np.asarray(image)
        else:
            pixels = np.asarray(image.convert("L"))
            if image.mode in ("RGBA", "LA", "PA") and pixels.min() == pixels.max():
                pixels = np.asarray(image.getchannel("A"))
    labels = nearest_class(pixels, values)
    table = np.array(values)
    exact = table[labels] == pixels
    write_mask(target, labels)
    return int(np.count_nonzero(~(exact if exact.ndim == 2 else exact.all(axis=2))))
