"""Advice on masks whose numbers are not those of the data set: the usual mix-ups."""

from collections.abc import Collection

from crisscross.data.dataset import DataSet

# Numbers of classes of Cityscapes, of its label ids, of classes of ADE20K.
CITYSCAPES, CITYSCAPES_IDS, ADE20K = 19, 34, 150


def legal_values(dataset: DataSet) -> str:
    """What the masks of a data set may hold, for the end of a sentence."""
    if dataset.labels is None:
        return f"there are {len(dataset.classes)} classes (0..{len(dataset.classes) - 1}, ignore {dataset.ignore})"
    return f"masks of {dataset.name} hold {_ranges({*dataset.labels, *dataset.void})}"


def label_advice(dataset: DataSet, values: Collection[int]) -> str:
    """What the illegal values in a mask most likely mean, as the rest of a sentence; empty where that is unclear."""
    classes = len(dataset.classes)
    if dataset.name.startswith("cityscapes") and dataset.labels is not None and 255 in values:
        return "; label ids never hold 255, these are train ids: such files are called *_labelTrainIds.png"
    if dataset.name == "ade20k" and dataset.labels is not None:
        return (
            "; use the original annotations/ of ADEChallengeData2016, which hold 0..150 (reduced masks hold 255)"
            if 255 in values
            else "; these are not the 150 scene parsing classes: use annotations/ of ADEChallengeData2016"
        )
    if classes == CITYSCAPES and dataset.labels is None and set(values) <= set(range(classes, CITYSCAPES_IDS)):
        return (
            "; these are label ids of Cityscapes, not its train ids: name such files *_labelIds.png, and open the "
            "data set by --name cityscapes (--set data.name=cityscapes), which reads them"
        )
    if classes == ADE20K and dataset.labels is None and set(values) == {classes}:
        return (
            "; ADE20K stores 0 for `other` and class k as k + 1: open it by --name ade20k (--set data.name=ade20k), "
            "which reads that"
        )
    return ""


def _ranges(values: Collection[int]) -> str:
    """Whole numbers as `0..11, 13..25, 255`."""
    parts: list[list[int]] = []
    for value in sorted(values):
        if parts and value == parts[-1][-1] + 1:
            parts[-1][1:] = [value]
        else:
            parts.append([value])
    return ", ".join("..".join(map(str, part)) for part in parts)
