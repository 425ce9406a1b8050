"""The charts of a report: curves, bars and the confusion matrix. Each returns SVG text."""

import math
from collections.abc import Sequence
from itertools import accumulate

from crisscross.report.facts import Interval, Score
from crisscross.report.svg import drawing, hint, line, path, rgb, tag, text

Point = tuple[float, float]

WIDTH, HEIGHT = 340.0, 215.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 12.0, 42.0
# The width of a page on a phone, and the longest name, in letters, that the confusion matrix leaves whole.
PHONE, LONGEST = 360.0, 14


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
    values: Sequence[Score],
    notches: Sequence[Score],
    what: str = "IoU",
    notch: str = "accuracy",
    intervals: Sequence[Interval] = (),
) -> str:
    """A value in 0..1 of every class as a bar in its color; a class without one says `absent`.

    Args:
        classes, palette: names and colors.
        values: `what` they are names them, as do `notch` and `notches`.
        notches: further values, drawn as a notch; None where there is none.
        intervals: (low, high) of each value, drawn as a thin line; none are drawn where it is empty.
    """
    names = max((len(name) for name in classes), default=0)
    left, width, row = 16 + 7.6 * min(names, 22), 450.0, 27.0
    span = width - left - 56
    height, parts = row * len(classes) + 26, []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + value * span
        parts += [line(x, 4, x, height - 22, "grid"), text(f"{value:g}", x, height - 6, "middle")]
    for index, (name, color, score, reached) in enumerate(zip(classes, palette, values, notches, strict=True)):
        y = 4 + row * index
        parts.append(text(_short(name, 22), left - 10, y + 18, "end", "label"))
        if score is None:
            parts.append(text("absent", left + 8, y + 18, class_="absent"))
            continue
        said = f"{name}: {what} {score:.3f}" + ("" if reached is None else f", {notch} {reached:.3f}")
        low, high = (intervals[index] if intervals else None) or (score, score)
        said += f", 95 % interval {low:.3f} to {high:.3f}" if low < high else ""
        bar = {"x": left, "y": y + 4, "width": span * score, "height": row - 9, "rx": 2}
        parts.append(tag("rect", hint(said), **bar, fill=rgb(color), class_="bar"))
        if low < high:
            parts.append(_whisker(left + span * low, left + span * high, y + row / 2 - 0.5))
        if reached is not None:
            parts.append(line(left + span * reached, y + 2, left + span * reached, y + row - 3, "notch"))
        parts.append(text(f"{score:.2f}", width - 4, y + 18, "end", "value"))
    return drawing("".join(parts), width, height, f"{what} of every class", "bars")


def _whisker(low: float, high: float, y: float) -> str:
    """A line from low to high with ends, dark on a light rim, so that it shows on any color."""
    drawn = f"M{low:.1f} {y - 4:.1f}v8M{low:.1f} {y:.1f}H{high:.1f}M{high:.1f} {y - 4:.1f}v8"
    return tag("path", d=drawn, class_="whisker rim") + tag("path", d=drawn, class_="whisker")


def fractions(counts: Sequence[Sequence[int]]) -> list[list[float | None]]:
    """Every row divided by its sum. A row without pixels is None throughout."""
    rows = ((row, sum(int(count) for count in row)) for row in counts)
    return [[int(count) / total if total else None for count in row] for row, total in rows]


def confusions(
    classes: Sequence[str], counts: Sequence[Sequence[int]], most: int = 8
) -> list[tuple[str, str, float, float]]:
    """The mistakes of most pixels: truth, prediction, fraction of all wrong pixels, fraction of the true class."""
    cells = [(int(pixels), t, p) for t, row in enumerate(counts) for p, pixels in enumerate(row) if t != p and pixels]
    wrong = sum(pixels for pixels, *_ in cells)
    return [
        (classes[truth], classes[found], pixels / wrong, pixels / sum(map(int, counts[truth])))
        for pixels, truth, found in sorted(cells, key=lambda cell: (-cell[0], *cell[1:]))[:most]
    ]


def percent(fraction: float) -> str:
    """A fraction in whole per cent: nothing for 0, and `<1` below one half per cent."""
    if fraction == 0:
        return ""
    return "<1" if fraction < 0.005 else f"{100 * fraction:.0f}"


def confusion_chart(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """The confusion matrix as a heat map: rows truth, columns prediction, per cent of the row.

    A dozen classes can be read on a phone; more than 20 scroll there. With more than 40 the cells show colors only;
    hovering over one shows its numbers.
    """
    count, names = len(classes), min(max((len(name) for name in classes), default=0), LONGEST)
    left = top = 24 + 6.2 * names
    cell = 12.0 if count > 40 else 20.0 if count > 12 else min(46.0, (PHONE - left) / max(count, 1))
    width, height = left + cell * count + 2, top + cell * count + 2
    middle_x, middle_y, size = left + cell * count / 2, top + cell * count / 2, "font-size:11.5px"
    parts = [text("predicted", middle_x, 10, "middle", "label faint", style=size)]
    turn = f"rotate(-90 10 {middle_y:g})"
    parts += [text("truth", 10, middle_y, "middle", "label faint", transform=turn, style=size)]
    for index, name in enumerate(classes):
        x, y = left + cell * (index + 0.5) + 4, top + cell * (index + 0.5) + 4
        turn = f"rotate(-90 {x:g} {top - 5:g})"
        parts.append(text(_short(name, LONGEST), left - 5, y, "end", "label", style=size))
        parts.append(text(_short(name, LONGEST), x, top - 5, "start", "label", transform=turn, style=size))
    for row, (truth, found) in enumerate(zip(classes, fractions(counts), strict=True)):
        total, y = sum(int(pixels) for pixels in counts[row]), top + cell * row
        for column, fraction in enumerate(found):
            said = f"truth {truth}, predicted {classes[column]}: {int(counts[row][column])} of {total} pixels"
            parts.append(_confusion_cell(said, fraction, left + cell * column, y, cell))
    label = "Confusion matrix, per cent of the true class"
    largest, least = (1.3, 0.75 * width) if count > 20 else (min(max(42 / cell, 1.15), 1.9), 0.0)
    return drawing("".join(parts), width, height, label, "confusion", largest, least)


def _confusion_cell(said: str, fraction: float | None, x: float, y: float, cell: float) -> str:
    """A cell of the heat map, with a dash if the true class has no pixels; small cells have no number."""
    box = {"x": x + 0.5, "y": y + 0.5, "width": cell - 1, "height": cell - 1, "rx": 2}
    drawn = tag("rect", **box, class_="cell")
    if fraction or cell >= 20:
        heat = hint(said if fraction is None else f"{said}, {100 * fraction:.1f} %")
        drawn += tag("rect", heat, **box, class_="heat", fill_opacity=round(fraction or 0.0, 3))
    if cell >= 20:
        shown = "–" if fraction is None else percent(fraction)
        style = "number deep" if fraction is not None and fraction >= 0.55 else "number"
        size = f"font-size:{min(14, cell / 2):.3g}px"
        drawn += text(shown, x + cell / 2, y + cell / 2 + 4, "middle", style, style=size)
    return drawn


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
