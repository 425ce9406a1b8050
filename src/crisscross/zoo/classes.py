"""Classes that follow from the name of a data set alone, for networks that exist before any data is opened."""

from dataclasses import replace

from crisscross.config import Experiment
from crisscross.data import DATASETS
from crisscross.data.sets.record import BuiltIn


def known_classes(data: str) -> BuiltIn | None:
    """The entry of `crisscross.data.DATASETS`; None for data sets that have classes of their own."""
    known = DATASETS.get(data)
    return known if known and known.classes else None


def with_known_classes(experiment: Experiment) -> Experiment:
    """The experiment with the classes of its data set, where these are known and not named yet."""
    known = known_classes(experiment.data.name)
    if known is None or experiment.data.classes:
        return experiment
    data = replace(experiment.data, classes=known.classes, palette=known.palette, flip_pairs=known.flip_pairs)
    return replace(experiment, data=data)
