"""The page itself: every part of a report as HTML, and the file written whole or not at all."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from crisscross.files import write_text
from crisscross.report.charts import bar_chart, confusion_chart, curve_chart
from crisscross.report.facts import BaselineRow, Curves, ImageRow, Report, Score
from crisscross.report.images import panels
from crisscross.report.style import CSS
from crisscross.report.svg import rgb

IGNORE_COLOR = (0, 0, 0)


def write_report(path: Path, report: Report) -> None:
    """Writes the report as one HTML file that needs nothing else.

    A reader meets the old page or the new one, never half of one. Missing folders are made.

    Raises:
        CrissCrossError: the file cannot be written.
    """
    write_text(path, render(report))


def render(report: Report) -> str:
    """The report as HTML: no script, no style sheet, font or image from elsewhere."""
    parts = [
        _opening(report),
        _training(report.curves),
        _classes(report),
        _confusion(report),
        _images(report),
        _baseline(report.baseline, report.classes),
        _repeat(report),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{CSS}</style>"
    )
    body = "\n".join(part for part in parts if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def _opening(report: Report) -> str:
    pairs = ((escape(label), escape(value)) for label, value in report.headline)
    numbers = "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in pairs)
    headline = f'<dl class="headline">{numbers}</dl>' if numbers else ""
    return f'<header><h1>{escape(report.title)}</h1><p class="summary">{escape(report.summary)}</p>{headline}</header>'


def _training(curves: Curves) -> str:
    """Loss, validation mIoU and learning rate side by side; those that were never recorded are left out."""
    charts = []
    if len(curves.iteration):
        charts.append(("Loss", curve_chart(curves.iteration, curves.loss, "Loss")))
    if len(curves.val_iteration):
        drawn = curve_chart(curves.val_iteration, curves.val_miou, "Validation mIoU", unit_range=True, dots=True)
        charts.append(("Validation mIoU", drawn))
    if len(curves.lr):
        charts.append(("Learning rate", curve_chart(curves.iteration, curves.lr, "Learning rate", smoothed=False)))
    if not charts:
        return ""
    sections = "".join(f"<section><h3>{name}</h3>{chart}</section>" for name, chart in charts)
    return f'<h2>Training</h2><div class="charts">{sections}</div>'


def _classes(report: Report) -> str:
    note = (
        "The bar is the intersection over union of a class, the notch its accuracy: the share of its pixels that were "
        "found. A class that occurs neither in the truth nor in the predictions is absent and counts nowhere."
    )
    chart = bar_chart(report.classes, report.palette, report.iou, report.accuracy)
    return f'<h2>Classes</h2><p class="note">{note}</p>{chart}'


def _confusion(report: Report) -> str:
    note = (
        "Each row follows the pixels of one true class: the numbers say which per cent of them was predicted as what. "
        "The diagonal is the accuracy."
    )
    chart = confusion_chart(report.classes, report.confusion)
    return f'<h2>Confusion</h2><p class="note">{note}</p><div class="scroll">{chart}</div>'


def _images(report: Report) -> str:
    if not report.rows:
        return ""
    named = [*zip(report.palette, report.classes, strict=True), (IGNORE_COLOR, "ignored")]
    legend = "".join(f'<li><i style="background:{rgb(color)}"></i>{escape(name)}</li>' for color, name in named)
    rows = "\n".join(_image_row(row, report.palette) for row in report.rows)
    note = "The last panel of a row shows the wrong pixels in red; ignored pixels are never wrong."
    return f'<h2>Images</h2><p class="note">{note}</p><ul class="legend">{legend}</ul>{rows}'


def _image_row(row: ImageRow, palette: Sequence[Sequence[int]]) -> str:
    figures = []
    for caption, uri in panels(row, palette, IGNORE_COLOR):
        kind = "flat" if uri.startswith("data:image/png") else "photo"
        image = f'<img class="{kind}" src="{uri}" alt="{escape(row.name)}: {caption}">'
        figures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return f'<section class="row"><h3>{escape(row.name)}</h3><div>{"".join(figures)}</div></section>'


def _baseline(rows: Sequence[BaselineRow], classes: Sequence[str]) -> str:
    """The comparison, with the best of every column marked."""
    if not rows:
        return ""
    scores = [[row.miou, *row.iou] for row in rows]
    best = [max((s for s in column if s is not None), default=None) for column in zip(*scores, strict=True)]
    head = "".join(f"<th>{escape(name)}</th>" for name in ("network", "mIoU", *classes, "seconds"))
    body = []
    for row, values in zip(rows, scores, strict=True):
        cells = "".join(f"<td>{_score(value, top)}</td>" for value, top in zip(values, best, strict=True))
        seconds = "–" if row.seconds is None else f"{row.seconds:.0f}"
        body.append(f"<tr><td>{escape(row.name)}</td>{cells}<td>{seconds}</td></tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    note = '<p class="note">IoU of every class; the best of a column is marked.</p>'
    return f'<h2>Comparison</h2>{note}<div class="scroll">{table}</div>'


def _score(value: Score, best: Score) -> str:
    if value is None:
        return "absent"
    return f"<b>{value:.3f}</b>" if value == best else f"{value:.3f}"


def _repeat(report: Report) -> str:
    parts = []
    if report.command:
        parts.append(f"<pre><code>{escape(report.command)}</code></pre>")
    if report.experiment_yaml:
        code = f"<pre><code>{escape(report.experiment_yaml)}</code></pre>"
        parts.append(f"<details open><summary>The experiment</summary>{code}</details>")
    if report.versions:
        pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.versions.items())
        parts.append(f'<dl class="versions">{pairs}</dl>')
    return f"<h2>To repeat it</h2>{''.join(parts)}" if parts else ""
