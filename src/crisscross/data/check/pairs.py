"""What is wrong with one pair: from the headers of its files, or from all of their pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crisscross.data.check.report import Problem
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.decoding import open_file
from crisscross.data.files.reading import read_header, read_image, read_stored
from crisscross.data.labels import illegal_labels, label_problem, label_table
from crisscross.errors import CrissCrossError


@dataclass(frozen=True)
class Facts:
    """What one pair holds: `counts` int64 [256] of the labels as read, `size` (width, height) and a checksum."""

    problems: list[Problem]
    counts: np.ndarray
    size: tuple[int, int] | None
    digest: str | None


def examine(dataset: DataSet, pair: Pair) -> Facts:
    """Read one pair in full."""
    problems, size = [], None
    try:
        height, width = read_image(pair.image).shape[:2]
        size = (width, height)
    except CrissCrossError as error:
        problems.append(_problem(pair.image, error))
    mask, found = read_labels(dataset, pair)
    problems += found
    counts = np.zeros(256, np.int64)
    if mask is not None:
        if size and mask.shape[::-1] != size:
            problems.append(_size_problem(pair, size, mask.shape[::-1]))
        stored = np.bincount(mask.ravel(), minlength=256)
        stored[[value for value, _ in illegal_labels(mask, dataset)]] = 0
        np.add.at(counts, label_table(dataset), stored)
    return Facts(problems, counts, size, digest(pair.image))


def read_labels(dataset: DataSet, pair: Pair) -> tuple[np.ndarray | None, list[Problem]]:
    """The mask of a pair, None where it cannot be read, and what is wrong with it."""
    if not pair.mask.is_file():
        return None, [_missing_mask(pair)]
    try:
        mask = read_stored(pair.mask, dataset)
    except CrissCrossError as error:
        return None, [_problem(pair.mask, error)]
    problem = label_problem(mask, dataset)
    return mask, [Problem("error", pair.mask, problem)] if problem else []


def examine_headers(dataset: DataSet, pair: Pair) -> list[Problem]:
    """What the headers of a pair's two files show to be wrong."""
    problems, sizes = [], []
    for file in (pair.image, pair.mask):
        if file == pair.mask and not file.is_file():
            problems.append(_missing_mask(pair))
            continue
        try:
            sizes.append(read_header(file, mask=file == pair.mask))
        except CrissCrossError as error:
            problems.append(_problem(file, error))
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        # A PNG may hold its EXIF rotation behind its pixels.
        if sizes[0] == sizes[1][::-1]:
            return examine(dataset, pair).problems
        problems.append(_size_problem(pair, *sizes))
    return problems


def _missing_mask(pair: Pair) -> Problem:
    return Problem("error", pair.image, f"image without mask; looked for {pair.mask}")


def _size_problem(pair: Pair, size: Sequence[int], mask_size: Sequence[int]) -> Problem:
    text = f"the mask is {mask_size[0]} x {mask_size[1]}, its image {size[0]} x {size[1]}"
    return Problem("error", pair.mask, text)


def _problem(file: Path, error: CrissCrossError) -> Problem:
    return Problem("error", file, str(error).removeprefix(f"{file}: "))


def digest(file: Path) -> str | None:
    """Checksum of a file's bytes; None for a missing or an empty one, and for what is not an ordinary file."""
    try:
        with open_file(file) as stream:
            return hashlib.file_digest(stream, "blake2b").hexdigest() if file.stat().st_size else None  # type: ignore[arg-type]
    except (OSError, CrissCrossError):
        return None
