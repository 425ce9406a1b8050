"""What is wrong between files: images in two splits, and files that no split mentions."""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

from crisscross.data.check.report import Problem
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.folders import images_in
from crisscross.data.labels import first_few

# A split's name and one of its pairs.
Member = tuple[str, Pair]
# Folders of images with these names usually are splits.
USUAL = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def misplaced_folders(dataset: DataSet) -> Iterator[Problem]:
    """Images in a folder that is named like one split and that are in another: one warning for each folder."""
    found: Counter[tuple[str, str]] = Counter()
    for split, pairs in dataset.splits.items():
        for folder in (pair.name.split("/")[0] for pair in pairs if "/" in pair.name):
            meant = USUAL.get(folder.lower())
            if meant and split in USUAL and meant != USUAL[split]:
                found[folder, split] += 1
    for (folder, split), count in found.items():
        text = f"images of {folder}/ are in the split {split!r} ({count}); if that is not intended, list the names in"
        yield Problem("warning", dataset.root, f"{text} train.txt and val.txt")


def overlaps(dataset: DataSet, members: Sequence[Member], digests: Sequence[str | None]) -> Iterator[Problem]:
    """Images in two splits or twice in one. A split that contains another by design gets one warning."""
    files = {split: {pair.image for pair in pairs} for split, pairs in dataset.splits.items() if pairs}
    nested = set()
    for first, second in combinations(files, 2):
        small, big = sorted((first, second), key=lambda split: len(files[split]))
        if files[small] < files[big]:
            nested.add(frozenset((small, big)))
            yield Problem("warning", dataset.root, f"split {big!r} contains all of split {small!r}")
    yield from duplicates(members, digests, nested)


def duplicates(
    members: Sequence[Member], keys: Sequence[Hashable | None], nested: set[frozenset[str]]
) -> Iterator[Problem]:
    """Members with the same key: errors across splits (but for `nested` ones), warnings within one."""
    groups: dict[Hashable, list[Member]] = defaultdict(list)
    for member, key in zip(members, keys, strict=True):
        if key is not None:
            groups[key].append(member)
    for group in groups.values():
        first: dict[str, Pair] = {}
        for split, pair in group:
            if split in first:
                yield Problem("warning", pair.image, _twice((split, first[split]), (split, pair)))
            first.setdefault(split, pair)
        for one, other in combinations(first.items(), 2):
            if frozenset((one[0], other[0])) not in nested:
                yield Problem("error", other[1].image, _twice(one, other))


def _twice(one: Member, other: Member) -> str:
    """The text of the problem that the other member's image is already the first one's."""
    same_file, same_split = one[1].image == other[1].image, one[0] == other[0]
    if same_file:
        return f"twice in split {one[0]!r}" if same_split else f"in both splits {one[0]!r} and {other[0]!r}"
    where = f"both in split {one[0]!r}" if same_split else f"which is in split {one[0]!r}, this one in {other[0]!r}"
    return f"the same image as {one[1].image}, {where}"


def unused_files(dataset: DataSet, pairs: Sequence[Pair]) -> Iterator[Problem]:
    """Images in no split, and masks whose image does not exist: one warning for each folder.

    More kinds of labels than the one in use may lie beside the masks: Cityscapes has NAME_gtFine_color.png beside
    NAME_gtFine_labelIds.png. A mask belongs to an image whose name its own begins with.
    """
    used = {pair.image for pair in pairs} | {pair.mask for pair in pairs}
    names = {Path(pair.name).name for pair in pairs} | {pair.image.stem for pair in pairs}
    for tree in sorted(_trees({pair.image for pair in pairs}, dataset.root)):
        unused = [path for path in images_in(tree, deep=True) if path not in used]
        used.update(unused)
        names.update(path.stem for path in unused)
        yield from _listed(tree, unused, "image", "in no split")
    for tree in sorted(_trees({pair.mask for pair in pairs}, dataset.root)):
        unused = [path for path in images_in(tree, deep=True) if path not in used]
        yield from _listed(
            tree, [path for path in unused if not _begins_with(path.stem, names)], "mask", "without image"
        )


def _begins_with(stem: str, names: set[str]) -> bool:
    words = stem.split("_")
    return any("_".join(words[:count]) in names for count in range(1, len(words) + 1))


def _listed(tree: Path, files: Sequence[Path], noun: str, what: str) -> Iterator[Problem]:
    if files:
        names = first_few([file.relative_to(tree).as_posix() for file in files])
        yield Problem("warning", tree, f"{len(files)} {noun}{'' if len(files) == 1 else 's'} {what}: {names}")


def _trees(files: Iterable[Path], root: Path) -> set[Path]:
    """The smallest folders that hold all these files, one below each folder directly under `root`, that exist."""
    groups: dict[str, set[Path]] = defaultdict(set)
    for file in files:
        top = file.relative_to(root).parts[0] if file.is_relative_to(root) else str(file.parent)
        groups[top].add(file.parent)
    return {tree for parents in groups.values() if (tree := Path(os.path.commonpath(parents))).is_dir()}
