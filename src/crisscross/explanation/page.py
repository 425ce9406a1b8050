"""The page about the attention of a network, as HTML that needs no other file."""

from collections.abc import Sequence
from html import escape

from crisscross.explanation.findings import LayerSurvey, PassSpread, Survey
from crisscross.explanation.panels import example_row, field_map, figure_of
from crisscross.metrics import scores
from crisscross.report.charts import bar_chart, ticks
from crisscross.report.page import charts, document, legend, opening, repeat, table
from crisscross.report.svg import drawing, hint, line, rgb, tag, text
from crisscross.terminal import decimal


def render(found: Survey, title: str, summary: str, command: str = "") -> str:
    """The page as HTML.

    Args:
        found: what `survey_network` returned.
        title: the name of the network.
        summary: which images it was shown, in a sentence.
        command: how to repeat it.
    """
    parts = [_opening(found, title, summary), _switched_off(found)]
    parts += [_layer(found, layer) for layer in found.layers if layer.passes]
    parts.append(_examples(found))
    parts.append(repeat(command, "", {}))
    return document(f"Attention: {title}", "\n".join(part for part in parts if part))


def _opening(found: Survey, title: str, summary: str) -> str:
    facts = found.facts()
    numbers = [
        ("mIoU", _or_dash(facts["miou"], 3)),
        ("attention switched off", _or_dash(facts["miou_switched_off"], 3)),
        ("labels that change", _percent(facts["changed"])),
        *(
            (f"gate of {layer.name}" if len(found.layers) > 1 else "gate", f"{layer.gate:.3f}")
            for layer in found.layers
        ),
    ]
    return opening(f"What {title} attends to", summary, numbers)


def _switched_off(found: Survey) -> str:
    """Scores with attention and without, by class."""
    facts = found.facts()["classes"]
    gains = [_difference(facts[name]["iou"], facts[name]["iou_switched_off"]) for name in found.classes]
    rows = [
        [escape(name), *(_or_dash(facts[name][key], 3) for key in ("iou", "iou_switched_off")), _signed(gain),
         _percent(facts[name]["changed"])]
        for name, gain in zip(found.classes, gains, strict=True)
    ]  # fmt: skip
    with_it, without = scores(found.counts), scores(found.counts_without)
    gain = _difference(with_it.miou, without.miou)
    changed = _percent(found.facts()["changed"])
    rows.append(["all classes", _or_dash(with_it.miou, 3), _or_dash(without.miou, 3), _signed(gain), changed])
    note = (
        "The same weights with every gate at 0, so that each criss-cross layer gives back its input. The network was "
        "not trained without attention: what it loses shows how much it relies on it, not what a network without "
        "attention would reach. The gain is in points, hundredths of IoU; the last column is the share of the pixels "
        "of a true class that get another label."
    )
    head = ["class", "IoU", "switched off", "gain", "changed"]
    chart = gain_chart(found.classes, found.palette, gains)
    return f'<h2>Attention switched off</h2><p class="note">{note}</p>{chart}{table(head, rows)}'


def gain_chart(classes: Sequence[str], palette: Sequence[Sequence[int]], gains: Sequence[float | None]) -> str:
    """Points of IoU that attention adds to each class, as bars to the right of a line, or to its left."""
    known = [gain for gain in gains if gain is not None]
    scale = ticks(min(0.0, *known, 0.0), max(0.0, *known, 0.0)) if known else [0.0, 1.0]
    names = min(max((len(name) for name in classes), default=0), 22)
    left, width, row = 16 + 7.6 * names, 450.0, 27.0
    span, height = width - left - 56, row * len(classes) + 26

    def along(value: float) -> float:
        return left + (value - scale[0]) / (scale[-1] - scale[0]) * span

    parts = []
    for value in scale:
        parts.append(line(along(value), 4, along(value), height - 22, "grid" if value else "axis"))
        parts.append(text(f"{value:g}", along(value), height - 6, "middle"))
    for number, (name, color, gain) in enumerate(zip(classes, palette, gains, strict=True)):
        y = 4 + row * number
        parts.append(text(name if len(name) <= 22 else f"{name[:21]}…", left - 10, y + 18, "end", "label"))
        if gain is None:
            parts.append(text("absent", along(0.0) + 8, y + 18, class_="absent"))
            continue
        start, end = sorted((along(0.0), along(gain)))
        box = {"x": start, "y": y + 4, "width": end - start, "height": row - 9, "rx": 2}
        parts.append(tag("rect", hint(f"{name}: {gain:+.2f} points"), **box, fill=rgb(color), class_="bar"))
        parts.append(text(_signed(gain), width - 4, y + 18, "end", "value"))
    return drawing("".join(parts), width, height, "Points of IoU that attention adds to every class", "bars")


