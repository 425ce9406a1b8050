"""Index masks drawn from polygons and crops, as labeling tools store them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.files.reading import read_header

Point = tuple[float, float]
FARTHEST = 1e6


@dataclass(frozen=True)
class Shape:
    """A region of one class: rings of points (x, y) in pixels, of which those in `holes` are cut out, or a `crop` bool
    [h, w] whose upper left corner lies at `corner` (x, y)."""

    label: int
    rings: Sequence[Sequence[Point]] = ()
    holes: Sequence[Sequence[Point]] = ()
    crop: np.ndarray | None = None
    corner: tuple[int, int] = (0, 0)


def ring_of(points: Iterable[Any]) -> list[Point]:
    """A ring of points from outside.

    Raises:
        TypeError, ValueError: what is there are no pairs of numbers, or numbers far beyond any image.
    """
    ring = [(float(x), float(y)) for x, y in points]
    if not all(abs(value) <= FARTHEST for point in ring for value in point):
        raise ValueError("a point far outside the image")
    return ring


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as it is shown."""
    width, height = read_header(path)
    return height, width


def draw_shapes(size: tuple[int, int], shapes: Iterable[Shape], background: int = 0) -> np.ndarray:
    """Labels uint8 [H, W] of shapes drawn in their order, later ones over earlier ones; what lies outside is cut off.

    Args:
        size: (height, width).
        shapes: what to draw.
        background: the label of pixels that no shape covers.
    """
    labels = np.full(size, background, np.uint8)
    for shape in shapes:
        labels[_covered(size, shape)] = shape.label
    return labels


def _covered(size: tuple[int, int], shape: Shape) -> np.ndarray:
    from PIL import Image, ImageDraw

    if shape.crop is not None:
        covered = np.zeros(size, bool)
        left, top = shape.corner
        rows, columns = slice(max(top, 0), top + shape.crop.shape[0]), slice(max(left, 0), left + shape.crop.shape[1])
        target = covered[rows, columns]
        target |= shape.crop[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
        return covered
    canvas = Image.new("1", (size[1], size[0]))
    pen = ImageDraw.Draw(canvas)
    for value, rings in ((1, shape.rings), (0, shape.holes)):
        for ring in rings:
            if len(ring) >= 3:
                # The outline of a hole belongs to the region around it.
                pen.polygon([tuple(point) for point in ring], fill=value, outline=1)
    return np.asarray(canvas)


def area(ring: Sequence[Point]) -> float:
    """The area that a ring of points encloses, in square pixels."""
    x, y = np.array(ring, np.float64).T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
