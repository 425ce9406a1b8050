"""Which built-in data set a folder is: by its layout, unless it lists other classes or its masks hold other values."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crisscross.data.dataset import DataSet
from crisscross.data.labels import illegal_counts, usual_mixup
from crisscross.data.layouts.class_lists import class_list
from crisscross.data.layouts.values import IGNORE, Looked, look_at_masks
from crisscross.data.sets.record import BuiltIn
from crisscross.errors import CrissCrossError

# Masks that are looked at, spread evenly over the data set.
MASKS_LOOKED_AT = 8


def recognized_name(root: Path, known: Mapping[str, BuiltIn]) -> str:
    """The name of the first data set that an existing folder is; `folder`, someone's own, where it is none.

    People copy the layouts of published data sets. A folder is not the published one where a file of it lists classes
    without some of those, or where none of its masks can be: color masks, masks of 0 and 255 alone, masks with a value
    that is no class, or with a palette of other colors.
    """
    return next((name for name, one in known.items() if one.recognize(root) and not _is_another(root, one)), "folder")


def _is_another(root: Path, known: BuiltIn) -> bool:
    """Whether a folder with the layout of a data set holds another one."""
    if not known.classes:
        return False
    try:
        dataset = known.open(root)
    except CrissCrossError:
        # What is missing is said when it is opened.
        return _lists_other_classes(root, known)
    return any(_lists_other_classes(folder, known) for folder in {root, dataset.root}) or _has_other_masks(
        dataset, known
    )


def _lists_other_classes(root: Path, known: BuiltIn) -> bool:
    """Whether a list of classes lacks some of the data set's: official lists often have more, such as `unlabeled`."""
    try:
        listed = class_list(root).names
    except CrissCrossError:
        return False
    return bool(listed) and not set(map(_letters, known.classes)) <= set(map(_letters, listed))


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _has_other_masks(dataset: DataSet, known: BuiltIn) -> bool:
    looked = _look(dataset)
    if not looked:
        return False
    if all(one.colors for one in looked):
        return not dataset.colored
    if len(dataset.classes) > 2 and {IGNORE} <= {value for one in looked for value in one.values} <= {0, IGNORE}:
        return True
    if known.colors and all(_other_colors(one, known.colors) for one in looked):
        return True
    if not all(illegal := [_illegal(one, dataset) for one in looked]):
        return False
    # Masks of this data set in another usual form are refused, with what to do about them.
    return not usual_mixup(dataset, set().union(*illegal))


def _look(dataset: DataSet) -> list[Looked]:
    """What some masks hold, without those that cannot be read."""
    files = [pair.mask for pairs in dataset.splits.values() for pair in pairs]
    found: list[Looked] = []
    for path in files[:: max(len(files) // MASKS_LOOKED_AT, 1)][:MASKS_LOOKED_AT]:
        try:
            found += look_at_masks([path])
        except CrissCrossError:
            continue
    return found


def _other_colors(one: Looked, colors: Sequence[Sequence[int]]) -> bool:
    return any(tuple(colors[value]) != color for value, color in one.palette.items())


def _illegal(one: Looked, dataset: DataSet) -> set[int]:
    counts = np.bincount([*one.values], minlength=256)
    return {value for value, _ in illegal_counts(counts, dataset)}
