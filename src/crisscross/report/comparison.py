"""Several runs side by side: scores, classes, differences between their experiments, and curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import yaml

from crisscross.progress import clock
from crisscross.report.charts import curve_chart, curve_color
from crisscross.report.facts import Curves, Score
from crisscross.report.page import charts, document, legend, table
from crisscross.terminal import decimal


@dataclass(frozen=True)
class RunRow:
    """One run of a comparison.

    Attributes:
        name: as it is shown.
        curves: loss, learning rate and scores of validations.
        classes: names of its classes.
        iou: of each class at the best validation, in 0..1; empty without one.
        best, last: the highest and the last score of a validation.
        best_iteration: when the highest was reached.
        seconds: of training so far.
        skipped: steps that were skipped in fp16.
        values: its experiment by dotted key.
        title: of the score.
    """

    name: str
    curves: Curves
    classes: Sequence[str] = ()
    iou: Sequence[Score] = ()
    best: Score = None
    best_iteration: int | None = None
    last: Score = None
    seconds: float | None = None
    skipped: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    title: str = "mIoU"

    @property
    def loss(self) -> Score:
        """Mean of the last twentieth of the losses; None where none was recorded."""
        losses = [loss for loss in self.curves.loss if loss is not None]
        tail = losses[-max(len(losses) // 20, 1) :]
        return sum(tail) / len(tail) if tail else None


def title_of(runs: Sequence[RunRow]) -> str:
    """What all runs are scored by; `score` where that differs."""
    titles = {run.title for run in runs}
    return titles.pop() if len(titles) == 1 else "score"


def overview(runs: Sequence[RunRow]) -> list[list[str]]:
    """A head and one row for each run, as text."""
    title = title_of(runs)
    rows = [["run", f"best val {title}", "at", f"last val {title}", "loss", "iterations", "time", "skipped"]]
    for run in runs:
        done = run.curves.iteration[-1] if len(run.curves.iteration) else 0
        at = "-" if run.best_iteration is None else run.best_iteration
        time = "-" if run.seconds is None else clock(run.seconds)
        row = [run.name, decimal(run.best, 4), at, decimal(run.last, 4), decimal(run.loss, 4), done, time, run.skipped]
        rows.append([str(cell) for cell in row])
    return rows


def by_class(runs: Sequence[RunRow]) -> list[list[str]]:
    """A head and one row for each class: its IoU at the best validation of each run. Nothing without validations."""
    names = list(dict.fromkeys(name for run in runs for name in run.classes if run.iou))
    found = [dict(zip(run.classes, run.iou, strict=True)) if run.iou else {} for run in runs]
    rows = [[name, *(decimal(scores.get(name), 4) for scores in found)] for name in names]
    return [["class", *(run.name for run in runs)], *rows] if rows else []


def differing(runs: Sequence[RunRow]) -> list[list[str]]:
    """A head and one row for each key of the experiments that is not the same in all runs."""
    keys = dict.fromkeys(key for run in runs for key in run.values)
    rows = []
    for key in keys:
        values = [_said(run.values.get(key, "-")) for run in runs]
        if len(set(values)) > 1:
            rows.append([key, *values])
    return [["differs", *(run.name for run in runs)], *rows] if rows else []


def _said(value: Any) -> str:
    """As `--set` takes it."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("...\n").strip()


def render_comparison(runs: Sequence[RunRow]) -> str:
    """The page as HTML."""
    losses = [(run.name, run.curves.iteration, run.curves.loss) for run in runs]
    title = f"Validation {title_of(runs)}"
    scores = [(run.name, run.curves.val_iteration, run.curves.val_score) for run in runs]
    drawn = [
        (title, curve_chart(scores, title, scores=True)),
        ("Loss", curve_chart(losses, "Loss")),
    ]
    tables = [
        ("Runs", overview(runs)),
        ("Classes: IoU at the best validation", by_class(runs)),
        ("Differences", differing(runs)),
    ]
    found = [(name, rows[0], [map(escape, row) for row in rows[1:]]) for name, rows in tables if rows]
    parts = "".join(f"<h2>{name}</h2>{table(head, rows)}" for name, head, rows in found)
    title = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    names = legend([(curve_color(place), run.name) for place, run in enumerate(runs)])
    return document(title, f"<h1>{title}</h1>{names}{charts(drawn)}{parts}")
