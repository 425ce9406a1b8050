"""The charts of a report: curves, bars and the confusion matrix. Each returns SVG text."""

import math
from collections.abc import Sequence
from itertools import accumulate

from crisscross.report.facts import Score
from crisscross.report.svg import drawing, hint, line, path, rgb, tag, text

Point = tuple[float, float]

WIDTH, HEIGHT = 340.0, 215.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 12.0, 42.0


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose low..high; about this many steps."""
    rough = (high - low) / about
    # A range below the rounding of its ends, or below the smallest normal numbers, counts as a single value.
    if not rough > max(abs(low), abs(high)) * 1e-10 + 1e-300:
        return [low, low + (abs(low) or 1.0)]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def smooth(values: Sequence[float], fraction: float = 0.05) -> list[float]:
    """Mean of the values around each one; the window is this fraction of all values."""
    reach = int(len(values) * fraction / 2)
    total = [0.0, *accumulate(values)]
    spans = ((max(0, i - reach), min(len(values), i + reach + 1)) for i in range(len(values)))
    return [(total[last] - total[first]) / (last - first) for first, last in spans]


def curve_chart(
    curves: Sequence[tuple[str, Sequence[float], Sequence[Score]]],
    label: str,
    scores: bool = False,
    smoothed: bool = True,
) -> str:
    """Curves over the iterations, each in a color of its own (`curve_color`).

    Args:
        curves: name, iterations and values of each; values that are None, NaN or infinite are left out.
        label: what the values are, for screen readers.
        scores: the values are scores of some iterations: the axis is 0..1, and every value is marked.
        smoothed: draw running means, of a single curve above its faint values; without effect on scores.
    """
    kept = [(place, name, points) for place, (name, x, y) in enumerate(curves) if (points := _recorded(x, y))]
    if not kept:
        return '<p class="empty">Nothing was recorded.</p>'
    values = [b for *_, points in kept for _, b in points]
    y_ticks = ticks(0.0, 1.0, 5) if scores else ticks(min(0.0, *values), max(values))
    x_ticks = ticks(0.0, max(a for *_, points in kept for a, _ in points))
    parts = [_axes(x_ticks, y_ticks)]
    for place, name, points in kept:
        color, shown = curve_color(place), list(points)
        if smoothed and not scores:
            shown = [(a, mean) for (a, _), mean in zip(points, smooth([b for _, b in points]), strict=True)]
            if len(curves) == 1:
                parts.append(path(_spots(_thinned(points), x_ticks, y_ticks), "curve raw", style=f"stroke:{color}"))
        shown = _thinned(shown)
        spots = _spots(shown, x_ticks, y_ticks)
        parts.append(tag("g", hint(name) + path(spots, "curve", style=f"stroke:{color}"), class_="run"))
        if scores:
            said = [f"{name}, iteration {a:g}: {b:.3f}" for a, b in shown]
            parts += [_dot(spot, words, color) for spot, words in zip(spots, said, strict=True)]
    first, last = kept[0][2][0][1], kept[0][2][-1][1]
    course = f"over {len(values)} points, from {first:.4g} to {last:.4g}" if len(kept) == 1 else f"of {len(kept)} runs"
    return drawing("".join(parts), WIDTH, HEIGHT, f"{label} {course}", "chart")


def _spots(points: Sequence[Point], x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[Point]:
    """Where points of a curve lie in its chart."""
    x_ends, y_ends = (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)
    return [(_along(a, x_ticks, *x_ends), _along(b, y_ticks, *y_ends)) for a, b in points]


def _thinned(points: Sequence[Point], most: int = 600) -> list[Point]:
    """Every n-th point and the last: the page stays small however long the run was."""
    return [*points[: -1 : math.ceil(len(points) / most)], points[-1]]


def curve_color(place: int) -> str:
    """A color for the curve with this number, far from those of the numbers around it."""
    return f"hsl({(215 + place * 137.5) % 360:.0f} 65% 50%)"


def _along(value: float, scale: Sequence[float], start: float, end: float) -> float:
    """Where a value of the scale lies between start and end."""
    return start + (value - scale[0]) / (scale[-1] - scale[0]) * (end - start)


def _axes(x_ticks: Sequence[float], y_ticks: Sequence[float]) -> str:
    """Grid lines with their numbers, and the name of the x axis."""
    parts = []
    for value in y_ticks:
        y = _along(value, y_ticks, HEIGHT - BOTTOM, TOP)
        parts += [line(LEFT, y, WIDTH - RIGHT, y, "axis" if value == y_ticks[0] else "grid")]
        parts += [text(_number(value), LEFT - 8, y + 4.5, "end")]
    for value in x_ticks:
        x = _along(value, x_ticks, LEFT, WIDTH - RIGHT)
        anchor = "end" if value == x_ticks[-1] else "middle"
        parts += [line(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4, "axis")]
        parts += [text(f"{value:g}", x, HEIGHT - BOTTOM + 18, anchor)]
    parts += [text("iteration", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "middle", "label")]
    return "".join(parts)


def _number(value: float) -> str:
    """At most five characters, as many as fit beside an axis: `0.001`, `5e-4`."""
    plain = f"{value:g}"
    return plain if len(plain) <= 5 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _dot(spot: Point, said: str, color: str) -> str:
    return tag("circle", hint(said), cx=spot[0], cy=spot[1], r=3.2, class_="dot", style=f"fill:{color}")


def _recorded(x: Sequence[float], y: Sequence[Score]) -> list[Point]:
    """The points whose value is a finite number."""
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True) if b is not None and math.isfinite(b)]


def bar_chart(
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    iou: Sequence[Score],
    accuracy: Sequence[Score],
    what: str = "IoU",
) -> str:
    """IoU of every class as a bar in its color, its accuracy as a notch; a class without pixels says `absent`.

    `what` names another value in 0..1 that the bars show.
    """
    names = max((len(name) for name in classes), default=0)
    left, width, row = 16 + 7.6 * min(names, 22), 450.0, 27.0
    span = width - left - 56
    height, parts = row * len(classes) + 26, []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + value * span
        parts += [line(x, 4, x, height - 22, "grid"), text(f"{value:g}", x, height - 6, "middle")]
    for index, (name, color, score, reached) in enumerate(zip(classes, palette, iou, accuracy, strict=True)):
        y = 4 + row * index
        parts.append(text(_short(name, 22), left - 10, y + 18, "end", "label"))
        if score is None:
            parts.append(text("absent", left + 8, y + 18, class_="absent"))
            continue
        said = f"{name}: {what} {score:.3f}" + ("" if reached is None else f", accuracy {reached:.3f}")
        bar = {"x": left, "y": y + 4, "width": span * score, "height": row - 9, "rx": 2}
        parts.append(tag("rect", hint(said), **bar, fill=rgb(color), class_="bar"))
        if reached is not None:
            parts.append(line(left + span * reached, y + 2, left + span * reached, y + row - 3, "notch"))
        parts.append(text(f"{score:.2f}", width - 4, y + 18, "end", "value"))
    return drawing("".join(parts), width, height, f"{what} of every class", "bars")


def fractions(counts: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """Every row divided by its sum. A row without pixels is None throughout."""
    rows = ((row, sum(int(count) for count in row)) for row in counts)
    return [[int(count) / total if total else None for count in row] for row, total in rows]


def percent(fraction: float) -> str:
    """A fraction in whole per cent: nothing for 0, and `<1` below one half per cent."""
    if fraction == 0:
        return ""
    return "<1" if fraction < 0.005 else f"{100 * fraction:.0f}"


def confusion_chart(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """The confusion matrix as a heat map: rows truth, columns prediction, per cent of the row.

    With more than 40 classes the cells show colors only; hovering over one shows its numbers.
    """
    cell = 46.0 if len(classes) <= 12 else 36.0 if len(classes) <= 40 else 12.0
    size = f"font-size:{min(14, cell):g}px"
    names = min(max((len(name) for name in classes), default=0), 18)
    left, top = 34 + 7.6 * names, 30 + 5.6 * names
    width, height = left + cell * len(classes) + 3.5 * names + 8, top + cell * len(classes) + 8
    parts = [text("predicted", left + cell * len(classes) / 2, 14, "middle", "label faint")]
    middle = top + cell * len(classes) / 2
    parts += [text("truth", 12, middle, "middle", "label faint", transform=f"rotate(-90 12 {middle:g})")]
    for index, name in enumerate(classes):
        x, y = left + cell * (index + 0.5), top + cell * (index + 0.5)
        turn = f"rotate(-40 {x:g} {top - 7:g})"
        parts.append(text(_short(name, 18), left - 8, y + 5, "end", "label", style=size))
        parts.append(text(_short(name, 18), x, top - 7, "start", "label", transform=turn, style=size))
    for row, (truth, found) in enumerate(zip(classes, fractions(counts), strict=True)):
        total, y = sum(int(count) for count in counts[row]), top + cell * row
        for column, fraction in enumerate(found):
            said = f"truth {truth}, predicted {classes[column]}: {int(counts[row][column])} of {total} pixels"
            parts.append(_confusion_cell(said, fraction, left + cell * column, y, cell))
    return drawing("".join(parts), width, height, "Confusion matrix, per cent of the true class", "confusion")


def _confusion_cell(said: str, fraction: float | None, x: float, y: float, cell: float) -> str:
    """A cell of the heat map, with a dash if the true class has no pixels; small cells have no number."""
    box = {"x": x + 1, "y": y + 1, "width": cell - 2, "height": cell - 2, "rx": 3}
    drawn = tag("rect", **box, class_="cell")
    if fraction or cell >= 20:
        heat = hint(said if fraction is None else f"{said}, {100 * fraction:.1f} %")
        drawn += tag("rect", heat, **box, class_="heat", fill_opacity=round(fraction or 0.0, 3))
    if cell >= 20:
        shown = "–" if fraction is None else percent(fraction)
        style = "number deep" if fraction is not None and fraction >= 0.55 else "number"
        drawn += text(shown, x + cell / 2, y + cell / 2 + 5, "middle", style)
    return drawn


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
