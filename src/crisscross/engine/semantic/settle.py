"""The experiment of a training with what follows from its data: classes and class weights."""

from dataclasses import replace

from crisscross.checkpoints.warm_start import COLORS, with_colors_of
from crisscross.config import NO_SPLIT, DataConfig, Experiment
from crisscross.data import DataSet
from crisscross.data.check.checks import quick_check
from crisscross.data.samples.clips import check_clips
from crisscross.engine.semantic.class_weights import with_class_weights
from crisscross.engine.task import Settled, Start
from crisscross.errors import CrissCrossError

# A score of fewer images says little about the next one.
FEW_IMAGES = 5


def settle(experiment: Experiment, data: DataSet, start: Start, stored: Experiment | None = None) -> Settled:
    """The experiment with classes and class weights, after a quick check of the data.

    Args:
        experiment: what is to be trained.
        data: its data set.
        start: the weights that it starts from.
        stored: the experiment that is resumed, or None.

    Raises:
        CrissCrossError: data that cannot be trained on, or other classes than the experiment names.
    """
    experiment, config = with_classes(experiment, data), experiment.data
    validates = config.val_split in data.splits
    if not validates and config.val_split not in (NO_SPLIT, DataConfig.val_split):
        data.split(config.val_split)
    splits = [config.train_split] + [config.val_split] * validates
    for split in splits:
        check_clips(data, split, experiment.model.frames)
    quick_check(data, splits)
    experiment, said = _with_colors(experiment, start, stored)
    lines = [*said, *([data.note] if data.note else [])]
    if validates and len(data.split(config.val_split)) < FEW_IMAGES:
        lines.append(f"{config.val_split} has {len(data.split(config.val_split))} images: its scores will scatter")
    return Settled(with_class_weights(experiment, data, stored), config.val_split if validates else "", lines)


def _with_colors(experiment: Experiment, start: Start, stored: Experiment | None) -> tuple[Experiment, list[str]]:
    """The mean, std and order of channels of the weights to start from, or of the run that is resumed."""
    if stored is None:
        source = start.network if start.network is not None else start.backbone
        return (experiment, []) if source is None else with_colors_of(experiment, source, start.chosen)
    ours, theirs = experiment.preprocess, stored.preprocess
    kept = replace(ours, mean=theirs.mean, std=theirs.std, order=theirs.order)
    if kept == ours or any(key in start.chosen for key in COLORS):
        return experiment, []
    line = "this run keeps the preprocess.mean, std and order that it began with"
    return replace(experiment, preprocess=kept), [line]


def with_classes(experiment: Experiment, dataset: DataSet) -> Experiment:
    """The experiment with the data set's classes, palette, ignore value and flip pairs filled in.

    Raises:
        CrissCrossError: the experiment names other classes.
    """
    named = experiment.data.classes
    if named and named != dataset.classes:
        raise CrissCrossError(
            f"data.classes names {len(named)} classes ({', '.join(named[:4])}, ...), "
            f"{dataset.root} has {len(dataset.classes)} ({', '.join(dataset.classes[:4])}, ...)"
        )
    if experiment.data.ignore not in (DataConfig.ignore, dataset.ignore):
        raise CrissCrossError(
            f"data.ignore is {experiment.data.ignore}, {dataset.root} ignores {dataset.ignore}; leave data.ignore out"
        )
    weights = experiment.loss.class_weights
    if weights != "auto" and len(weights) not in (0, len(dataset.classes)):
        raise CrissCrossError(
            f"loss.class_weights must hold one number for each of {len(dataset.classes)} classes, got {len(weights)}"
        )
    palette = experiment.data.palette or dataset.palette
    data = replace(
        experiment.data,
        classes=dataset.classes,
        palette=palette,
        ignore=dataset.ignore,
        flip_pairs=experiment.data.flip_pairs or dataset.flip_pairs,
    )
    return replace(experiment, data=data)
