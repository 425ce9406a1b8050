"""What to do about masks whose numbers or colors are not those of the data set: the usual mix-ups by name."""

from collections.abc import Collection

from crisscross.data.dataset import DataSet

# Numbers that give a mix-up away: classes of Cityscapes, its label ids, classes of ADE20K.
CITYSCAPES, CITYSCAPES_IDS, ADE20K = 19, 34, 150


def legal_values(dataset: DataSet) -> str:
    """What the masks of a data set may hold, for the end of a sentence."""
    if dataset.labels is None:
        return f"there are {len(dataset.classes)} classes (0..{len(dataset.classes) - 1}, ignore {dataset.ignore})"
    return f"masks of {dataset.name} hold {_ranges({*dataset.labels, *dataset.void})}"


def label_advice(dataset: DataSet, values: Collection[int]) -> str:
    """What the illegal values in a mask most likely mean, as the rest of a sentence; empty where nothing is known."""
    classes = len(dataset.classes)
    is_ade20k = dataset.name == "ade20k" and dataset.labels is not None
    if classes == CITYSCAPES and dataset.labels is None and set(values) <= set(range(classes, CITYSCAPES_IDS)):
        return (
            "; these are label ids of Cityscapes, not its train ids: `crisscross data prepare cityscapes DIR` "
            "writes *_labelTrainIds.png (delete wrong ones first)"
        )
    if dataset.name.startswith("cityscapes") and dataset.labels is not None and 255 in values:
        return "; label ids never hold 255, these are train ids: such files are called *_labelTrainIds.png"
    if is_ade20k and 255 in values:
        return "; these masks were reduced before (0 -> 255, k -> k - 1): use the original annotations/"
    if is_ade20k:
        return "; these are not the 150 scene parsing classes: use annotations/ of ADEChallengeData2016"
    if classes == ADE20K and dataset.labels is None and set(values) == {classes}:
        return (
            "; ADE20K stores 0 for `other` and class k as k + 1: open it by --name ade20k (--set data.name=ade20k), "
            "which reads that"
        )
    return ""


def color_advice(dataset: DataSet) -> str:
    """How the color masks of a data set become class numbers, as the rest of a sentence."""
    if dataset.name.startswith("voc2012"):
        return (
            "; its colors are those of the Pascal VOC color map (background 0 0 0, aeroplane 128 0 0, bicycle "
            "0 128 0 ...): crisscross.data.color.labels_of_colors(mask, crisscross.data.sets.voc.PALETTE, "
            "{(224, 224, 192): 255}) gives the class numbers"
        )
    if dataset.name == "cityscapes":
        return "; *_color.png are for the eye, the labels are *_labelIds.png and *_labelTrainIds.png"
    return "; crisscross.data.color.labels_of_colors turns colors into class numbers" if dataset.palette else ""


def _ranges(values: Collection[int]) -> str:
    """Whole numbers as `0..11, 13..25, 255`."""
    parts: list[list[int]] = []
    for value in sorted(values):
        if parts and value == parts[-1][-1] + 1:
            parts[-1][1:] = [value]
        else:
            parts.append([value])
    return ", ".join("..".join(map(str, part)) for part in parts)
