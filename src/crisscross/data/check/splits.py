"""What is wrong between files: images in two splits, and files that no split mentions."""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

from crisscross.data.check.pairs import digest
from crisscross.data.check.report import Problem, few
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.folders import images_in

Place = tuple[str, Pair]
# Folders of images that are called so are meant as splits.
USUAL = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def strays(dataset: DataSet) -> Iterator[Problem]:
    """Images whose folder is called like one split and that are in another: one warning for each folder."""
    found: Counter[tuple[str, str]] = Counter()
    for split, pairs in dataset.splits.items():
        for folder in (pair.name.split("/")[0] for pair in pairs if "/" in pair.name):
            meant = USUAL.get(folder.lower())
            if meant and split in USUAL and meant != USUAL[split]:
                found[folder, split] += 1
    for (folder, split), count in found.items():
        text = f"images of {folder}/ are in the split {split!r} ({count}); if that is not meant, list the names in"
        yield Problem("warning", dataset.root, f"{text} train.txt and val.txt")


def leaks(dataset: DataSet, places: Sequence[Place], digests: Sequence[str | None]) -> Iterator[Problem]:
    """Images in two splits or twice in one. A split that contains another by design gets one warning."""
    files = {split: {pair.image for pair in pairs} for split, pairs in dataset.splits.items() if pairs}
    nested = set()
    for first, second in combinations(files, 2):
        small, big = sorted((first, second), key=lambda split: len(files[split]))
        if files[small] < files[big]:
            nested.add(frozenset((small, big)))
            yield Problem("warning", dataset.root, f"split {big!r} contains all of split {small!r}")
    yield from duplicates(places, digests, nested)


def duplicates(
    places: Sequence[Place], keys: Sequence[Hashable | None], nested: set[frozenset[str]]
) -> Iterator[Problem]:
    """Places with the same key: errors across splits (but for `nested` ones), warnings within one."""
    groups: dict[Hashable, list[Place]] = defaultdict(list)
    for place, key in zip(places, keys, strict=True):
        if key is not None:
            groups[key].append(place)
    for group in groups.values():
        first: dict[str, Pair] = {}
        for split, pair in group:
            if split in first:
                yield Problem("warning", pair.image, _twice((split, first[split]), (split, pair)))
            first.setdefault(split, pair)
        for one, other in combinations(first.items(), 2):
            if frozenset((one[0], other[0])) not in nested:
                yield Problem("error", other[1].image, _twice(one, other))


def _twice(one: Place, other: Place) -> str:
    """How to say of the other place that its image is already in the first one."""
    same_file, same_split = one[1].image == other[1].image, one[0] == other[0]
    if same_file:
        return f"twice in split {one[0]!r}" if same_split else f"in both splits {one[0]!r} and {other[0]!r}"
    where = f"both in split {one[0]!r}" if same_split else f"which is in split {one[0]!r}, this one in {other[0]!r}"
    return f"the same image as {one[1].image}, {where}"


def suspects(places: Sequence[Place]) -> list[str | None]:
    """Checksums of the images whose path, or whose name and length, occurs again; None for all others."""
    lengths = [pair.image.stat().st_size if pair.image.is_file() else 0 for _, pair in places]
    twins = [(pair.name, length) for (_, pair), length in zip(places, lengths, strict=True)]
    paths, names = Counter(pair.image for _, pair in places), Counter(twins)
    return [
        digest(pair.image) if paths[pair.image] > 1 or names[twin] > 1 else None
        for (_, pair), twin in zip(places, twins, strict=True)
    ]


def loose_files(dataset: DataSet, pairs: Sequence[Pair]) -> Iterator[Problem]:
    """Images in no split, and masks whose image does not exist: one warning for each folder."""
    used = {pair.image for pair in pairs} | {pair.mask for pair in pairs}
    stems: set[str] = set()
    for tree in sorted(_trees({pair.image for pair in pairs}, dataset.root)):
        loose = [path for path in images_in(tree, deep=True) if path not in used]
        used.update(loose)
        stems.update(path.stem for path in loose)
        if loose:
            yield Problem("warning", tree, f"{_number(loose, 'image')} in no split: {few(_names(loose, tree))}")
    for tree in sorted(_trees({pair.mask for pair in pairs}, dataset.root)):
        known = _Known(tree, pairs)
        loose = [path for path in images_in(tree, deep=True) if path not in used]
        loose = [path for path in loose if path.stem not in stems and not known.image_of(path.stem)]
        if loose:
            yield Problem("warning", tree, f"{_number(loose, 'mask')} without image: {few(_names(loose, tree))}")


class _Known:
    """The images that files in a folder of masks may be about: more kinds of labels than the one in use lie there.

    Pascal VOC has a second mask for an image; Cityscapes has NAME_gtFine_color.png beside NAME_gtFine_labelIds.png.
    """

    def __init__(self, tree: Path, pairs: Sequence[Pair]) -> None:
        mine = [pair for pair in pairs if pair.mask.is_relative_to(tree)]
        folders = {pair.image.parent for pair in mine}
        self.stems = {pair.image.stem for pair in pairs if pair.image.parent in folders}
        self.names = {Path(pair.name).name for pair in mine if pair.mask.stem != pair.image.stem}

    def image_of(self, stem: str) -> bool:
        """Whether a file with this name is about an image that is in some split."""
        words = stem.split("_") if self.names else []
        return stem in self.stems or any("_".join(words[:count]) in self.names for count in range(1, len(words)))


def _trees(files: Iterable[Path], root: Path) -> set[Path]:
    """The smallest folders that hold all these files, one below each folder directly under `root`, that exist."""
    groups: dict[str, set[Path]] = defaultdict(set)
    for file in files:
        top = file.relative_to(root).parts[0] if file.is_relative_to(root) else str(file.parent)
        groups[top].add(file.parent)
    return {tree for parents in groups.values() if (tree := Path(os.path.commonpath(parents))).is_dir()}


def _names(files: Iterable[Path], tree: Path) -> list[str]:
    return [file.relative_to(tree).as_posix() for file in files]


def _number(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
