"""Class weights from the pixels of the training split."""

from dataclasses import replace
from functools import partial
from statistics import median

import numpy as np

from crisscross.config import Experiment
from crisscross.data import DataSet
from crisscross.data.check.pairs import read_labels
from crisscross.data.dataset import Pair
from crisscross.data.files.threads import each
from crisscross.data.labels import label_table
from crisscross.engine.processes import is_first_process
from crisscross.errors import CrissCrossError
from crisscross.progress import Progress
from crisscross.terminal import say


def with_class_weights(experiment: Experiment, dataset: DataSet, earlier: Experiment | None = None) -> Experiment:
    """The experiment with numbers where `loss.class_weights` is `auto`; the weights are printed on stderr.

    Args:
        experiment: what is trained.
        dataset: its data set; every mask of the training split is read.
        earlier: the experiment of the run that is resumed, whose weights are taken.

    Raises:
        CrissCrossError: a mask cannot be read, or a class has no pixel in the training split.
    """
    if experiment.loss.class_weights != "auto":
        return experiment
    if earlier is not None:
        return replace(experiment, loss=replace(experiment.loss, class_weights=earlier.loss.class_weights))
    split = experiment.data.train_split
    weights = median_frequency_weights(dataset, split)
    if is_first_process():
        named = ", ".join(f"{name} {weight:g}" for name, weight in zip(dataset.classes, weights, strict=True))
        say(f"class weights by median frequency in the split {split!r}: {named}", error=True)
    return replace(experiment, loss=replace(experiment.loss, class_weights=weights))


def median_frequency_weights(dataset: DataSet, split: str) -> tuple[float, ...]:
    """Median frequency balancing (Eigen and Fergus 2015): median(f) / f_c for each class, to four digits.

    f_c is the fraction of class c among the valid pixels of the images that show it.

    Raises:
        CrissCrossError: a mask cannot be read, or a class has no pixel in the split.
    """
    classes = len(dataset.classes)
    own, beside = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    pairs = dataset.split(split)
    with Progress("class weights", len(pairs), show=is_first_process()) as progress:
        for counts in each(partial(_counts, dataset), pairs, lambda done, total: progress.update(done)):
            own += counts
            beside += (counts > 0) * counts.sum()
    absent = [name for name, pixels in zip(dataset.classes, own, strict=True) if not pixels]
    if absent:
        raise CrissCrossError(
            f"loss.class_weights=auto: no pixel of {', '.join(absent)} in the split {split!r} of {dataset.root}; "
            f"give {classes} numbers in loss.class_weights, or leave it empty"
        )
    fractions = (own / beside).tolist()
    return tuple(float(f"{median(fractions) / fraction:.4g}") for fraction in fractions)


def _counts(dataset: DataSet, pair: Pair) -> np.ndarray:
    """Pixels of each class, int64 [K]."""
    mask, problems = read_labels(dataset, pair)
    if mask is None or problems:
        raise CrissCrossError(f"{problems[0].file}: {problems[0].text}")
    return np.bincount(label_table(dataset)[mask].ravel(), minlength=256)[: len(dataset.classes)]
