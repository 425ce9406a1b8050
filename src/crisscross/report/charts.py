"""The charts of a report: curves, bars and the confusion matrix. Each returns SVG text."""

import math
from collections.abc import Iterable, Sequence

from crisscross.report.facts import Score
from crisscross.report.svg import drawing, hint, line, path, rgb, tag, text

Point = tuple[float, float]

WIDTH, HEIGHT = 340.0, 215.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 12.0, 42.0


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that enclose low..high; about this many steps."""
    rough = (high - low) / about
    # Apart by less than their own rounding, or than the smallest number with all its digits, they are one.
    if not rough > max(abs(low), abs(high)) * 1e-10 + 1e-300:
        return [low, low + (abs(low) or 1.0)]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def smooth(values: Sequence[float], share: float = 0.05) -> list[float]:
    """Mean of the values around each one; the window is this share of them all."""
    reach = int(len(values) * share / 2)
    total = [0.0]
    for value in values:
        total.append(total[-1] + value)
    spans = ((max(0, i - reach), min(len(values), i + reach + 1)) for i in range(len(values)))
    return [(total[last] - total[first]) / (last - first) for first, last in spans]


def curve_chart(
    x: Sequence[float],
    y: Sequence[Score],
    label: str,
    unit_range: bool = False,
    dots: bool = False,
    smoothed: bool = True,
) -> str:
    """A curve over the iterations.

    Args:
        x, y: the points; those that are None, NaN or infinite are left out.
        label: what y is, for screen readers.
        unit_range: the y axis is 0..1, whatever the values are.
        dots: mark and name every point, for a score now and then.
        smoothed: draw the values faintly beneath their running mean; without effect on dots.
    """
    points = _recorded(x, y)
    if not points:
        return '<p class="empty">Nothing was recorded.</p>'
    values = [b for _, b in points]
    y_ticks = ticks(0.0, 1.0, 5) if unit_range else ticks(min(0.0, *values), max(values))
    x_ticks = ticks(0.0, max(a for a, _ in points))
    spots = [(_along(a, x_ticks, LEFT, WIDTH - RIGHT), _along(b, y_ticks, HEIGHT - BOTTOM, TOP)) for a, b in points]
    parts = [_axes(x_ticks, y_ticks)]
    if dots:
        parts.append(path(spots, "curve"))
        parts += [_dot(spot, f"iteration {a:g}: {b:.3f}") for spot, (a, b) in zip(spots, points, strict=True)]
    elif smoothed:
        means = [_along(b, y_ticks, HEIGHT - BOTTOM, TOP) for b in smooth(values)]
        calm = [(at, mean) for (at, _), mean in zip(spots, means, strict=True)]
        parts += [path(_thinned(spots), "curve raw"), path(_thinned(calm), "curve")]
    else:
        parts.append(path(_thinned(spots), "curve"))
    said = f"{label} over {len(points)} points, from {values[0]:.4g} to {values[-1]:.4g}"
    return drawing("".join(parts), WIDTH, HEIGHT, said, "chart")


def curves_chart(
    curves: Sequence[tuple[str, Sequence[float], Sequence[Score]]], label: str, unit_range: bool = False
) -> str:
    """Several curves over the iterations in one chart, each in a color of its own; see `curve_color`.

    Args:
        curves: name, iterations and values of each; values that are None, NaN or infinite are left out.
        label: what the values are, for screen readers.
        unit_range: the y axis is 0..1 and every value is marked; otherwise curves are running means.
    """
    kept = []
    for place, (name, x, y) in enumerate(curves):
        if points := _recorded(x, y):
            means = [b for _, b in points] if unit_range else smooth([b for _, b in points])
            kept.append((place, name, [(a, mean) for (a, _), mean in zip(points, means, strict=True)]))
    if not kept:
        return '<p class="empty">Nothing was recorded.</p>'
    values = [b for _, _, points in kept for _, b in points]
    y_ticks = ticks(0.0, 1.0, 5) if unit_range else ticks(min(0.0, *values), max(values))
    x_ticks = ticks(0.0, max(a for _, _, points in kept for a, _ in points))
    parts = [_axes(x_ticks, y_ticks)]
    for place, name, points in kept:
        spots = [(_along(a, x_ticks, LEFT, WIDTH - RIGHT), _along(b, y_ticks, HEIGHT - BOTTOM, TOP)) for a, b in points]
        color = curve_color(place)
        drawn = path(_thinned(spots), "curve", style=f"stroke:{color}")
        parts.append(tag("g", hint(name) + drawn, class_="run"))
        if unit_range:
            said = [f"{name}, iteration {a:g}: {b:.3f}" for a, b in points]
            parts += [_dot(spot, words, style=f"fill:{color}") for spot, words in zip(spots, said, strict=True)]
    return drawing("".join(parts), WIDTH, HEIGHT, f"{label} of {len(kept)} runs", "chart")


def curve_color(place: int) -> str:
    """The color of the curve at this place: far from its neighbors' for as many as there are."""
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
        parts += [text(f"{value:g}", LEFT - 8, y + 4.5, "end")]
    for value in x_ticks:
        x = _along(value, x_ticks, LEFT, WIDTH - RIGHT)
        anchor = "end" if value == x_ticks[-1] else "middle"
        parts += [line(x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 4, "axis")]
        parts += [text(f"{value:g}", x, HEIGHT - BOTTOM + 18, anchor)]
    parts += [text("iteration", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "middle", "label")]
    return "".join(parts)