def _layer(found: Survey, layer: LayerSurvey) -> str:
    passes = f"{len(layer.passes)} pass{'es' if len(layer.passes) > 1 else ''}"
    added = "" if layer.added is None else f"What it adds has {_percent(layer.added)} of the norm of its input. "
    note = (
        f"Gate {layer.gate:.4f}, {passes}. {added}The gate multiplies what was attended to before it is added to the "
        "input of the layer; at 0 the layer does nothing, and it starts at 0. The sign has no meaning of its own: the "
        "value projection can turn it around."
    )
    return (
        f'<h2>Layer {escape(layer.name)}</h2><p class="note">{note}</p>'
        f"{_entropy(found, layer)}{_distances(found, layer)}{_field(layer)}"
    )


def _entropy(found: Survey, layer: LayerSurvey) -> str:
    note = (
        "Entropy of the softmax weights, divided by that of equal weights: near 0 a position attends to a single other "
        "one, at 1 to its whole row and column alike. Means over the positions of each true class."
    )
    absent = [None] * len(found.classes)
    drawn = []
    for number, one in enumerate(layer.passes, 1):
        values = [one.mean_entropy(k) for k in range(len(found.classes))]
        name = f"Pass {number}: entropy {decimal(one.mean_entropy(), 2)}"
        drawn.append((name, bar_chart(found.classes, found.palette, values, absent, "entropy")))
    return f'<p class="note">{note}</p>{charts(drawn)}'


def _distances(found: Survey, layer: LayerSurvey) -> str:
    """How far away along each line the weights lie, by class, a table for each pass."""
    lines = [*layer.passes[0].weight]
    shares = ["on the row"] if len(lines) > 1 else []
    tables = []
    for number, one in enumerate(layer.passes, 1):
        rows = [[escape(name), *_cells(one, lines, k)] for k, name in enumerate(found.classes)]
        rows.append(["all classes", *_cells(one, lines, None)])
        equal = [_or_dash(one.equal_distance(line), 1 if line == "time" else 0) for line in lines]
        rows.append(["<em>equal weights</em>", *equal, *("–" for _ in shares)])
        tables.append((f"Pass {number}", table(["class", *lines, *shares], rows)))
    frames = ", along time in frames" if "time" in lines else ""
    share = ", and the share of the weights that lies on the row, the position itself included" if shares else ""
    note = (
        f"Mean distance of the weights from the position, along each line in pixels of the image{frames}{share}. "
        "The last line is what equal weights would have."
    )
    return f'{_heading("How far it looks")}<p class="note">{note}</p>{charts(tables)}'


def _cells(one: PassSpread, lines: Sequence[str], number: int | None) -> list[str]:
    cells = [_or_dash(one.mean_distance(line, number), 1 if line == "time" else 0) for line in lines]
    return [*cells, _percent(one.share("row", number), 0)] if len(lines) > 1 else cells


def _heading(words: str) -> str:
    return f'<h3 style="margin-top:2rem">{words}</h3>'


def _field(layer: LayerSurvey) -> str:
    if not layer.fields or layer.sides is None:
        return ""
    before, after = layer.sides
    note = (
        f"Side of the smallest square around the middle that holds 90 % of the gradient of its features, by the pixels "
        f"of the network's input; mean of {len(layer.fields)} image{'s' if len(layer.fields) > 1 else ''}: "
        f"<b>{before:.0f}</b> pixels before the layer, <b>{after:.0f}</b> after it. The maps show the gradient of the "
        "first image and the square."
    )
    one = layer.fields[0]
    figures = [
        figure_of(field_map(share, one.center, side), f"{name} attention: {side:.0f} pixels")
        for name, share, side in zip(("before", "after"), (one.before, one.after), one.sides, strict=True)
    ]
    images = f'<section class="row"><div>{"".join(figures)}</div></section>'
    return f'{_heading("Effective receptive field")}<p class="note">{note}</p>{images}'


def _examples(found: Survey) -> str:
    if not found.examples:
        return ""
    note = (
        "The images whose labels change most when attention is switched off; the pixel lies where most changes are. "
        "Brighter colors are larger weights; where a pass cannot attend to, the image is darker."
    )
    entries = [*zip(map(rgb, found.palette), found.classes, strict=True)]
    rows = "".join(example_row(found, *example) for example in found.examples)
    return f'<h2>Examples</h2><p class="note">{note}</p>{legend(entries)}{rows}'


def _difference(a: float | None, b: float | None) -> float | None:
    """In points, that is per cent."""
    return None if a is None or b is None else 100 * (a - b)


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _signed(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def _or_dash(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
