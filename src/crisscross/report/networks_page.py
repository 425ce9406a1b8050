"""The page of the demo: networks that differ in their attention alone, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from crisscross.data.color import overlay
from crisscross.report.charts import curve_chart, curve_color
from crisscross.report.facts import Curves, Score
from crisscross.report.images import OPACITY, data_uri, wrong_pixels
from crisscross.report.page import charts, document, figures, legend, opening, repeat, table
from crisscross.report.svg import rgb


@dataclass(frozen=True, eq=False)
class NetworkColumn:
    """One network. C is the number of classes.

    Attributes:
        name: such as "R = 2".
        score: its mIoU.
        iou: C scores; None for a class that does not occur.
        curves: the course of its training.
    """

    name: str
    score: Score
    iou: Sequence[Score]
    curves: Curves


@dataclass(frozen=True, eq=False)
class SceneRow:
    """An image and what the networks make of it.

    Attributes:
        name: shown above it.
        image: uint8 RGB [H, W, 3].
        truth: integer labels [H, W].
        predictions: integer labels [H, W] of each network, in their order.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Sequence[np.ndarray]


@dataclass(frozen=True, eq=False)
class NetworksReport:
    """Everything on the page.

    Attributes:
        title, summary: the heading, and sentences beneath it.
        classes, palette: names and colors (red, green, blue) in 0..255.
        networks: in the order of the columns.
        rows: images with their predictions; `rows_note` says which these are.
        attention: (caption, uint8 RGB image [H, W, 3]) of what a pixel attends to; `attention_title` names the pixel,
            `attention_note` explains them.
        gate_note: stands above the curves.
        experiment_yaml, command, versions: as in `Report`.
    """

    title: str
    summary: str
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    networks: Sequence[NetworkColumn]
    rows: Sequence[SceneRow] = ()
    rows_note: str = ""
    attention: Sequence[tuple[str, np.ndarray]] = ()
    attention_title: str = ""
    attention_note: str = ""
    gate_note: str = ""
    experiment_yaml: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def render_networks(report: NetworksReport) -> str:
    """The report as one HTML page; parts about which it says nothing are left out."""
    headline = [(f"{one.name}: held-out mIoU", _score(one.score, 3)) for one in report.networks]
    parts = [
        opening(report.title, report.summary, headline),
        _scenes(report),
        _attention(report),
        _training(report),
        _classes(report),
        repeat(report.command, report.experiment_yaml, report.versions),
    ]
    return document(report.title, "\n".join(part for part in parts if part))


def _score(value: Score, digits: int) -> str:
    return "absent" if value is None else f"{value:.{digits}f}"


def _scenes(report: NetworksReport) -> str:
    if not report.rows:
        return ""
    named = [*zip(map(rgb, report.palette), report.classes, strict=True)]
    rows = "".join(_scene(row, report) for row in report.rows)
    return f'<h2>Predictions</h2><p class="note">{escape(report.rows_note)}</p>{legend(named)}{rows}'


def _scene(row: SceneRow, report: NetworksReport) -> str:
    panels = [("image", row.image), ("truth", overlay(row.image, row.truth, report.palette, OPACITY))]
    for network, labels in zip(report.networks, row.predictions, strict=True):
        _, fraction = wrong_pixels(row.truth, labels, len(report.palette))
        wrong = "" if fraction is None else f", {100 * fraction:.0f} % wrong"
        panels.append((f"{network.name}{wrong}", overlay(row.image, labels, report.palette, OPACITY)))
    return _side_by_side(row.name, panels)


def _side_by_side(name: str, panels: Sequence[tuple[str, np.ndarray]]) -> str:
    return figures(name, [(caption, data_uri(pixels, True)) for caption, pixels in panels])


def _attention(report: NetworksReport) -> str:
    if not report.attention:
        return ""
    note = f'<p class="note">{escape(report.attention_note)}</p>'
    return f"<h2>What one pixel attends to</h2>{note}{_side_by_side(report.attention_title, report.attention)}"


def _training(report: NetworksReport) -> str:
    """The losses of all networks in one chart, their gates in another."""
    losses = [(one.name, one.curves.iteration, one.curves.loss) for one in report.networks]
    # A network without a gate keeps its place, and with it its color.
    gates = [
        (one.name, *next(((one.curves.iteration, g) for g in one.curves.gates.values()), ((), ())))
        for one in report.networks
    ]
    drawn = [("Loss", curve_chart(losses, "Loss"))] if any(len(x) for _, x, _ in losses) else []
    drawn += (
        [("Gate of the attention", curve_chart(gates, "Gate of the attention", smoothed=False))]
        if any(len(x) for _, x, _ in gates)
        else []
    )
    if not drawn:
        return ""
    names = legend([(curve_color(place), one.name) for place, one in enumerate(report.networks)])
    return f'<h2>Training</h2><p class="note">{escape(report.gate_note)}</p>{names}{charts(drawn)}'


def _classes(report: NetworksReport) -> str:
    rows = [
        [f'<i style="background:{rgb(color)}"></i> {escape(name)}', *(_score(one.iou[k], 2) for one in report.networks)]
        for k, (name, color) in enumerate(zip(report.classes, report.palette, strict=True))
    ]
    rows.append(["mIoU", *(_score(one.score, 3) for one in report.networks)])
    return f"<h2>IoU of each class</h2>{table(['class', *(one.name for one in report.networks)], rows)}"
