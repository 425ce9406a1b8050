"""A label map in the formats that other tools read: PNG, polygons, COCO's run lengths, fractions of the classes.

Everywhere a label map is integers [H, W] in which label k is `classes[k]`. Labels that are no class, and those equal to
`ignore`, belong to nothing: they are in no polygon, no mask and no fraction.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from crisscross.data.color import Color, colorise, index_image

# [[x, y], ...] in pixels, corners of pixels: the whole image is (0, 0), (0, H), (W, H), (W, 0). Not closed.
Ring = list[list[int]]
# Pixels that are counted at once.
PIXELS = 2**20


def index_png(labels: np.ndarray, palette: Sequence[Color] | None = None) -> bytes:
    """A PNG whose pixel values are the labels (0..255), shown in the palette's colors or in gray.

    Raises:
        ValueError: a label outside 0..255.
    """
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise ValueError(f"an index PNG holds labels 0..255, got {labels.min()}..{labels.max()}")
    return png(index_image(np.ascontiguousarray(labels, np.uint8), palette))


def color_png(labels: np.ndarray, palette: Sequence[Color], ignore: int | None = None) -> bytes:
    """An RGB PNG of the labels in their colors; what is no class is black."""
    from PIL import Image

    return png(Image.fromarray(colorise(_with_ignored(labels, len(palette), ignore), palette)))


def png(image: Any) -> bytes:
    """A PIL image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def class_fractions(labels: np.ndarray, classes: int, ignore: int | None = None) -> np.ndarray:
    """The fraction (0..1) of all pixels that each class has: float64 [classes]."""
    counts = np.zeros(classes + 1, np.int64)
    # NumPy counts in 64 bits: a few rows at a time, since labels may be a mapped file of any size.
    rows = max(PIXELS // max(labels.shape[-1], 1), 1)
    for top in range(0, max(len(labels), 1), rows):
        part = _with_ignored(labels[top : top + rows], classes, ignore)
        counts += np.bincount(part.ravel(), minlength=classes + 1)
    return counts[:classes] / max(labels.size, 1)


def polygons(labels: np.ndarray, classes: Sequence[str], ignore: int | None = None) -> list[dict[str, Any]]:
    """The outline of every connected region of one class, along the edges of its pixels.

    Pixels are connected by their sides. Of a ring, x and y count corners of pixels: 0 is the left or upper edge of the
    image, W or H its other edge, so that the area inside a ring without its holes is the number of pixels, and filling
    the rings gives the label map back. Where a region touches itself by a corner, its ring passes that point twice.

    Returns:
        `{"class": number, "name": name, "polygon": [[x, y], ...], "holes": [[[x, y], ...], ...]}` of each region, by
        class; rings are not closed (the first point is not repeated).
    """
    return [
        {"class": number, "name": classes[number], "polygon": outer, "holes": holes}
        for number, mask in class_masks(labels, len(classes), ignore)
        for outer, holes in outlines(mask)
    ]


def class_masks(labels: np.ndarray, classes: int, ignore: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Number and mask bool [H, W] of each class that occurs."""
    sound = _with_ignored(labels, classes, ignore)
    for number in map(int, np.unique(sound[sound < classes])):
        yield number, sound == number


def outlines(mask: np.ndarray) -> Iterator[tuple[Ring, list[Ring]]]:
    """Outline and holes of every region of a mask bool [H, W]; see `polygons`."""
    import cv2

    if not mask.any():
        return
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    # OpenCV's outlines pass through pixels, and diagonal neighbors are connected. So the outside is outlined, which
    # leaves pixels of the mask connected by their sides alone, with every pixel as 2 x 2: then the four small pixels
    # around a corner of the outline, whichever of them it passes, all stand for that corner.
    outside = np.pad(~part, 1, constant_values=True).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    contours, tree = cv2.findContours(outside, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    rings = [_ring(contour[:, 0], left - 1, top - 1) for contour in contours]
    parents = tree[0, :, 3]
    depth = np.zeros(len(rings), np.int64)
    for number, parent in enumerate(parents):
        # Parents come first.
        depth[number] = 0 if parent < 0 else depth[parent] + 1
    inside: dict[int, list[Ring]] = {}
    for number, parent in enumerate(parents):
        if depth[number] % 2 == 0 and parent >= 0:
            inside.setdefault(int(parent), []).append(rings[number])
    for number in map(int, np.flatnonzero(depth % 2)):
        yield rings[number], inside.get(number, [])


def _ring(small: np.ndarray, left: int, top: int) -> Ring:
    """The corners of pixels that an outline [N, 2] through pixels of half the size stands for."""
    points = (small + 1) // 2
    points = points[(points != np.roll(points, 1, 0)).any(1)]
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return [[int(x) + left, int(y) + top] for x, y in points[turns]]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask bool [H, W] as COCO's compressed run lengths, `{"size": [H, W], "counts": text}`.

    `pycocotools.mask.decode` gives the mask back. Runs of 0 and 1 take turns down the columns, 0 first.
    """
    flat = np.asarray(mask, bool).ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    if flat.size and flat[0]:
        runs = [0, *runs]
    return {"size": [int(side) for side in mask.shape], "counts": _text(runs)}


def _text(runs: Sequence[int]) -> str:
    """Each run as its difference from the last but one (from the fourth on), five bits a character, lowest first.

    The sixth bit says that more follow; the last five bits are read with their sign. Characters begin at `0` (48).
    """
    characters = []
    for place, run in enumerate(runs):
        value, more = run - runs[place - 2] if place > 2 else run, True
        while more:
            piece = value & 31
            value >>= 5
            more = value != (-1 if piece & 16 else 0)
            characters.append(chr(48 + (piece | 32 * more)))
    return "".join(characters)


def coco_categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's `categories`: class k has the id k + 1, because many readers take 0 for the background."""
    return [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(classes, 1)]


def coco_image(number: int, name: str, labels: np.ndarray) -> dict[str, Any]:
    """An entry of COCO's `images`."""
    return {"id": number, "file_name": name, "width": int(labels.shape[1]), "height": int(labels.shape[0])}


def coco_annotations(
    labels: np.ndarray, classes: int, image_id: int = 1, first_id: int = 1, ignore: int | None = None
) -> list[dict[str, Any]]:
    """COCO's `annotations` of one image: one for each class that occurs, with all its pixels as run lengths.

    Args:
        labels: integers [H, W].
        classes: number of classes.
        image_id: of the image, as in `coco_image`.
        first_id: of the first annotation; the others count on.
        ignore: a label that is no class, whatever its number.
    """
    found = class_masks(labels, classes, ignore)
    return [
        coco_annotation(mask, annotation_id, image_id, number + 1)
        for annotation_id, (number, mask) in enumerate(found, first_id)
    ]


def coco_annotation(mask: np.ndarray, annotation_id: int, image_id: int, category_id: int) -> dict[str, Any]:
    """An entry of COCO's `annotations`, of a mask bool [H, W] that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": run_lengths(mask),
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "iscrowd": 0,
    }


def csv_row(image: str, fractions: Iterable[float]) -> list[str]:
    """An image's row of a table of fractions; its head is `["image", *classes]`."""
    return [image, *(f"{value:.6f}" for value in fractions)]


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as CSV; commas and quotes in names are quoted."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _with_ignored(labels: np.ndarray, classes: int, ignore: int | None) -> np.ndarray:
    """The labels, with `classes` in place of all that is no class.

    Raises:
        TypeError: they are not integers.
        ValueError: they are not [H, W].
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.ndim != 2:
        raise ValueError(f"labels must be [H, W], got {list(labels.shape)}")
    none = (labels < 0) | (labels >= classes)
    if ignore is not None:
        none |= labels == ignore
    return np.where(none, classes, labels).astype(np.int64)
