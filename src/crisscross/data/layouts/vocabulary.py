"""The names that people and labeling tools give to folders, splits and mask files."""

import re
from typing import Literal, NamedTuple

Role = Literal["image", "mask", "other", ""]

IMAGES = frozenset(
    [
        "images",
        "image",
        "img",
        "imgs",
        "imgdir",
        "jpegimages",
        "leftimg8bit",
        "photos",
        "photo",
        "pictures",
        "rgb",
        "input",
        "inputs",
        "originals",
    ]
)
MASKS = frozenset(
    [
        "masks",
        "mask",
        "labels",
        "label",
        "annotations",
        "annotation",
        "annot",
        "ann",
        "anns",
        "anndir",
        "gt",
        "gts",
        "groundtruth",
        "gtfine",
        "gtcoarse",
        "segmentationclass",
        "segmentationclassaug",
        "segmentation",
        "segmentations",
        "seg",
        "segs",
        "target",
        "targets",
        "manual",
        "trimaps",
        "trimap",
        "machine",
    ]
)
# Folders with drawings of masks or with instances: never the masks of classes.
OTHERS = frozenset(
    [
        "viz",
        "vis",
        "visualization",
        "visualizations",
        "segmentationclassvisualization",
        "overlay",
        "overlays",
        "preview",
        "previews",
        "color",
        "colors",
        "segmentationobject",
        "segmentationobjectvisualization",
        "instances",
        "instance",
        "masksinstances",
        "macosx",
    ]
)
# What the class of everything else is called, without underlines around it.
BACKGROUNDS = frozenset({"background", "bg", "back_ground"})
SPLITS: dict[str, frozenset[str]] = {
    "train": frozenset({"train", "training"}),
    "val": frozenset({"val", "valid", "validation", "dev"}),
    "test": frozenset({"test", "testing"}),
}
# What mask files have after the name of their image; longer ones first where one ends like another.
MASK_SUFFIXES = (
    *("_gtFine_labelTrainIds", "_gtFine_labelIds", "_labelTrainIds", "_labelIds", "_segmentation", "_groundtruth"),
    *(
        "_manual1",
        "_labels",
        "_label",
        "_masks",
        "_mask",
        "_annotation",
        "_trimap",
        "_seg",
        "_gt",
        "_GT",
        "_L",
        "_P",
        "_m",
    ),
    *("-mask", "-label", "-gt", "_Mask", "_MASK", "_Segmentation"),
)
IMAGE_SUFFIXES = ("_leftImg8bit", "_sat", "_image", "_img", "-image", "_training", "_test", "_RGB", "_RGBIR", "_IRRG")
# Words that say nothing about what a folder holds: `images_png`.
_FILE_TYPES = frozenset({"png", "jpg", "jpeg", "tif", "1st", "dir"})


class Meaning(NamedTuple):
    """What the name of a folder says: what it holds, of which split."""

    role: Role = ""
    split: str = ""


def meaning(name: str) -> Meaning:
    """What a folder's name says about its content.

    >>> meaning("train_masks")
    Meaning(role='mask', split='train')
    """
    # SegNet's form of CamVid has `trainannot`, which others copy.
    spaced = re.sub(r"^(train|val|test)annot$", r"\1 annot", name.lower())
    words = [word for word in re.split(r"[_\-. ]+", spaced) if word]
    split = next((split for split, names in SPLITS.items() if names & set(words)), "")
    kept = [word for word in words if word not in _FILE_TYPES and not any(word in names for names in SPLITS.values())]
    # "img_dir" is one word in the table, "train_masks" has the role of its last word.
    candidates = {"".join(kept), *kept}
    if candidates & OTHERS:
        return Meaning("other", split)
    if candidates & MASKS:
        return Meaning("mask", split)
    return Meaning("image" if candidates & IMAGES else "", split)