def _dot(spot: Point, said: str, **attributes: object) -> str:
    return tag("circle", hint(said), cx=spot[0], cy=spot[1], r=3.2, class_="dot", **attributes)


def _recorded(x: Sequence[float], y: Sequence[Score]) -> list[Point]:
    """The points whose value is a finite number."""
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True) if b is not None and math.isfinite(b)]


def _thinned(points: Sequence[Point], most: int = 600) -> Sequence[Point]:
    """Every n-th point and the last: the page stays small however long the run was."""
    step = math.ceil(len(points) / most)
    return [*points[:-1:step], points[-1]]


def bar_chart(
    classes: Sequence[str], palette: Sequence[Sequence[int]], iou: Sequence[Score], accuracy: Sequence[Score]
) -> str:
    """IoU of every class as a bar in its color, its accuracy as a notch; a class without pixels says `absent`."""
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
        said = f"{name}: IoU {score:.3f}" + ("" if reached is None else f", accuracy {reached:.3f}")
        bar = {"x": left, "y": y + 4, "width": span * score, "height": row - 9, "rx": 2}
        parts.append(tag("rect", hint(said), **bar, fill=rgb(color), class_="bar"))
        if reached is not None:
            parts.append(line(left + span * reached, y + 2, left + span * reached, y + row - 3, "notch"))
        parts.append(text(f"{score:.2f}", width - 4, y + 18, "end", "value"))
    return drawing("".join(parts), width, height, "IoU of every class", "bars")


def shares(counts: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """Every row divided by its sum: what became of the pixels of a class. A row without pixels is None throughout."""
    rows = ((row, sum(int(count) for count in row)) for row in counts)
    return [[int(count) / total if total else None for count in row] for row, total in rows]


def percent(share: float) -> str:
    """A share in whole per cent, with nothing for a true 0 and `<1` for a trace."""
    if share == 0:
        return ""
    return "<1" if share < 0.005 else f"{100 * share:.0f}"


def confusion_chart(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """The confusion matrix as a heat map: rows truth, columns prediction, per cent of the row.

    Beyond 40 classes the cells hold color alone; a pointer that rests on one still reads the numbers.
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
    for row, (truth, row_shares) in enumerate(zip(classes, shares(counts), strict=True)):
        parts.append(_confusion_row(truth, classes, counts[row], row_shares, left, top + cell * row, cell))
    return drawing("".join(parts), width, height, "Confusion matrix, per cent of the true class", "confusion")


def _confusion_row(
    truth: str,
    classes: Sequence[str],
    counts: Sequence[int],
    row_shares: Iterable[float | None],
    left: float,
    y: float,
    cell: float,
) -> str:
    """The cells of one true class; a dash in each where it has no pixels."""
    parts, total = [], sum(int(count) for count in counts)
    for column, share in enumerate(row_shares):
        x, deep = left + cell * column, share is not None and share >= 0.55
        said = f"truth {truth}, predicted {classes[column]}: {int(counts[column])} of {total} pixels"
        box = {"x": x + 1, "y": y + 1, "width": cell - 2, "height": cell - 2, "rx": 3}
        parts.append(tag("rect", **box, class_="cell"))
        if not share and cell < 20:
            continue
        heat = hint(said if share is None else f"{said}, {100 * share:.1f} %")
        parts.append(tag("rect", heat, **box, class_="heat", fill_opacity=round(share or 0.0, 3)))
        shown = "–" if share is None else percent(share)
        if cell >= 20:
            parts.append(text(shown, x + cell / 2, y + cell / 2 + 5, "middle", "number deep" if deep else "number"))
    return "".join(parts)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
