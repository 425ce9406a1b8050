"""Masks as COCO writes them: polygons, and run lengths as a list (uncompressed) or as a text (compressed)."""

from typing import Any

import numpy as np

from crisscross.errors import CrissCrossError, import_extra

# A polygon has three corners; pycocotools would take four numbers for a box.
CORNERS = 3
# COCO's own polygons touch the border and exceed it by rounding.
BEYOND = 1.0
# pycocotools walks along the outline of a polygon in fifths of a pixel, in memory, with 32-bit numbers.
FARTHEST, LONGEST = 1e6, 4e6


class Drop(Exception):
    """An annotation without a usable mask; the text is the reason."""


def import_coco() -> Any:
    """pycocotools.

    Raises:
        CrissCrossError: it is not installed.
    """
    import_extra("pycocotools.mask", "reading annotations of COCO", "instances")
    return import_extra("pycocotools", "reading annotations of COCO", "instances")


def checked(entry: dict[str, Any], height: int, width: int, where: str) -> tuple[dict[str, Any], bool]:
    """An annotation with every field that evaluation wants, and whether it reached beyond its image.

    Polygons lose those of less than three corners; the box is clipped to the image.

    Args:
        entry: as the file has it.
        height: of its image, in pixels.
        width: likewise.
        where: the beginning of errors about it.

    Raises:
        Drop: no mask, or no area inside the image.
        CrissCrossError: a field of another kind than COCO's, or a number that no image has.
    """
    shape, beyond = checked_shape(entry.get("segmentation"), height, width, where)
    crowd, area, box = (entry.get(name) for name in ("iscrowd", "area", "bbox"))
    if crowd is not None and crowd not in (0, 1):
        raise CrissCrossError(f"{where}: iscrowd must be 0 or 1, got {crowd!r:.60}")
    if area is not None and not (_is_number(area) and area >= 0):
        raise CrissCrossError(f"{where}: area must be a number of at least 0, got {area!r:.60}")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        raise CrissCrossError(f"{where}: bbox must be [left, top, width, height], got {box!r:.60}")
    if area is None or box is None:
        check_shape(shape, where)
    left, top, wide, high = map(float, _box_of(shape, height, width) if box is None else box)
    right, bottom = min(left + wide, width), min(top + high, height)
    left, top = max(left, 0.0), max(top, 0.0)
    if right <= left or bottom <= top:
        raise Drop("without area inside their image")
    sound = {
        **{name: entry[name] for name in ("id", "image_id", "category_id")},
        **{"segmentation": shape, "iscrowd": int(crowd or 0), "bbox": [left, top, right - left, bottom - top]},
        "area": float(import_coco().mask.area(to_rle(shape, height, width)) if area is None else area),
    }
    return sound, beyond


def checked_shape(shape: Any, height: int, width: int, where: str) -> tuple[Any, bool]:
    """A `segmentation` that pycocotools can take, and whether it reaches beyond its image. Polygons lose those of
    less than three corners; whether a text of run lengths is whole is checked when it is decoded.

    Raises:
        Drop: no polygon.
        CrissCrossError: neither polygons nor run lengths of this size; a corner more than a million pixels away, or an
            outline of more than four million.
    """
    if isinstance(shape, list):
        return _polygons(shape, height, width, where)
    if isinstance(shape, dict):
        return _run_lengths(shape, height, width, where), False
    raise CrissCrossError(f"{where}: segmentation must be polygons or run lengths, got {shape!r:.40}")


