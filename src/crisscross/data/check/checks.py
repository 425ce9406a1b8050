"""What is wrong with a data set: a quick check before training, or every file read in full."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from crisscross.data.check.alignment import misaligned, sampled
from crisscross.data.check.copies import near_copies
from crisscross.data.check.mixups import (
    color_cure,
    label_mixups,
    lossy_cure,
    named,
    swapped,
    unseen,
    untrained,
)
from crisscross.data.check.pairs import digest, examine, examine_headers, read_values
from crisscross.data.check.report import CheckReport, Problem, grouped
from crisscross.data.check.splits import duplicates, misplaced_folders, overlaps, unused_files
from crisscross.data.cures import DESCRIPTION
from crisscross.data.dataset import DataSet, Pair, name_clashes
from crisscross.data.files.threads import each
from crisscross.data.layouts.stale import stale
from crisscross.errors import CrissCrossError, CrissCrossWarning

QUICK_SAMPLE = 20
# Masks that are read before training to find out whether every class occurs.
MOST_MASKS = 2000

Item = TypeVar("Item")


def quick_check(dataset: DataSet, splits: Iterable[str]) -> None:
    """Read the header of every file, and the labels of a few masks spread evenly over the splits.

    Folders that are named like a split and lie in another cause a `CrissCrossWarning`.

    Raises:
        CrissCrossError: a split is missing, empty or has a name twice; a mask is missing or a color image; a file is
            empty or no image; sizes differ; an image is in two of the splits; a label lies outside the classes.
    """
    members = [(split, pair) for split in dict.fromkeys(splits) for pair in dataset.split(split)]
    for problem in (*_stale_masks(dataset), *misplaced_folders(dataset)):
        warnings.warn(f"{problem.file}: {problem.text}", CrissCrossWarning, 2)
    pairs = list(dict.fromkeys(pair for _, pair in members))
    problems = [problem for found in each(partial(examine_headers, dataset), pairs) for problem in found]
    shared = duplicates(members, [pair.image for _, pair in members], set())
    problems += [problem for problem in shared if problem.severity == "error"]
    broken = {problem.file for problem in problems}
    sample = [pair for pair in _spread(pairs, QUICK_SAMPLE) if not broken & {pair.image, pair.mask}]
    masks = []
    for pair, (mask, found) in zip(sample, each(partial(read_values, dataset), sample), strict=True):
        problems += found
        masks += [(pair, np.bincount(mask.ravel(), minlength=256))] if mask is not None else []
    problems += label_mixups(dataset, masks)
    if not any(problem.severity == "error" for problem in problems):
        trained = members[0][0]
        problems += untrained(dataset, _unseen(dataset, trained), trained)
        problems += _copies(members)
    for problem in problems:
        if problem.severity == "warning":
            warnings.warn(f"{problem.file}: {problem.full_text}", CrissCrossWarning, 2)
    errors = _with_cures(dataset, [problem for problem in problems if problem.severity == "error"])
    if errors:
        more = f" (and {len(errors) - 1} more in this quick check)" if len(errors) > 1 else ""
        raise CrissCrossError(
            f"{errors[0].file}: {errors[0].full_text}{more}; `crisscross data check {dataset.root}` lists all"
        )


def _stale_masks(dataset: DataSet) -> Iterator[Problem]:
    if dataset.name == "folder" and (text := stale(dataset.root)):
        yield Problem("warning", dataset.root, text)


def _unseen(dataset: DataSet, split: str) -> list[int]:
    """Classes that `split` lacks, for folders whose description does not allow it."""
    if dataset.name != "folder" or (dataset.allow_empty and (dataset.root / DESCRIPTION).is_file()):
        return []
    return unseen(dataset, dataset.splits[split], MOST_MASKS)


def _copies(members: Sequence[tuple[str, Pair]]) -> Iterator[Problem]:
    """One warning for images that are in two splits under two names; only files of one size are read."""
    by_size: dict[int, list[tuple[str, Pair]]] = {}
    for split, pair in members:
        by_size.setdefault(pair.image.stat().st_size, []).append((split, pair))
    found: dict[str, tuple[str, Pair]] = {}
    copies = []
    for group in by_size.values():
        if len({split for split, _ in group}) > 1:
            for split, pair in group:
                other, original = found.setdefault(digest(pair.image) or str(pair.image), (split, pair))
                copies += [(pair, original)] if other != split else []
    if copies:
        counted = "1 image is" if len(copies) == 1 else f"{len(copies)} images are"
        text = f"{counted} in two splits ({copies[0][0].image.name} is a copy of {copies[0][1].image})"
        yield Problem("warning", copies[0][0].image, f"{text}: scores will be too good")


def _with_cures(dataset: DataSet, problems: Sequence[Problem]) -> list[Problem]:
    """Errors once a cause, first the one that explains others, and what to do about masks of another kind."""
    found = grouped(problems)
    by_mask = {pair.mask: pair for pairs in dataset.splits.values() for pair in pairs}
    unfit = [by_mask[problem.file] for problem in problems if problem.file in by_mask]
    if unfit and (exchanged := swapped(unfit)):
        # It explains whatever is wrong with the masks.
        found = [exchanged, *(problem for problem in found if problem.file not in by_mask)]
    for place, problem in enumerate(found):
        cure = ""
        try:
            if problem.text.startswith("a mask compressed with loss"):
                cure = lossy_cure(problem.file)
            elif problem.text.startswith("a color mask") and dataset.name == "folder":
                cure = color_cure(problem.file, dataset.root)
        except CrissCrossError:
            continue
        found[place] = replace(problem, text=cure) if cure else problem
    return found


def check(dataset: DataSet, progress: Callable[[int, int], None] | None = None) -> CheckReport:
    """Read every image and mask of a data set in full and report everything that is wrong, raising nothing.

    Args:
        dataset: what `open_dataset` returned.
        progress: called with (pairs done, all pairs) after every pair.
    """
    members = [(split, pair) for split, pairs in dataset.splits.items() for pair in pairs]
    problems, digests, looks, masks = [*_wrong_splits(dataset), *_stale_masks(dataset)], [], [], []
    problems += misplaced_folders(dataset)
    counts = {split: np.zeros(256, np.int64) for split in dataset.splits}
    sizes: Counter[tuple[int, int]] = Counter()
    chosen = sampled([pair for _, pair in members])
    correlations: list[np.ndarray] = []
    readings = each(lambda pair: examine(dataset, pair, pair in chosen), [pair for _, pair in members], progress)
    for (split, pair), facts in zip(members, readings, strict=True):
        problems += facts.problems
        digests.append(facts.digest)
        looks.append(facts.look)
        counts[split] += facts.counts
        correlations += [facts.correlation] if facts.correlation is not None else []
        masks += [(pair, facts.stored)] if facts.stored is not None else []
        sizes.update([facts.size] if facts.size else [])
    ignored = {split: int(values[dataset.ignore]) for split, values in counts.items()}
    for values in counts.values():
        values[dataset.ignore] = 0
    pixels = {split: values[: len(dataset.classes)].copy() for split, values in counts.items()}
    mixed_up = list(label_mixups(dataset, list({pair: (pair, stored) for pair, stored in masks}.values())))
    problems += mixed_up
    problems += overlaps(dataset, members, digests)
    problems += near_copies(dataset.splits, members, looks, digests)
    problems += unused_files(dataset, [pair for _, pair in members])
    if how := misaligned(correlations):
        text = f"masks look {how} against their images ({len(correlations)} were compared by their edges); look at them"
        problems.append(Problem("warning", dataset.root, text))
    # Masks that are read wrongly, or not at all, say nothing about classes.
    if masks and not any(problem.severity == "error" for problem in mixed_up):
        problems += _absent_classes(dataset, pixels)
    # A pair in two splits has its problems twice.
    distinct = list(dict.fromkeys(problems))
    errors = _with_cures(dataset, [problem for problem in distinct if problem.severity == "error"])
    ordered = [*errors, *grouped(problem for problem in distinct if problem.severity == "warning")]
    pairs = {split: len(found) for split, found in dataset.splits.items()}
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
    if "train" in pixels and pixels["train"].any():
        # A class whose number is ignored, such as CamVid's Void, never occurs on purpose.
        lacking = [int(n) for n in np.flatnonzero(pixels["train"] == 0) if int(n) not in dataset.void]
        if problems := list(untrained(dataset, lacking, "train")):
            yield from problems
            return
    absent = [int(number) for number in np.flatnonzero(total == 0) if int(number) not in dataset.void]
    if absent:
        yield Problem("warning", dataset.root, f"never in any mask: {named(dataset, absent)}")


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(step * (len(items) - 1) / (count - 1))] for step in range(count)]
