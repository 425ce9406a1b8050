"""What is wrong with a data set: a quick check before training, or every file read in full."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from crisscross.data.check.pairs import examine, examine_headers, read_labels
from crisscross.data.check.report import CheckReport, Problem
from crisscross.data.check.splits import duplicates, misplaced_folders, overlaps, unused_files
from crisscross.data.dataset import DataSet, name_clashes
from crisscross.data.files.threads import each
from crisscross.errors import CrissCrossError, CrissCrossWarning

QUICK_SAMPLE = 20

Item = TypeVar("Item")


def quick_check(dataset: DataSet, splits: Iterable[str]) -> None:
    """Read the header of every file, and the labels of a few masks spread evenly over the splits.

    Folders that are named like a split and lie in another cause a `CrissCrossWarning`.

    Raises:
        CrissCrossError: a split is missing, empty or has a name twice; a mask is missing or a color image; a file is
            empty or no image; sizes differ; an image is in two of the splits; a label lies outside the classes.
    """
    members = [(split, pair) for split in dict.fromkeys(splits) for pair in dataset.split(split)]
    for problem in misplaced_folders(dataset):
        warnings.warn(f"{problem.file}: {problem.text}", CrissCrossWarning, 2)
    pairs = list(dict.fromkeys(pair for _, pair in members))
    problems = [problem for found in each(partial(examine_headers, dataset), pairs) for problem in found]
    shared = duplicates(members, [pair.image for _, pair in members], set())
    problems += [problem for problem in shared if problem.severity == "error"]
    broken = {problem.file for problem in problems}
    sample = [pair for pair in _spread(pairs, QUICK_SAMPLE) if not broken & {pair.image, pair.mask}]
    problems += [problem for found in each(partial(read_labels, dataset), sample) for problem in found[1]]
    if problems:
        more = f" (and {len(problems) - 1} more in this quick check)" if len(problems) > 1 else ""
        raise CrissCrossError(
            f"{problems[0].file}: {problems[0].text}{more}; `crisscross data check {dataset.root}` lists all"
        )


def check(dataset: DataSet, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Read every image and mask of a data set in full and report everything that is wrong, raising nothing.

    Args:
        dataset: what `open_dataset` returned.
        progress: called with (pairs done, all pairs) after every pair.
    """
    members = [(split, pair) for split, pairs in dataset.splits.items() for pair in pairs]
    problems, digests = [*_wrong_splits(dataset), *misplaced_folders(dataset)], []
    counts = {split: np.zeros(256, np.int64) for split in dataset.splits}
    sizes: Counter[tuple[int, int]] = Counter()
    readings = each(partial(examine, dataset), [pair for _, pair in members], progress)
    for (split, _), facts in zip(members, readings, strict=True):
        problems += facts.problems
        digests.append(facts.digest)
        counts[split] += facts.counts
        sizes.update([facts.size] if facts.size else [])
    ignored = {split: int(values[dataset.ignore]) for split, values in counts.items()}
    for values in counts.values():
        values[dataset.ignore] = 0
    pixels = {split: values[: len(dataset.classes)].copy() for split, values in counts.items()}
    problems += overlaps(dataset, members, digests)
    problems += unused_files(dataset, [pair for _, pair in members])
    problems += _absent_classes(dataset, pixels)
    # A pair in two splits has its problems twice; sorting keeps the order among equals.
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: problem.severity != "error")
    pairs = {split: len(chosen) for split, chosen in dataset.splits.items()}
    return CheckReport(tuple(ordered), pairs, pixels, ignored, dict(sizes.most_common()))


def _wrong_splits(dataset: DataSet) -> Iterator[Problem]:
    if not dataset.splits:
        yield Problem("error", dataset.root, "the data set has no splits")
    for split, pairs in dataset.splits.items():
        if not pairs:
            yield Problem("error", dataset.root, f"the split {split!r} is empty")
        for pair, text in name_clashes(split, pairs):
            yield Problem("error", pair.image, text)


def _absent_classes(dataset: DataSet, pixels: dict[str, np.ndarray]) -> Iterator[Problem]:
    total = sum(pixels.values(), np.zeros(len(dataset.classes), np.int64))
    # A class whose number is ignored, such as CamVid's Void, never occurs on purpose.
    for index in np.flatnonzero(total == 0):
        if int(index) in dataset.void:
            continue
        yield Problem("warning", dataset.root, f"class {int(index)} ({dataset.classes[index]}) never occurs")


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(step * (len(items) - 1) / (count - 1))] for step in range(count)]