def _is_number(value: Any) -> bool:
    """Whether a value is a number that C code can take: NaN, infinities and 10**30 are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e18 < value < 1e18


def _polygons(shape: list[Any], height: int, width: int, where: str) -> tuple[list[list[float]], bool]:
    kept, beyond = [], False
    for polygon in shape:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(map(_is_number, polygon)):
            raise CrissCrossError(f"{where}: a polygon must be a list x, y, x, y, ..., got {polygon!r:.60}")
        if len(polygon) < 2 * CORNERS:
            continue
        x, y = polygon[0::2], polygon[1::2]
        left, right, top, bottom = min(x), max(x), min(y), max(y)
        if left < -BEYOND or top < -BEYOND or right > width + BEYOND or bottom > height + BEYOND:
            beyond = True
            if (far := max(right, bottom, -left, -top)) > FARTHEST:
                raise CrissCrossError(
                    f"{where}: a polygon has a corner {far:g} pixels away, its image is {width} x {height}; mend or "
                    "remove this annotation"
                )
        # No outline is longer than as many times across as there are corners.
        if len(x) * max(right - left, bottom - top) > LONGEST and (length := _outline(x, y)) > LONGEST:
            raise CrissCrossError(
                f"{where}: a polygon has an outline of {length:.0f} pixels, at most {LONGEST:.0f} are read; store this "
                "mask as run lengths"
            )
        kept.append(polygon)
    if not kept:
        raise Drop("with an empty mask")
    return kept, beyond


def _outline(x: list[float], y: list[float]) -> float:
    """Steps along a closed polygon, each to one of the eight neighbors."""
    corners = np.array([x, y], np.float64)
    return float(np.abs(corners - np.roll(corners, 1, axis=1)).max(0).sum())


def _run_lengths(shape: dict[str, Any], height: int, width: int, where: str) -> dict[str, Any]:
    size, counts = shape.get("size"), shape.get("counts")
    if size != [height, width]:
        raise CrissCrossError(f"{where}: run lengths of size {size!r:.60}, but its image is [{height}, {width}]")
    if isinstance(counts, list):
        if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
            raise CrissCrossError(f"{where}: its run lengths do not add up to {height} x {width} pixels")
    elif not isinstance(counts, str):
        raise CrissCrossError(f"{where}: counts of run lengths must be a list or a text, got {counts!r:.40}")
    return {"size": [height, width], "counts": counts}


def _box_of(shape: Any, height: int, width: int) -> list[float]:
    return [float(value) for value in import_coco().mask.toBbox(to_rle(shape, height, width))]


def to_rle(shape: Any, height: int, width: int) -> dict[str, Any]:
    """Polygons or run lengths as one compressed mask of pycocotools; what lies outside the image is cut off.

    Raises:
        CrissCrossError: damaged run lengths.
    """
    mask = import_coco().mask
    try:
        if isinstance(shape, list):
            return mask.merge(mask.frPyObjects(shape, height, width))
        if isinstance(shape["counts"], list):
            return mask.frPyObjects(shape, height, width)
        check_text(shape["counts"], height * width)
        return {"size": shape["size"], "counts": shape["counts"]}
    except (ValueError, TypeError, MemoryError) as error:
        raise CrissCrossError(f"damaged run lengths ({' '.join(str(error).split())[:80]})") from None


def check_shape(shape: Any, where: str) -> None:
    """Refuse damaged run lengths; other shapes were checked when they were read.

    Raises:
        CrissCrossError: they are damaged; `where` begins the message.
    """
    if isinstance(shape, dict) and isinstance(shape["counts"], str):
        try:
            check_text(shape["counts"], shape["size"][0] * shape["size"][1])
        except ValueError as error:
            raise CrissCrossError(f"{where}: damaged run lengths ({error})") from None


def check_text(counts: str, pixels: int) -> None:
    """Refuse compressed run lengths that do not cover an image: pycocotools would write past its end or leave a rest.

    Each number is written in pieces of five bits from character 48 on, the sixth bit means that more follow, and from
    the fourth number on it is the difference from the last but one.

    Raises:
        ValueError: they are cut off, negative, or add up to another number.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in counts:
        piece = ord(character) - 48
        if not 0 <= piece < 64:
            raise ValueError(f"no such character: {character!r}")
        value |= (piece & 31) << shift
        shift += 5
        if shift > 60:
            raise ValueError("a number of more than 60 bits")
        if piece & 32:
            continue
        if piece & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift or min(runs, default=-1) < 0 or sum(runs) != pixels:
        raise ValueError(f"they cover {sum(runs)} of {pixels} pixels")


def decode(shape: Any, height: int, width: int) -> np.ndarray:
    """Polygons or run lengths as uint8 [H, W] of 0 and 1.

    Raises:
        CrissCrossError: damaged run lengths.
    """
    return import_coco().mask.decode(to_rle(shape, height, width))


def encode(mask: np.ndarray) -> dict[str, Any]:
    """A mask bool [H, W] as compressed run lengths with text that JSON takes."""
    found = import_coco().mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in found["size"]], "counts": found["counts"].decode("ascii")}
