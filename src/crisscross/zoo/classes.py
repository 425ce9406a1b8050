"""Classes that follow from the name of a data set alone, for networks that are there before any data is."""

from dataclasses import replace
from typing import NamedTuple

from crisscross.config import Experiment
from crisscross.data import DATASETS


class Known(NamedTuple):
    """Class names, colors and flip pairs, as in `DataSet`."""

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]


def known_classes(data: str) -> Known | None:
    """What a key of `crisscross.data.DATASETS` stands for; None for data sets that bring classes of their own."""
    known = DATASETS.get(data)
    return Known(known.classes, known.palette, known.flip_pairs) if known and known.classes else None


def with_known_classes(experiment: Experiment) -> Experiment:
    """The experiment with the classes of its data set, where these are known and not named yet."""
    known = known_classes(experiment.data.name)
    if known is None or experiment.data.classes:
        return experiment
    return replace(experiment, data=replace(experiment.data, **known._asdict()))
