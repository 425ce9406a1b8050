"""Time and memory against size as an image. Needs matplotlib, which is imported when an image is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare.contestants import FAST, LEAN, MMCV, NON_LOCAL
from benchmarks.compare.goals import MIB, Results
from benchmarks.compare.rows import Row, Size
from crisscross.errors import import_extra
from crisscross.files import write_atomically

INK, FAINT, RULE = "#202124", "#6b7078", "#e3e5e8"
# Name -> (color, marker, dashes). Told apart without color as well: by marker and dash.
LINES: dict[str, tuple[str, str, tuple[float, ...]]] = {
    FAST: ("#0b62c4", "o", ()),
    LEAN: ("#12897b", "s", (4, 1.5)),
    MMCV: ("#d1570c", "^", ()),
    NON_LOCAL: ("#8a8f98", "D", (1.5, 1.5)),
}
# Points between two labels.
LABEL_GAP = 9.0
# (field, title, unit, factor from the row's unit)
PANELS = (
    ("forward", "forward", "milliseconds", 1e3),
    ("training", "forward + backward", "milliseconds", 1e3),
    ("forward_peak", "peak memory, forward", "MiB", 1 / MIB),
    ("training_peak", "peak memory, training", "MiB", 1 / MIB),
)


def draw(results: Results, path: Path, caption: str) -> None:
    """Write a PNG of four panels: time and peak memory, forward and training, on log axes.

    Args:
        results: rows by size.
        path: the PNG file.
        caption: one line under the title: device, threads, type.

    Raises:
        CrissCrossError: matplotlib is not installed, or the file cannot be written.
    """
    figures = import_extra("matplotlib.figure", "the image", "benchmark")
    if any(row.name == NON_LOCAL and row.note for rows in results.values() for row in rows):
        caption += "; no non-local block where it needs more than the memory limit"
    sizes = sorted(results, key=lambda size: size.positions)
    figure = figures.Figure(figsize=(10, 7.4), dpi=160, facecolor="white")
    panels = figure.subplots(2, 2, sharex=True)
    figure.subplots_adjust(left=0.075, right=0.97, bottom=0.085, top=0.85, hspace=0.2, wspace=0.16)
    for panel, (field, title, unit, factor) in zip(panels.flat, PANELS, strict=True):
        lines = {name: _points(sizes, results, name, field, factor) for name in LINES}
        for name, points in lines.items():
            _line(panel, name, points)
        _dress(panel, sizes, f"{title}, {unit}")
        _label_ends(panel, {name: points[-1] for name, points in lines.items() if points})
    for panel in panels[1]:
        panel.set_xlabel("positions (height x width), log scale", color=FAINT, fontsize=9)
    _head(figure, panels.flat[0], sizes[0].channels, caption)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png"))


def _points(sizes: Sequence[Size], results: Results, name: str, field: str, factor: float) -> list[tuple[int, float]]:
    points = []
    for size in sizes:
        row = next((row for row in results[size] if row.name == name), Row(name))
        value = getattr(row, field)
        if value is not None:
            points.append((size.positions, value * factor))
    return points


def _line(panel: Any, name: str, points: Sequence[tuple[int, float]]) -> None:
    color, marker, dashes = LINES[name]
    (line,) = panel.plot(
        [x for x, _ in points], [y for _, y in points], color=color, marker=marker, linewidth=1.8, markersize=5.5,
        label=name,
    )  # fmt: skip
    if dashes:
        line.set_dashes(dashes)


def _label_ends(panel: Any, ends: dict[str, tuple[int, float]]) -> None:
    """Write each line's last value beside it, moved up where it would cover another."""
    panel.autoscale_view()
    to_points = 72 / panel.figure.dpi
    # Lines that end at different sizes do not meet.
    for last in {x for x, _ in ends.values()}:
        lowest = float("-inf")
        for name, (x, y) in sorted(ends.items(), key=lambda item: item[1][1]):
            if x == last:
                natural = panel.transData.transform((x, y))[1] * to_points
                placed = max(natural, lowest + LABEL_GAP)
                lowest = placed
                text = f"{y:,.0f}" if y >= 10 else f"{y:.2g}"
                offset = (7, placed - natural)
                style = {"color": LINES[name][0], "fontsize": 8, "va": "center"}
                panel.annotate(text, (x, y), offset, textcoords="offset points", **style)


def _dress(panel: Any, sizes: Sequence[Size], title: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_title(title, loc="left", fontsize=10.5, color=INK)
    panel.set_xticks([size.positions for size in sizes], [_tick(sizes, index) for index in range(len(sizes))])
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    panel.margins(x=0.12, y=0.12)
    panel.grid(True, which="major", color=RULE, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=FAINT, labelsize=8.5, which="both", length=0)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(RULE)


def _tick(sizes: Sequence[Size], index: int) -> str:
    """A size; on a second line where the size before stands too close."""
    close = index > 0 and sizes[index].positions < 1.35 * sizes[index - 1].positions
    return f"\n{sizes[index]}" if close and not _tick(sizes, index - 1).startswith("\n") else str(sizes[index])


def _head(figure: Any, panel: Any, channels: int, caption: str) -> None:
    figure.text(0.075, 0.97, f"Criss-cross attention, {channels} channels, batch 1", fontsize=13.5, color=INK, va="top")
    figure.text(0.075, 0.93, caption, fontsize=9, color=FAINT, va="top")
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="upper right", bbox_to_anchor=(0.985, 0.985), ncols=4, frameon=False, fontsize=9.5
    )
