"""The page of a report as HTML: no script, and no style sheet, font or image from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources

from crisscross.report.charts import bar_chart, confusion_chart, curve_chart
from crisscross.report.facts import Curves, ImageRow, Report
from crisscross.report.images import panels
from crisscross.report.svg import rgb


def document(title: str, body: str) -> str:
    """A whole page; `title` is plain text, `body` markup."""
    css = resources.files("crisscross.report").joinpath("style.css").read_text(encoding="utf-8")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; `head` is plain text, the cells of `rows` are markup."""
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def charts(named: Sequence[tuple[str, str]]) -> str:
    """Charts side by side, each under its name."""
    sections = "".join(f"<section><h3>{name}</h3>{chart}</section>" for name, chart in named)
    return f'<div class="charts">{sections}</div>'


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Colors (as CSS writes them) and what they stand for."""
    items = "".join(f'<li><i style="background:{color}"></i>{escape(name)}</li>' for color, name in entries)
    return f'<ul class="legend">{items}</ul>'


def render(report: Report) -> str:
    """The report as one HTML page; parts about which it says nothing are left out."""
    parts = [
        opening(report.title, report.summary, report.headline),
        _training(report.curves, report.score_title),
        _classes(report),
        _confusion(report),
        _images(report),
        repeat(report.command, report.experiment_yaml, report.versions),
    ]
    return document(report.title, "\n".join(part for part in parts if part))


def opening(title: str, summary: str, headline: Sequence[tuple[str, str]]) -> str:
    """The heading of a page, a paragraph beneath it, and the few numbers that matter, as (label, text)."""
    pairs = ((escape(label), escape(value)) for label, value in headline)
    numbers = "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in pairs)
    shown = f'<dl class="headline">{numbers}</dl>' if numbers else ""
    return f'<header><h1>{escape(title)}</h1><p class="summary">{escape(summary)}</p>{shown}</header>'


def _training(curves: Curves, title: str) -> str:
    """Loss, validation score, learning rate and gates side by side; those never recorded are left out."""
    recorded = [
        ("Loss", curves.iteration, curves.loss, {}),
        (f"Validation {escape(title)}", curves.val_iteration, curves.val_score, {"scores": True}),
        ("Learning rate", curves.iteration, curves.lr, {"smoothed": False}),
    ]
    drawn = [(name, curve_chart([(name, x, y)], name, **options)) for name, x, y, options in recorded if len(y)]
    if gates := [(name, curves.iteration, values) for name, values in curves.gates.items()]:
        drawn.append(("Gate of the attention", curve_chart(gates, "Gate of the attention", smoothed=False)))
    return f"<h2>Training</h2>{charts(drawn)}" if drawn else ""


def _classes(report: Report) -> str:
    if not report.iou:
        return ""
    note = (
        "Each bar is the IoU of a class (intersection over union); the notch is its accuracy, the fraction of its "
        "pixels that were found. A class that occurs neither in the truth nor in the predictions is absent."
    )
    chart = bar_chart(report.classes, report.palette, report.iou, report.accuracy)
    return f'<h2>Classes</h2><p class="note">{note}</p>{chart}'


def _confusion(report: Report) -> str:
    if not report.confusion:
        return ""
    note = (
        "Each row shows the pixels of one true class: the percentage predicted as each class. The diagonal is the "
        "accuracy."
    )
    chart = confusion_chart(report.classes, report.confusion)
    return f'<h2>Confusion</h2><p class="note">{note}</p><div class="scroll">{chart}</div>'


def _images(report: Report) -> str:
    if not report.rows:
        return ""
    named = [*zip(map(rgb, report.palette), report.classes, strict=True)]
    rows = "\n".join(_image_row(row, report.palette) for row in report.rows)
    note = (
        "The colors of the classes are laid over the image. The last panel shows the wrong pixels in red. Ignored "
        "pixels keep the color of the image and are never wrong."
    )
    note = f"{escape(report.rows_note)} {note}".strip()
    return f'<h2>Images</h2><p class="note">{note}</p>{legend(named)}{rows}'


def _image_row(row: ImageRow, palette: Sequence[Sequence[int]]) -> str:
    figures = []
    for caption, uri in panels(row, palette):
        kind = "flat" if uri.startswith("data:image/png") else "photo"
        image = f'<img class="{kind}" src="{uri}" alt="{escape(row.name)}: {caption}">'
        figures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return f'<section class="row"><h3>{escape(row.name)}</h3><div>{"".join(figures)}</div></section>'


def repeat(command: str, experiment_yaml: str, versions: Mapping[str, str]) -> str:
    """How to repeat a run; what is empty is left out."""
    parts = []
    if command:
        parts.append(f"<pre><code>{escape(command)}</code></pre>")
    if experiment_yaml:
        code = f"<pre><code>{escape(experiment_yaml)}</code></pre>"
        parts.append(f"<details><summary>The experiment</summary>{code}</details>")
    if versions:
        pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in versions.items())
        parts.append(f'<dl class="versions">{pairs}</dl>')
    return f"<h2>To repeat it</h2>{''.join(parts)}" if parts else ""
