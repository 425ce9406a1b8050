"""What a finished run leaves for people: `report.html` with curves and images, `README.md` on how to use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from crisscross.checkpoints import native
from crisscross.config import to_yaml
from crisscross.engine.run.interrupt import Interrupted
from crisscross.engine.run.log import read_log
from crisscross.engine.run.overview import millions, title_of
from crisscross.engine.run.readme import readme
from crisscross.engine.run.record import hardware, versions
from crisscross.engine.run.state import Position
from crisscross.engine.task import Data, Result, Scoring, Task
from crisscross.errors import CrissCrossError
from crisscross.files import write_text
from crisscross.progress import clock
from crisscross.report import Curves, Report, render

REPORT, README = "report.html", "README.md"


@dataclass(frozen=True)
class FinishedRun:
    """A run that reached its end; `facts` are those stored with the weights."""

    task: Task
    experiment: Any
    data: Data
    folder: Path
    val_split: str
    position: Position
    facts: Mapping[str, Any]


def write_results(run: FinishedRun, device: str, best: Result | None, again: Scoring | None) -> list[str]:
    """Write both files; what keeps the page from being written is returned as a line, for the run itself is done.

    Args:
        run: what to write about.
        device: where to label the images of the page.
        best: the result of the best validation, None where an earlier part of the run made that.
        again: how it is then made again; None leaves it out.

    Raises:
        CrissCrossError: `README.md` cannot be written.
    """
    write_text(run.folder / README, readme(run.task, run.experiment, run.data, run.folder, run.val_split, run.facts))
    try:
        write_text(run.folder / REPORT, render(_report(run, device, best, again)))
    except Interrupted:
        return [f"{run.folder / REPORT} is not written: stopped"]
    except (CrissCrossError, torch.OutOfMemoryError, MemoryError) as error:
        return [f"{run.folder / REPORT} is not written: {error}"]
    return []


def _report(run: FinishedRun, device: str, result: Result | None, again: Scoring | None) -> Report:
    experiment, position = run.experiment, run.position
    network = run.task.load(native.run_weights(run.folder), device, trust=run.folder)
    if result is None and position.best_score is not None and again is not None:
        result = run.task.evaluate(network, run.data, run.val_split, again)
    shown = run.task.report(network, run.data, run.val_split, result) if result else {}
    score, title = position.best_score, run.task.title
    best = (
        []
        if score is None
        else [(f"best validation {title}", f"{score:.4f}"), ("at iteration", str(position.best_iteration))]
    )
    counts = [(f"{split} images", str(len(run.data.splits[split]))) for split in _splits(run)]
    parameters = sum(parameter.numel() for parameter in network.parameters())
    time = clock(float(run.facts["seconds"]))
    return Report(
        **{
            "title": run.folder.resolve().name,
            "summary": f"{title_of(experiment)}, trained for {position.iteration} iterations on {run.data.root}.",
            **shown,
            "headline": [*best, ("training time", time), *counts, ("parameters", millions(parameters))],
            "curves": Curves.from_log(read_log(run.folder), run.task.columns[0], run.task.columns[1:]),
            "score_title": title,
            "experiment_yaml": to_yaml(experiment),
            "versions": versions() | {name: str(value) for name, value in hardware().items()},
        }
    )


def _splits(run: FinishedRun) -> list[str]:
    return [run.experiment.data.train_split, *([run.val_split] if run.val_split else [])]
