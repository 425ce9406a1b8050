"""`crisscross.evaluate`."""

import json as json_format
import os
from pathlib import Path
from typing import Any

import numpy as np

from crisscross import tasks, zoo
from crisscross.api.evaluation_page import PAGE, evaluation_page
from crisscross.api.networks import Place, Source, Wanted, wanted
from crisscross.api.training import default_workers
from crisscross.checkpoints.loading import find_file, refuse_code
from crisscross.config import NO_SPLIT, DataConfig, Experiment
from crisscross.data.dataset import existing_folder
from crisscross.data.files.reading import read_image
from crisscross.engine.global_state import kept_global_state
from crisscross.engine.processes import is_first_process, start_on
from crisscross.engine.run.split import held_in, keep_split
from crisscross.engine.task import Data, Result, Scoring, Task, check_split
from crisscross.errors import CrissCrossError
from crisscross.files import claim, write_text
from crisscross.progress import is_shown, showing
from crisscross.terminal import say


def evaluate(
    network: Source,
    data: Place | Data,
    split: str | None = None,
    *,
    name: str | None = None,
    dice: bool = False,
    tta: bool = False,
    json: Place | None = None,
    report: Place | None = None,
    save_predictions: Place | None = None,
    force: bool = False,
    workers: int | None = None,
    device: str = "auto",
    optimize: bool = False,
    precision: str | None = None,
    backend: str | None = None,
    weights: Place | None = None,
    offline: bool = False,
    trust: Place | None = None,
    card: Place | None = None,
    progress: bool = True,
) -> Result:
    """Score a network on one split of a data set, as `crisscross evaluate` does.

    Args:
        network: a name from the zoo, a run folder, a file of weights, what `train` returned, or a network or predictor
            in memory, which stays on its device and in its mode.
        data: the data set's folder, or an opened data set.
        split: its name; by default the experiment's test split, else its validation split.
        name: the layout of the folder; by default that of training.
        dice: also Dice (F1), precision and recall of each class.
        tta: predict at several scales, with flips.
        json: also write the scores and counts into this file.
        report: also write `evaluation.html` into this folder, a page of scores with their intervals, and of images.
        save_predictions: also write every prediction into this folder, in the format of the data set's benchmark.
        force: replace existing files even if crisscross did not write them.
        workers: processes that read images; by default as in `train`.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1` ... or `mps`.
        optimize, precision: rewrite the network for speed first; multiply in `fp32`, `bf16` or `fp16`.
        backend: `torch` (the default), `onnx`, `openvino`, or `auto`, the fastest with the same labels on this CPU.
        weights, offline, trust, card: as in `crisscross.load`, of exported files as in `crisscross.predictor`.
        progress: show progress on standard error.

    Returns:
        A `Result`: `score`, and `facts` as JSON values; printed, it is the tables of the command. For semantic
        segmentation also `miou`, `iou` and `accuracy` by class, `pixel_accuracy` and `confusion`.

    Raises:
        CrissCrossError: no such network, data or split, classes that do not fit, unreadable images, files in the way.
    """
    how = dict(weights=weights, offline=offline, trust=trust, optimize=optimize, precision=precision, backend=backend)
    source = wanted(network, device=device, card=card, **how)
    tasks.refuse(task := source.task(), {**how, "tta": tta, "name": name, "save_predictions": save_predictions})
    count = default_workers() if workers is None else workers
    folder = None if save_predictions is None else Path(save_predictions)
    scoring = Scoring(count, tta=tta, save=folder, dice=dice, detailed=report is not None)
    outputs = _Outputs(json, report, {"name": name, "tta": tta, "card": card, **how}, force)
    with showing(progress), kept_global_state():
        return _evaluate(source, task, data, split, name, scoring, outputs)


class _Outputs:
    """The files beside the predictions: scores as JSON, and a page in the folder `report`.

    `options` are those that a command needs to score the same again.
    """

    def __init__(self, scores: Place | None, report: Place | None, options: dict[str, Any], force: bool) -> None:
        self.scores = None if scores is None else Path(scores)
        self.page = None if report is None else Path(report, PAGE)
        self.options, self.force = options, force

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.scores, self.page) if path]

    def write(self, source: Wanted, task: Task, network: Any, opened: Any, split: str, result: Result) -> None:
        if self.scores:
            facts = {**result.facts, "precision": self.options["precision"] or "fp32"}
            write_text(self.scores, json_format.dumps(facts, indent=1) + "\n")
        if self.page:
            write_text(self.page, evaluation_page(source, task, network, opened, split, result, self.options))


