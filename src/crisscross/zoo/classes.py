"""Classes that follow from the name of a data set alone, for networks that are there before any data is."""

import sys
from dataclasses import replace
from typing import NamedTuple

from crisscross.config import Experiment
from crisscross.data import OPENERS


class Known(NamedTuple):
    """Class names, colors and flip pairs, as in `DataSet`."""

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]


def known_classes(data: str) -> Known | None:
    """What a key of `crisscross.data.OPENERS` stands for; None for data sets that bring classes of their own."""
    if data not in OPENERS:
        return None
    module = sys.modules[OPENERS[data].__module__]
    if not hasattr(module, "CLASSES"):
        return None
    return Known(module.CLASSES, module.PALETTE, getattr(module, "FLIP_PAIRS", ()))


def with_known_classes(experiment: Experiment) -> Experiment:
    """The experiment with the classes of its data set, where these are known and not named yet."""
    known = known_classes(experiment.data.name)
    if known is None or experiment.data.classes:
        return experiment
    return replace(experiment, data=replace(experiment.data, **known._asdict()))
