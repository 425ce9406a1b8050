"""`crisscross.train`, and what it returns."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from multiprocessing import get_all_start_methods, get_start_method
from pathlib import Path
from typing import Any

from crisscross import tasks
from crisscross.api.networks import Place
from crisscross.engine.processes import is_first_process
from crisscross.engine.run.readme import runs_code
from crisscross.engine.run.record import last_start
from crisscross.engine.run.state import Outcome, check_resumable
from crisscross.engine.setup import Machine
from crisscross.engine.task import AnyExperiment, Data
from crisscross.engine.train import train as run_training
from crisscross.errors import CrissCrossError
from crisscross.progress import showing
from crisscross.terminal import say

# Processes that read images.
WORKERS = 2
Changes = Iterable[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A training that ended, or was stopped by Ctrl-C or SIGTERM.

    Attributes:
        folder: its weights, log and record; every function and command that takes a network takes it.
        data: the folder of its data set.
        finished: False where it was stopped; `train(resume=folder)` continues it.
        iteration: the last one.
        best_score: the best validation's, such as the mIoU, 0 to 1; None where nothing was validated.
        best_iteration: after which `best.safetensors` was written.
        title: the name of the score.
        seconds: of this call.
        code: whether its experiment names code of your own, which `load` runs.
        in_validation: whether it was stopped during a validation, which is made again when the run goes on.
        signal: the number of the signal by which it was stopped, 0 where there was none.
    """

    folder: Path
    data: Path
    finished: bool
    iteration: int
    best_score: float | None
    best_iteration: int | None
    title: str
    seconds: float
    code: bool = False
    in_validation: bool = False
    signal: int = 0

    def load(self, device: str = "cpu", **overrides: Any) -> Any:
        """The network with its best weights, else the last, as `crisscross.load` gives it.

        Raises:
            CrissCrossError: the files are no longer there.
        """
        return tasks.load(self.folder, device, trust=self.folder, **overrides)


def train(
    recipe: Place | AnyExperiment | None = None,
    data: Place | Data | None = None,
    out: Place | None = None,
    *,
    resume: bool | Place = False,
    init: Place | None = None,
    backbone_weights: Place | None = None,
    device: str = "auto",
    workers: int | None = None,
    cache: str = "",
    compile: bool = False,
    track: Sequence[str] = (),
    shard: bool = False,
    per_class: bool = False,
    progress: bool = True,
    **changes: Any,
) -> Run:
    """Train a network, as `crisscross train` does. Ctrl-C ends it at the next safe moment, and the run can go on.

    Args:
        recipe: a name from the zoo, a YAML file or an experiment.
        data: the data set's folder, or an opened data set.
        out: the run folder to write.
        resume: True continues the run in `out`; a run folder continues that one, with the recipe, data and options of
            its last start where others are not given.
        init: a trained network to start from, whatever its classes: a zoo name, a run folder or a file.
        backbone_weights: weights of the backbone instead of timm's: a zoo name, a run folder or a file.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1` ... or `mps`.
        workers: processes that read images; by default 2 where the system starts them by fork, else 0: others would
            run a script without `if __name__ == "__main__":` a second time.
        cache: `ram`, `disk` or `disk:FOLDER` keeps decoded training images.
        compile: run the network through torch.compile.
        track: also log to these trackers: `tensorboard`, `wandb`, `mlflow` ...
        shard: shard weights, gradients and optimizer state over the processes.
        per_class: print the scores of every class at each validation.
        progress: show progress on standard error.
        changes: values of the experiment by their last name (`iterations=500`), by section
            (`optim={"lr": 0.01, "warmup": 100}`) or in full (`**{"train.iterations": 500}`).

    Raises:
        CrissCrossError: bad data, an unknown or invalid value, weights that do not fit, a folder in use; see
            `crisscross.engine.train.train`.
    """
    given: dict[str, Any] = {"workers": workers, "device": device, "per_class": per_class}
    given |= {"track": list(track), "compile": compile, "cache": cache}
    given |= {"shard": shard, "init": init, "backbone_weights": backbone_weights}
    with showing(progress):
        return start(recipe, data, out, resume, given, changes, progress)


def start(
    recipe: Any,
    data: Any,
    out: Any,
    resume: bool | Place,
    given: Mapping[str, Any],
    changes: Changes,
    show: bool = True,
) -> Run:
    """`train` with its options in a dictionary, `given`; `changes` as `crisscross.tasks.recipe` takes them.

    Raises:
        CrissCrossError: as `train`.
    """
    options = dict(given)
    if resume and not isinstance(resume, bool):
        if out is not None and Path(out) != Path(resume):
            raise CrissCrossError(f"--resume {resume} and --out {out} are two runs: give one of them")
        out = resume
    if resume and recipe is None and out is not None:
        check_resumable(Path(out))
        for name, value in last_start(Path(out)).items():
            if options.get(name) is False or options.get(name) in (None, "", [], "auto"):
                options[name] = value
        recipe, data = Path(out) / "experiment.yaml", options.get("data") if data is None else data
    if resume and data is None and out is not None:
        raise CrissCrossError(f"{out}: run.json does not say where the data are; add --data DIR to `--resume {out}`")
    for value, word in ((recipe, "RECIPE"), (data, "--data DIR"), (out, "--out RUN")):
        if value is None:
            raise CrissCrossError(f"train: {word} is missing; only `--resume RUN` goes without")
    init, backbone_weights = options["init"], options["backbone_weights"]
    if init and backbone_weights:
        raise CrissCrossError("--init fills the whole network and --backbone-weights its backbone: give one of them")
    is_path = isinstance(data, str | os.PathLike)
    root = Path(data if is_path else data.root)
    if Path(out).resolve() == root.resolve():
        raise CrissCrossError(f"--out {out} is the data set's own folder; a run needs one of its own")
    found = tasks.recipe(recipe, changes)
    tasks.refuse(found.task, options)
    if found.lines and show and is_first_process():
        say(*found.lines, error=True)
    if is_path:
        data = found.task.open(found.experiment, os.fspath(data))
    where = (found.experiment, data, out, _machine(options), backbone_weights, bool(resume))
    return _run(run_training(*where, init=init, task=found.task, chosen=found.chosen), Path(out), root, found)


def _machine(options: Mapping[str, Any]) -> Machine:
    values = {entry.name: options[entry.name] for entry in fields(Machine)}
    values["workers"] = default_workers() if values["workers"] is None else values["workers"]
    return Machine(**{**values, "track": tuple(dict.fromkeys(values["track"]))})


def _run(outcome: Outcome, out: Path, data: Path, found: tasks.Recipe) -> Run:
    position = outcome.position
    best = (position.best_score, position.best_iteration, found.task.title)
    how = (outcome.seconds, runs_code(found.experiment), outcome.in_validation)
    return Run(out, data, outcome.finished, position.iteration, *best, *how, signal=outcome.signal)


def default_workers() -> int:
    """`WORKERS` where processes start by fork."""
    method = get_start_method(allow_none=True) or get_all_start_methods()[0]
    return WORKERS if method == "fork" else 0
