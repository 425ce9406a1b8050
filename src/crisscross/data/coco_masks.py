"""Masks as COCO writes them: polygons, and run lengths as a list (uncompressed) or as a text (compressed)."""

from typing import Any

import numpy as np

from crisscross.errors import CrissCrossError

# A polygon has three corners; pycocotools would take four numbers for a box.
CORNERS = 3
# COCO's own polygons touch the border and exceed it by rounding.
BEYOND = 1.0


class Drop(Exception):
    """An annotation that cannot stand for anything; says why."""


def import_coco() -> Any:
    """pycocotools.

    Raises:
        CrissCrossError: it is not installed.
    """
    try:
        import pycocotools.mask
    except ImportError as error:
        raise CrissCrossError(
            "instance segmentation needs pycocotools: pip install 'crisscross-seg[instances]'"
        ) from error
    return pycocotools


def checked(entry: dict[str, Any], height: int, width: int, where: str) -> tuple[dict[str, Any], bool]:
    """An annotation with every field that evaluation wants, and whether it reached beyond its picture.

    Polygons lose those of less than three corners; the box is clipped to the picture.

    Args:
        entry: as the file has it.
        height: of its picture, in pixels.
        width: likewise.
        where: how to call it in errors.

    Raises:
        Drop: no mask, or no area inside the picture.
        CrissCrossError: a field of another kind than COCO's.
    """
    shape = entry.get("segmentation")
    if isinstance(shape, list):
        shape, beyond = _polygons(shape, height, width, where)
    elif isinstance(shape, dict):
        shape, beyond = _run_lengths(shape, height, width, where), False
    else:
        raise CrissCrossError(f"{where}: segmentation must be polygons or run lengths, got {str(shape)[:40]!r}")
    box = entry.get("bbox")
    given = box if box is not None else _box_of(shape, height, width)
    if not isinstance(given, list) or len(given) != 4 or not all(map(_is_number, given)):
        raise CrissCrossError(f"{where}: bbox must be [left, top, width, height], got {str(given)[:60]}")
    left, top = max(given[0], 0.0), max(given[1], 0.0)
    right, bottom = min(given[0] + given[2], width), min(given[1] + given[3], height)
    if right <= left or bottom <= top:
        raise Drop("without area inside their picture")
    area = entry.get("area")
    if not _is_number(area):
        area = float(import_coco().mask.area(to_rle(shape, height, width)))
    sound = {
        **{name: entry[name] for name in ("id", "image_id", "category_id")},
        **{"segmentation": shape, "iscrowd": int(bool(entry.get("iscrowd", 0)))},
        **{"bbox": [left, top, right - left, bottom - top], "area": area},
    }
    return sound, beyond


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _polygons(shape: list[Any], height: int, width: int, where: str) -> tuple[list[list[float]], bool]:
    kept, beyond = [], False
    for polygon in shape:
        if not isinstance(polygon, list) or len(polygon) % 2 or not all(map(_is_number, polygon)):
            raise CrissCrossError(f"{where}: a polygon must be a list x, y, x, y, ..., got {str(polygon)[:60]}")
        if len(polygon) < 2 * CORNERS:
            continue
        x, y = polygon[0::2], polygon[1::2]
        if min(x) < -BEYOND or min(y) < -BEYOND or max(x) > width + BEYOND or max(y) > height + BEYOND:
            beyond = True
        kept.append(polygon)
    if not kept:
        raise Drop("with an empty mask")
    return kept, beyond


def _run_lengths(shape: dict[str, Any], height: int, width: int, where: str) -> dict[str, Any]:
    size, counts = shape.get("size"), shape.get("counts")
    if size != [height, width]:
        raise CrissCrossError(f"{where}: run lengths of size {size}, but its picture is [{height}, {width}]")
    if isinstance(counts, list):
        if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts) != height * width:
            raise CrissCrossError(f"{where}: its run lengths do not add up to {height} x {width} pixels")
    elif not isinstance(counts, str):
        raise CrissCrossError(f"{where}: counts of run lengths must be a list or a text, got {str(counts)[:40]!r}")
    return shape


def _box_of(shape: Any, height: int, width: int) -> list[float]:
    return [float(value) for value in import_coco().mask.toBbox(to_rle(shape, height, width))]


def to_rle(shape: Any, height: int, width: int) -> dict[str, Any]:
    """Polygons or run lengths as one compressed mask of pycocotools; what lies outside the picture is cut off.

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
        raise CrissCrossError(f"damaged run lengths ({' '.join(str(error).split())[:80]})") from error


def check_shape(shape: Any, where: str) -> None:
    """Refuse damaged run lengths; other shapes were checked when they were read.

    Raises:
        CrissCrossError: they are; `where` says which.
    """
    if isinstance(shape, dict) and isinstance(shape["counts"], str):
        try:
            check_text(shape["counts"], shape["size"][0] * shape["size"][1])
        except ValueError as error:
            raise CrissCrossError(f"{where}: damaged run lengths ({error})") from error


def check_text(counts: str, pixels: int) -> None:
    """Refuse compressed run lengths that do not cover a picture: pycocotools would write past its end or leave a rest.

    Each number is written in pieces of five bits from character 48 on, the sixth bit tells that more follow, and from
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