def _evaluate(
    source: Wanted,
    task: Task,
    data: Any,
    split: str | None,
    name: str | None,
    scoring: Scoring,
    outputs: _Outputs,
) -> Result:
    # Several processes of one evaluation have a GPU each.
    network, opened, split = open_split(source, task, data, split, name, str(start_on(source.device)))
    # Tasks that open a split when it is asked for do so here.
    inputs = task.files(opened, split)
    check_split(opened, split)
    targets = [*(task.outputs(opened, split, scoring.save) if scoring.save else ()), *outputs.paths]
    claim(targets, [*source.files, *inputs], outputs.force)
    network = source.on_backend(network, len(opened.splits[split]), lambda: _sample(opened, split))
    with source.computing(network):
        result = task.evaluate(network, opened, split, scoring)
        if is_first_process():
            outputs.write(source, task, network, opened, split, result)
    return result


def _sample(data: Any, split: str) -> np.ndarray:
    """The first image of a split."""
    return read_image(data.splits[split][0].image)


def open_split(
    source: Wanted, task: Task, data: Any, split: str | None, name: str | None, device: str
) -> tuple[Any, Any, str]:
    """The network, the data, and the split that is wanted or that `evaluate` takes by default.

    Raises:
        CrissCrossError: no such network or data, or there is no split to take.
    """
    network, opened = _opened(source, task, data, name, device)
    experiment = _exported_experiment(network, name) if source.exported else getattr(network, "experiment", None)
    settings = getattr(experiment, "data", None)
    if isinstance(source.source, str | os.PathLike):
        opened = _as_trained(Path(source.source), settings, opened)
    return network, opened, split or _default_split(settings, opened)


def _opened(source: Wanted, task: Task, data: Any, name: str | None, device: str) -> tuple[Any, Any]:
    """The network and the data; what is wrong with the data is known before weights are downloaded."""
    # A layout that is named here takes the place of the one of training, code that it names included.
    changes = {"data.name": name} if name else {}
    is_path = isinstance(data, str | os.PathLike)
    if is_path:
        existing_folder(data)
    if source.in_memory:
        network = source.load(device, {})
        return network, _open_for(network, task, os.fspath(data), name) if is_path else data
    named = isinstance(source.source, str) and zoo.published(source.source)
    if is_path and named:
        data, is_path = task.open(tasks.recipe(source.source, changes).experiment, os.fspath(data)), False
    network = source.load(device, changes)
    if is_path and source.exported:
        data = task.open(_exported_experiment(network, name), os.fspath(data))
    elif is_path:
        if isinstance(network.experiment, Experiment) and isinstance(source.source, str | os.PathLike):
            file = str(find_file(source.source, source.offline))
            refuse_code(file, network.experiment, changes, source.trust, opening=True)
        data = task.open(network.experiment, os.fspath(data))
    return network, data


def _exported_experiment(network: Any, layout: str | None) -> Experiment:
    """The data set that an exported network was trained on; code that only the file names is not imported."""
    said = dict(network.passport.data)
    if layout or ":" in said.get("name", ""):
        said["name"] = layout or "auto"
    known = ("name", "val_split", "test_split")
    values: dict[str, Any] = {key: value for key, value in said.items() if key in known}
    return Experiment(data=DataConfig(**values))


def _open_for(network: Any, task: Task, data: str, name: str | None) -> Any:
    """The data set of a network in memory; code that its experiment names is not run: it may come from a file."""
    experiment = getattr(network, "experiment", None)
    if experiment is None:
        experiment = Experiment()
    if name or ":" in getattr(experiment.data, "name", ""):
        if not name:
            raise CrissCrossError(
                f"data.name={experiment.data.name} is code of your own: give name={experiment.data.name!r}, or the "
                "opened data set"
            )
        experiment = tasks.recipe(experiment, {"data.name": name}).experiment
    return task.open(experiment, data)


def _as_trained(run: Path, settings: Any, data: Any) -> Any:
    """The data with the sides that the run in a folder trained and validated on, where no split of its own says so."""
    folder = run if run.is_dir() else run.parent
    held = held_in(data, getattr(settings, "val_split", ""))
    data, lines = keep_split(folder if run.exists() else Path(os.devnull), held)
    if lines and is_shown():
        say(*lines, error=True)
    return data


def _default_split(settings: Any, data: Data) -> str:
    """The experiment's test split, else the one that training validated on.

    Raises:
        CrissCrossError: the data has neither.
    """
    test, val = getattr(settings, "test_split", "test"), getattr(settings, "val_split", "val")
    if test not in data.splits and val == NO_SPLIT:
        raise CrissCrossError(
            f"{data.root}: no split {test!r}, and this network was trained with data.val_split={NO_SPLIT}: name the "
            f"images to score with --split ({', '.join(data.splits)})"
        )
    return test if test in data.splits else val
