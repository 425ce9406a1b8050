"""Runs side by side: one table, their classes, what differs between their experiments, and their curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import yaml

from crisscross.files import write_text
from crisscross.report.charts import curve_color, curves_chart
from crisscross.report.facts import Curves, Score
from crisscross.report.style import CSS


@dataclass(frozen=True)
class RunRow:
    """One run of a comparison.

    Attributes:
        name: as it is shown.
        curves: loss, learning rate and validation mIoU.
        classes: names of its classes.
        iou: of each class at the best validation, in 0..1; empty without one.
        best, last: the highest and the last validation mIoU.
        best_iteration: when the highest was reached.
        seconds: of training so far.
        skipped: steps that fp16 left out.
        values: its experiment by dotted key.
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

    @property
    def loss(self) -> Score:
        """Mean of the last twentieth of the losses; None where none was recorded."""
        losses = [loss for loss in self.curves.loss if loss is not None]
        tail = losses[-max(len(losses) // 20, 1) :]
        return sum(tail) / len(tail) if tail else None


def overview(runs: Sequence[RunRow]) -> list[list[str]]:
    """A head and one row for each run, as text."""
    rows = [["run", "best val mIoU", "at", "last val mIoU", "loss", "iterations", "time", "skipped"]]
    for run in runs:
        done = str(run.curves.iteration[-1]) if len(run.curves.iteration) else "0"
        at = "-" if run.best_iteration is None else str(run.best_iteration)
        row = [run.name, score(run.best), at, score(run.last), score(run.loss), done, _time(run.seconds)]
        rows.append([*row, str(run.skipped)])
    return rows


def by_class(runs: Sequence[RunRow]) -> list[list[str]]:
    """A head and one row for each class: its IoU at the best validation of each run. Nothing without validations."""
    names = list(dict.fromkeys(name for run in runs for name in run.classes if run.iou))
    found = [dict(zip(run.classes, run.iou, strict=True)) if run.iou else {} for run in runs]
    rows = [[name, *(score(scores.get(name)) for scores in found)] for name in names]
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


def write_comparison(path: Path, runs: Sequence[RunRow]) -> None:
    """Write the page as one HTML file that needs nothing else.

    Raises:
        CrissCrossError: the file cannot be written.
    """
    write_text(path, render_comparison(runs))


def render_comparison(runs: Sequence[RunRow]) -> str:
    """The page as HTML."""
    losses = [(run.name, run.curves.iteration, run.curves.loss) for run in runs]
    scores = [(run.name, run.curves.val_iteration, run.curves.val_miou) for run in runs]
    legend = "".join(
        f'<li><i style="background:{curve_color(place)}"></i>{escape(run.name)}</li>' for place, run in enumerate(runs)
    )
    charts = (
        f"<section><h3>Validation mIoU</h3>{curves_chart(scores, 'Validation mIoU', unit_range=True)}</section>"
        f"<section><h3>Loss</h3>{curves_chart(losses, 'Loss')}</section>"
    )
    tables = [
        ("Runs", overview(runs)),
        ("Classes: IoU at the best validation", by_class(runs)),
        ("What differs", differing(runs)),
    ]
    parts = "".join(f"<h2>{title}</h2>{_table(rows)}" for title, rows in tables if rows)
    title = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{CSS}</style>"
    )
    body = f'<h1>{title}</h1><ul class="legend">{legend}</ul><div class="charts">{charts}</div>{parts}'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[1:])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def score(value: Score) -> str:
    """Four digits, or a dash."""
    return "-" if value is None else f"{value:.4f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
