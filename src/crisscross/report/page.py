"""The page of a report as HTML: no script, and no style sheet, font or image from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources

from crisscross.report.charts import bar_chart, confusion_chart, confusions, curve_chart, curve_color
from crisscross.report.facts import Curves, ImagePanels, ImageRow, Report
from crisscross.report.images import panels
from crisscross.report.reliability import reliability_chart
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
        opening(report.title, report.summary, report.headline, report.scores_note),
        _training(report.curves, report.score_title),
        _classes(report),
        _confusion(report),
        _calibration(report),
        _images(report),
        _machine(report),
        repeat(report.command, report.experiment_yaml, report.versions),
    ]
    return document(report.title, "\n".join(part for part in parts if part))


def opening(title: str, summary: str, headline: Sequence[tuple[str, str]], note: str = "") -> str:
    """The heading of a page, a paragraph, the few numbers that matter, as (label, text), and a note on these."""
    pairs = ((escape(label), escape(value)) for label, value in headline)
    numbers = "".join(f"<div><dt>{label}</dt><dd>{value}</dd></div>" for label, value in pairs)
    shown = f'<dl class="headline">{numbers}</dl>' if numbers else ""
    shown += f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<header><h1>{escape(title)}</h1><p class="summary">{escape(summary)}</p>{shown}</header>'


def _training(curves: Curves, title: str) -> str:
    """Loss, its parts, scores, learning rate and gates side by side; those never recorded are left out."""
    scores = {title: curves.val_score, **curves.more_scores}
    recorded = [
        ("Loss", curves.iteration, curves.loss, {}),
        *((f"Validation {escape(name)}", curves.val_iteration, y, {"scores": True}) for name, y in scores.items()),
        ("Learning rate", curves.iteration, curves.lr, {"smoothed": False}),
    ]
    drawn = [(name, curve_chart([(name, x, y)], name, **options)) for name, x, y, options in recorded if len(y)]
    if gates := [(name, curves.iteration, values) for name, values in curves.gates.items()]:
        names = legend([(curve_color(place), name) for place, (name, *_) in enumerate(gates)]) if len(gates) > 1 else ""
        drawn.append(("Gate of the attention", curve_chart(gates, "Gate of the attention", smoothed=False) + names))
    if len(curves.parts) > 1:
        parts = curve_chart([(name, curves.iteration, y) for name, y in curves.parts.items()], "Parts of the loss")
        names = legend([(curve_color(place), name) for place, name in enumerate(curves.parts)])
        drawn.insert(1, ("Parts of the loss", parts + names))
    return f"<h2>Training</h2>{charts(drawn)}" if drawn else ""


def _classes(report: Report) -> str:
    if not report.iou:
        return ""
    what, notch = report.bars
    note = f"Each bar is the {what} of a class, the notch its {notch}."
    if what == "IoU":
        note = (
            "Each bar is the IoU of a class (intersection over union); the notch is its accuracy, the fraction of its "
            "pixels that were found. A class that occurs neither in the truth nor in the predictions is absent."
        )
    if report.iou_intervals:
        note += " Thin lines are 95 % intervals."
    bars = (report.classes, report.palette, report.iou, report.accuracy, what, notch, report.iou_intervals)
    chart = bar_chart(*bars)
    if report.boundary_iou:
        note += (
            " Boundary IoU is the IoU of the pixels near the outlines, within 2 % of the image's diagonal: it says how "
            "well shapes are met, to which the IoU of large regions is nearly blind."
        )
        scores, intervals = report.boundary_iou, report.boundary_intervals
        empty = [None] * len(report.classes)
        second = bar_chart(report.classes, report.palette, scores, empty, "boundary IoU", intervals=intervals)
        chart = charts([("IoU", chart), ("Boundary IoU", second)])
    rows = [[*map(escape, row)] for row in report.class_table]
    numbers = table(report.class_table[0], rows[1:]) if rows else ""
    return f'<h2>Classes</h2><p class="note">{note}</p>{chart}{numbers}'


def _confusion(report: Report) -> str:
    if not report.confusion:
        return ""
    note = (
        "Each row shows the pixels of one true class: the percentage predicted as each class. The diagonal is the "
        "accuracy."
    )
    matrix = f'<div class="scroll">{confusion_chart(report.classes, report.confusion)}</div>'
    found = confusions(report.classes, report.confusion)
    rows = [[f"{escape(truth)} → {escape(label)}", f"{wrong:.1%}", f"{own:.1%}"] for truth, label, wrong, own in found]
    mistakes = table(["truth → prediction", "of all errors", "of the class"], rows) if rows else ""
    if mistakes and len(report.classes) <= 20:
        matrix = charts([("Matrix", matrix), ("Most frequent errors", mistakes)])
    elif mistakes:
        matrix += f"<h3>Most frequent errors</h3>{mistakes}"
    return f'<h2>Confusion</h2><p class="note">{note}</p>{matrix}'


def _calibration(report: Report) -> str:
    if report.calibration is None or report.calibration.ece is None:
        return ""
    note = (
        "Pixels by the probability of their label: each bar is the fraction of them that is right, the dot their mean "
        "probability. Bars below the diagonal: the network is more sure than it should be. The calibration error (ECE) "
        f"is the mean distance between both over all pixels: {report.calibration.ece:.3f}. The lower chart shows how "
        "many pixels there are."
    )
    return f'<h2>Calibration</h2><p class="note">{note}</p>{reliability_chart(report.calibration)}'


def _machine(report: Report) -> str:
    return f"<h2>Speed and memory</h2>{_pairs(report.machine)}" if report.machine else ""


def _images(report: Report) -> str:
    if not report.rows:
        return ""
    named = [*zip(map(rgb, report.palette), report.classes, strict=True)]
    rows = "\n".join(_image_row(row, report.palette) for row in report.rows)
    note, names = report.rows_note, ""
    if any(isinstance(row, ImageRow) for row in report.rows):
        names = legend(named)
        note += (
            " The colors of the classes are laid over the image. The last panel shows the wrong pixels in red. Ignored "
            "pixels keep the color of the image and are never wrong."
        )
    return f'<h2>Images</h2><p class="note">{escape(note.strip())}</p>{names}{rows}'


def _image_row(row: ImageRow | ImagePanels, palette: Sequence[Sequence[int]]) -> str:
    return figures(row.name, panels(row, palette))


def figures(name: str, captioned: Sequence[tuple[str, str]]) -> str:
    """Images side by side under a name, each a (caption, data URI)."""
    parts = []
    for caption, uri in captioned:
        kind, said = "flat" if uri.startswith("data:image/png") else "photo", escape(caption)
        image = f'<img class="{kind}" src="{uri}" alt="{escape(name)}: {said}">'
        parts.append(f"<figure>{image}<figcaption>{said}</figcaption></figure>")
    columns = f' style="--panels:{len(parts)}"' if len(parts) != 4 else ""
    return f'<section class="row"{columns}><h3>{escape(name)}</h3><div>{"".join(parts)}</div></section>'


def repeat(command: str, experiment_yaml: str, versions: Mapping[str, str]) -> str:
    """How to repeat a run; what is empty is left out."""
    parts = []
    if command:
        parts.append(f"<pre><code>{escape(command)}</code></pre>")
    if experiment_yaml:
        code = f"<pre><code>{escape(experiment_yaml)}</code></pre>"
        parts.append(f"<details><summary>The experiment</summary>{code}</details>")
    if versions:
        parts.append(_pairs(versions))
    return f"<h2>To repeat it</h2>{''.join(parts)}" if parts else ""


def _pairs(named: Mapping[str, str]) -> str:
    """Names and their values, one below the other."""
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in named.items())
    return f'<dl class="versions">{pairs}</dl>'
