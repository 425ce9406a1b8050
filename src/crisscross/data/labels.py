"""The stored values of masks: their classes, which of them are legal, and advice on the usual mix-ups."""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from crisscross.data.cures import prepare_masks, write_key
from crisscross.data.dataset import DataSet

# Numbers of classes of Cityscapes, of its label ids, of classes of ADE20K.
CITYSCAPES, CITYSCAPES_IDS, ADE20K = 19, 34, 150
NAMED = 5
# A mask with more values than this, and than twice its classes, was resampled or compressed.
MOST_VALUES = 24


def label_table(dataset: DataSet) -> np.ndarray:
    """uint8 [256]: the class of each stored mask value; values that are not legal stay as they are."""
    table = np.arange(256, dtype=np.uint8)
    for stored, number in (dataset.labels or {}).items():
        table[stored] = number
    table[list(dataset.void)] = dataset.ignore
    return table


def illegal_labels(mask: np.ndarray, dataset: DataSet) -> list[tuple[int, int]]:
    """(value, pixels) for every stored mask value that is neither a class nor ignored.

    With `dataset.labels` only its keys are legal: `ignore` is legal only where they name it.
    """
    return illegal_counts(np.bincount(mask.ravel(), minlength=256), dataset)


def illegal_counts(counts: np.ndarray, dataset: DataSet) -> list[tuple[int, int]]:
    """As `illegal_labels`, from the pixels of every value, [256]."""
    legal = _legal(dataset)
    return [(int(value), int(counts[value])) for value in np.flatnonzero(counts) if int(value) not in legal]


def label_problem(mask: np.ndarray, dataset: DataSet, path: Path) -> str:
    """The illegal values of a mask that was read from `path`, the legal ones, and advice on a usual mix-up; empty if
    all are legal."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return counts_problem(counts, counts, dataset, path)


def counts_problem(counts: np.ndarray, all_counts: np.ndarray, dataset: DataSet, path: Path) -> str:
    """As `label_problem`, from the pixels of every value of a mask and of all masks that were read, [256] each."""
    illegal = illegal_counts(counts, dataset)
    if not illegal:
        return ""
    found = first_few([f"label {value} at {count} pixels" for value, count in illegal])
    legal = f"masks of {dataset.name} hold {_ranges(_legal(dataset))}"
    if dataset.labels is None:
        legal = f"there are {len(dataset.classes)} classes (0..{len(dataset.classes) - 1}, ignore {dataset.ignore})"
    values = [value for value, _ in illegal_counts(all_counts, dataset)]
    return f"{found}, but {legal}{usual_mixup(dataset, values) or _own_advice(dataset, all_counts, path)}"


def first_few(texts: list[str]) -> str:
    """The first five texts, and how many more there are."""
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def _legal(dataset: DataSet) -> set[int]:
    known = {*range(len(dataset.classes)), dataset.ignore} if dataset.labels is None else set(dataset.labels)
    return known | set(dataset.void)


def usual_mixup(dataset: DataSet, values: Collection[int]) -> str:
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


def _own_advice(dataset: DataSet, counts: np.ndarray, path: Path) -> str:
    """What to do about masks of someone's own folder that hold these values, as the rest of a sentence."""
    if dataset.name != "folder":
        return ""
    classes, values = len(dataset.classes), [int(value) for value in np.flatnonzero(counts)]
    ignored = {255: "ignore"} if counts[255] and dataset.ignore == 255 else {}
    if dataset.labels is not None:
        new = [value for value in values if value not in _legal(dataset)]
        return f"; add the value to `labels`: {write_key(dataset.root, f'labels: {{..., {new[0]}: NAME or ignore}}')}"
    inner = [value for value in values if value not in (dataset.ignore, *dataset.void)]
    if len(inner) > max(MOST_VALUES, 2 * classes):
        return (
            f"; {len(inner)} values are far more than classes: masks with soft edges, or once compressed with loss: "
            f"{prepare_masks(path)} gives each pixel the nearest class; or numbers of objects: `--classes-at 0,1` "
            "makes all of them one class"
        )
    if inner == list(range(1, classes + 1)):
        labels = {value: value - 1 for value in inner} | ignored
        key = "background: ignore" if classes > NAMED else f"labels: {_flow(labels)}"
        return f"; masks count the classes from 1: {write_key(dataset.root, key)}"
    if inner[0] == 0 and inner[-1] == classes and len(inner) > 2:
        key = write_key(dataset.root, "background: background")
        return f"; if 0 is a background without a name, {key}, which adds it as class 0, or `background: ignore`"
    if len(inner) == classes:
        labels = {value: number for number, value in enumerate(inner)} | ignored
        key = write_key(dataset.root, f"labels: {_flow(labels)}")
        return f"; if these {classes} values are the classes in order, {key}"
    return ""


def _flow(labels: Mapping[int, int | str]) -> str:
    return "{" + ", ".join(f"{value}: {meant}" for value, meant in labels.items()) + "}"


def _ranges(values: Collection[int]) -> str:
    """Whole numbers as `0..11, 13..25, 255`."""
    parts: list[list[int]] = []
    for value in sorted(values):
        if parts and value == parts[-1][-1] + 1:
            parts[-1][1:] = [value]
        else:
            parts.append([value])
    return ", ".join("..".join(map(str, part)) for part in parts)
