"""What is wrong with one pair: from the headers of its files, or from all of their pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crisscross.data.check.alignment import edges
from crisscross.data.check.copies import look_of
from crisscross.data.check.report import Problem
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.decoding import open_file
from crisscross.data.files.reading import exif_turn, read_header, read_image, read_stored
from crisscross.data.labels import illegal_counts, label_problem, label_table
from crisscross.errors import CrissCrossError


@dataclass(frozen=True)
class Facts:
    """What one pair holds: pixels int64 [256] of the labels as `stored` (None: unreadable) and as `counts` reads them,
    `size` (width, height), a checksum of the image, its `look` for finding copies of it, and how edges correlate."""

    problems: list[Problem]
    counts: np.ndarray
    stored: np.ndarray | None
    size: tuple[int, int] | None
    digest: str | None
    look: int | None
    correlation: np.ndarray | None


def examine(dataset: DataSet, pair: Pair, with_edges: bool = False) -> Facts:
    """Read one pair in full, and compare the edges of image and mask if asked for."""
    problems, size, look, correlation = [], None, None, None
    try:
        image = read_image(pair.image)
        size, look = (image.shape[1], image.shape[0]), look_of(image)
        problems += _turned(pair)
    except CrissCrossError as error:
        problems.append(_problem(pair.image, error))
    mask, found = read_values(dataset, pair)
    problems += found
    counts, stored = np.zeros(256, np.int64), None
    if mask is not None:
        if size and mask.shape[::-1] != size:
            problems.append(_size_problem(pair, size, mask.shape[::-1]))
        stored = np.bincount(mask.ravel(), minlength=256)
        counts = read_counts(stored, dataset)
        if with_edges and size == mask.shape[::-1]:
            correlation = edges(image, label_table(dataset)[mask], dataset.ignore)
    return Facts(problems, counts, stored, size, digest(pair.image), look, correlation)


def read_counts(stored: np.ndarray, dataset: DataSet) -> np.ndarray:
    """Pixels int64 [256] of each class and of `ignore`, from those of the stored values; illegal ones are in none."""
    counts, legal = np.zeros(256, np.int64), stored.copy()
    legal[[value for value, _ in illegal_counts(stored, dataset)]] = 0
    np.add.at(counts, label_table(dataset), legal)
    return counts


def read_labels(dataset: DataSet, pair: Pair) -> tuple[np.ndarray | None, list[Problem]]:
    """The stored values of a mask, None where it cannot be read, and what is wrong with it, labels included."""
    mask, problems = read_values(dataset, pair)
    problem = "" if mask is None else label_problem(mask, dataset, pair.mask)
    return mask, problems + [Problem("error", pair.mask, problem)] * bool(problem)


def read_values(dataset: DataSet, pair: Pair) -> tuple[np.ndarray | None, list[Problem]]:
    """The stored values of a mask, None where it cannot be read, and why."""
    if not pair.mask.is_file():
        return None, [_missing_mask(pair)]
    try:
        return read_stored(pair.mask, dataset), []
    except CrissCrossError as error:
        return None, [_problem(pair.mask, error)]


def examine_headers(dataset: DataSet, pair: Pair) -> list[Problem]:
    """What the headers of a pair's two files show to be wrong."""
    problems, sizes = [], []
    for file in (pair.image, pair.mask):
        if file == pair.mask and not file.is_file():
            problems.append(_missing_mask(pair))
            continue
        try:
            sizes.append(read_header(file, mask=file == pair.mask and not dataset.colored))
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
    if tuple(size) == tuple(mask_size[::-1]) and exif_turn(pair.image) >= 5:
        text += (
            "; the image is turned by its EXIF data, the mask was made for the image as it is stored: turn the mask, "
            "or save the image without EXIF data"
        )
    return Problem("error", pair.mask, text)


def _turned(pair: Pair) -> list[Problem]:
    """A warning about an image that EXIF data turn or mirror without that its size would show it."""
    if 2 <= exif_turn(pair.image) <= 4:
        text = "the image is turned or mirrored by its EXIF data, its mask is not: look whether they fit"
        return [Problem("warning", pair.image, text)]
    return []


def _problem(file: Path, error: CrissCrossError) -> Problem:
    return Problem("error", file, str(error).removeprefix(f"{file}: "))


def digest(file: Path) -> str | None:
    """Checksum of a file's bytes; None for a missing or an empty one, and for what is not an ordinary file."""
    try:
        with open_file(file) as stream:
            return hashlib.file_digest(stream, "blake2b").hexdigest() if file.stat().st_size else None  # type: ignore[arg-type]
    except (OSError, CrissCrossError):
        return None
