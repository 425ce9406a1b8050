"""Classes that follow from the name of a data set alone, for networks that are built or filled before any data is there."""

from dataclasses import replace

from crisscross.config import Experiment
from crisscross.data import ade20k, camvid, cityscapes, coco_stuff, lip, voc

KNOWN = {
    "cityscapes": cityscapes,
    "cityscapes-coarse": cityscapes,
    "ade20k": ade20k,
    "voc2012": voc,
    "voc2012aug": voc,
    "lip": lip,
    "camvid": camvid,
    "coco-stuff": coco_stuff,
}


def with_known_classes(experiment: Experiment) -> Experiment:
    """The experiment with classes, palette and flip pairs of its data set, where these are known and not named yet."""
    known = KNOWN.get(experiment.data.name)
    if known is None or experiment.data.classes:
        return experiment
    pairs = lip.FLIP_PAIRS if known is lip else ()
    data = replace(experiment.data, classes=known.CLASSES, palette=known.PALETTE, flip_pairs=pairs)
    return replace(experiment, data=data)
