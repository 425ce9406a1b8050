"""Label maps as colors, for images that people look at."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from crisscross.files import write_atomically

Color = Sequence[int]


def colorise(labels: np.ndarray, palette: Sequence[Color], ignore_color: Color = (0, 0, 0)) -> np.ndarray:
    """Paint every label in its palette color.

    Args:
        labels: integers [H, W] (any leading shape works). A label outside 0..len(palette)-1, such as 255, is ignored.
        palette: one (red, green, blue) in 0..255 for each class.
        ignore_color: what the ignored labels get.

    Returns:
        uint8 [H, W, 3].

    Raises:
        TypeError: the labels are not integers (such as a map of probabilities).
    """
    labels = np.asarray(labels)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    table = np.array([*map(tuple, palette), tuple(ignore_color)], dtype=np.uint8)
    return table[np.where(_has_color(labels, palette), labels, len(palette)).astype(np.intp)]


def overlay(image: np.ndarray, labels: np.ndarray, palette: Sequence[Color], alpha: float = 0.5) -> np.ndarray:
    """Lay the palette colors over an image; ignored pixels and black classes keep the image's own color.

    Black is the color of the background: painted, it would darken the image and show nothing.

    Args:
        image: uint8 RGB [H, W, 3].
        labels: integers [H, W].
        palette: one (red, green, blue) in 0..255 for each class.
        alpha: fraction of the label color, 0 (image only) to 1 (labels only).

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: the two sizes differ, or alpha lies outside 0..1.
    """
    if image.shape != (*labels.shape, 3):
        raise ValueError(f"image {image.shape} and labels {labels.shape} must be [H, W, 3] and [H, W] of one size")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in 0..1, got {alpha}")
    # For each class and channel what becomes of each of the 256 values; the last row is for ignored pixels.
    colors = np.array([*map(tuple, palette), (0, 0, 0)], np.uint8)
    values = np.arange(256)
    mixed = np.rint(values * (1 - alpha) + colors[:, :, None] * alpha)
    table = np.where(colors[:, :, None].any(1, keepdims=True), mixed, values).astype(np.uint8)
    row = np.where(_has_color(labels, palette), labels, len(palette)).astype(np.intp) * 256
    out = np.empty_like(image)
    for channel in range(3):
        out[..., channel] = table[:, channel].ravel().take(row + image[..., channel])
    return out


def _has_color(labels: np.ndarray, palette: Sequence[Color]) -> np.ndarray:
    """True where a label has a palette color: bool, same shape as the labels."""
    return (labels >= 0) & (labels < len(palette))


def labels_of_colors(
    colors: np.ndarray, palette: Sequence[Color], others: Mapping[tuple[int, int, int], int] | None = None
) -> np.ndarray:
    """Class numbers of a color mask: the reverse of `colorise`.

    Args:
        colors: uint8 RGB [H, W, 3].
        palette: one (red, green, blue) in 0..255 for each class; of equal colors the first class counts.
        others: further colors and their numbers, such as the border of Pascal VOC.

    Returns:
        int16 [H, W]: class numbers, the numbers of `others`, and -1 where a color is in neither.
    """
    table = dict(others or {})
    for number, (red, green, blue) in reversed(list(enumerate(palette))):
        table[red, green, blue] = number
    packed = colors.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    found, inverse = np.unique(packed, return_inverse=True)
    numbers = [table.get((int(c) >> 16, int(c) >> 8 & 255, int(c) & 255), -1) for c in found]
    return np.array(numbers, np.int16)[inverse].reshape(packed.shape)


def index_image(labels: np.ndarray, palette: Sequence[Color] | None = None) -> Any:
    """A PIL image whose pixel values are the labels uint8 [H, W]: with these colors, or gray without any."""
    from PIL import Image

    image = Image.fromarray(labels)
    if palette is not None:
        # Pillow stores as few bits as the palette needs, which would change a label beyond its end: gray fills it up.
        needed = int(labels.max(initial=0)) + 1
        colors = [*palette, *((value, value, value) for value in range(len(palette), needed))]
        image.putpalette([channel for color in colors for channel in color])
    return image


def write_mask(path: str | os.PathLike[str], labels: np.ndarray, palette: Sequence[Color] | None = None) -> None:
    """Write labels uint8 [H, W] as an index PNG, with colors where a palette is given.

    Raises:
        CrissCrossError: the file cannot be written.
    """
    write_atomically(path, partial(index_image(labels, palette).save, format="PNG"))


def palette_of(image: Any) -> dict[int, tuple[int, int, int]]:
    """The color of each number of an opened palette image; none where it is not one, or its colors are gray levels."""
    if image.mode != "P":
        return {}
    flat = image.getpalette("RGB") or []
    colors = [(flat[k], flat[k + 1], flat[k + 2]) for k in range(0, len(flat) - 2, 3)]
    gray = all(len(set(color)) == 1 for color in colors)
    return {} if gray else dict(enumerate(colors))
