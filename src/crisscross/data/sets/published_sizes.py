"""What the published data sets hold, for `crisscross data list`: the numbers of their own pages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """Classes, images in each split, and what has to be typed before training (empty: nothing)."""

    classes: int
    splits: dict[str, int]
    prepare: str = ""


NEEDED = "needed"
KNOWN = {
    "cityscapes": Known(19, {"train": 2975, "val": 500, "test": 1525}, "optional"),
    "cityscapes-coarse": Known(19, {"train": 2975, "train_extra": 19998, "val": 500}, "optional"),
    "ade20k": Known(150, {"train": 20210, "val": 2000}),
    "voc2012": Known(21, {"train": 1464, "val": 1449, "trainval": 2913}),
    "voc2012aug": Known(21, {"train": 10582, "val": 1449}, NEEDED),
    "lip": Known(20, {"train": 30462, "val": 10000}),
    "camvid": Known(11, {"train": 367, "val": 101, "test": 233}),
    "camvid32": Known(32, {"train": 367, "val": 101, "test": 233}, NEEDED),
    "coco-stuff": Known(171, {"train": 118287, "val": 5000}, "without stuffthingmaps/"),
}
