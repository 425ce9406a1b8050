"""Several runs side by side: scores, classes, differences between their experiments, and curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import yaml

from crisscross.progress import clock
from crisscross.report.charts import curve_chart, curve_color
from crisscross.report.examples import Example
from crisscross.report.facts import Curves, Score
from crisscross.report.page import charts, document, figures, legend, table
from crisscross.terminal import decimal

# Images of a run that are shown.
SHOWN = 2


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
        more: further scores of the best validation, by what they are called.
        examples: images of the run's own page, see `crisscross.report.examples`.
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
    more: Mapping[str, Score] = field(default_factory=dict)
    examples: Sequence[Example] = ()

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
    title, more = title_of(runs), list(dict.fromkeys(name for run in runs for name in run.more))
    # Of runs of several tasks, each row says what its score is.
    mixed = len({run.title for run in runs}) > 1
    head = ["run", *["scored by"] * mixed, f"best val {title}", *more, "at", f"last val {title}"]
    rows = [[*head, "loss", "iterations", "time", "skipped"]]
    for run in runs:
        done = run.curves.iteration[-1] if len(run.curves.iteration) else 0
        at = "-" if run.best_iteration is None else run.best_iteration
        time = "-" if run.seconds is None else clock(run.seconds)
        scores = [decimal(run.best, 4), *(decimal(run.more.get(name), 4) for name in more), at, decimal(run.last, 4)]
        row = [run.name, *[run.title] * mixed, *scores, decimal(run.loss, 4), done, time, run.skipped]
        rows.append([str(cell) for cell in row])
    return rows


def by_class(runs: Sequence[RunRow]) -> list[list[str]]:
    """A head and one row for each class: its IoU at the best validation of each run. Nothing without validations."""
    scored = {run.title for run in runs if run.iou}
    runs = [run for run in runs if run.title in scored]
    names = list(dict.fromkeys(name for run in runs for name in run.classes if run.iou))
    found = [dict(zip(run.classes, run.iou, strict=True)) if run.iou else {} for run in runs]
    rows = [[name, *(decimal(scores.get(name), 4) for scores in found)] for name in names]
    return [["class", *(run.name for run in runs)], *rows] if rows else []


def differing(runs: Sequence[RunRow]) -> list[list[str]]:
    """A head and one row for each key of the experiments that is not the same in all runs.

    A key that only some runs have is a difference as well, unless they are of several tasks, which have other keys.
    """
    keys, mixed = dict.fromkeys(key for run in runs for key in run.values), len({run.title for run in runs}) > 1
    rows = []
    for key in keys:
        values = [_said(run.values.get(key, "-")) for run in runs]
        compared = [value for run, value in zip(runs, values, strict=True) if key in run.values or not mixed]
        if len(set(compared)) > 1:
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
    drawn = [*_score_charts(runs), ("Loss", curve_chart(losses, "Loss"))]
    parts = list(dict.fromkeys(name for run in runs for name in run.curves.parts))
    drawn_parts = [
        (escape(part), curve_chart([(run.name, *_curve(run, run.curves.parts.get(part))) for run in runs], part))
        for part in parts
    ]
    tables = [
        ("Runs", overview(runs)),
        ("Classes: IoU at the best validation", by_class(runs)),
        ("Differences", differing(runs)),
    ]
    found = [(name, rows[0], [map(escape, row) for row in rows[1:]]) for name, rows in tables if rows]
    body = "".join(f"<h2>{name}</h2>{table(head, rows)}" for name, head, rows in found[:1])
    body += f"<h2>Curves</h2>{charts(drawn)}"
    body += f"<h2>Parts of the loss</h2>{charts(drawn_parts)}" if len(drawn_parts) > 1 else ""
    body += "".join(f"<h2>{name}</h2>{table(head, rows)}" for name, head, rows in found[1:])
    title = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    names = legend([(curve_color(place), run.name) for place, run in enumerate(runs)])
    return document(title, f"<header><h1>{title}</h1>{names}</header>{body}{_images(runs)}")


def _score_charts(runs: Sequence[RunRow]) -> list[tuple[str, str]]:
    """A chart for each score that any of the runs has: its color is the same in all of them."""
    scores = [{run.title: run.curves.val_score, **run.curves.more_scores} for run in runs]
    names = dict.fromkeys(name for of_run in scores for name in of_run)
    drawn = []
    for name in names:
        curves = [
            (run.name, run.curves.val_iteration if name in mine else (), mine.get(name, ()))
            for run, mine in zip(runs, scores, strict=True)
        ]
        drawn.append((f"Validation {escape(name)}", curve_chart(curves, f"Validation {name}", scores=True)))
    return drawn


def _curve(run: RunRow, values: Sequence[Score] | None) -> tuple[Sequence[int], Sequence[Score]]:
    return (run.curves.iteration, values) if values is not None else ((), ())


def _images(runs: Sequence[RunRow]) -> str:
    """`SHOWN` images of each run that has any, spread evenly over those of its own page."""
    parts = []
    for run in runs:
        step = max(math.ceil(len(run.examples) / SHOWN), 1)
        parts += [figures(f"{run.name}: {name}", panels) for name, panels in run.examples[::step]]
    note = "Of each run some images of its own report, which has the names of the colors; runs without one show none."
    return f'<h2>Images</h2><p class="note">{note}</p>{"".join(parts)}' if parts else ""
