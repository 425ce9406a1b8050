"""The page of a check of a data set: fractions of classes, sizes, images with their masks, and every problem."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from crisscross.data import DataSet, Pair
from crisscross.data.check.report import CheckReport, Problem
from crisscross.data.color import overlay
from crisscross.data.files.reading import read_image, read_stored
from crisscross.data.labels import label_table
from crisscross.errors import CrissCrossError
from crisscross.report.charts import bar_chart
from crisscross.report.images import data_uri
from crisscross.report.page import charts, document, legend, table
from crisscross.report.svg import rgb

# Images of the contact sheet for each split, their width, problems and files of a problem that are shown.
SHEET, WIDTH, SHOWN_PROBLEMS, SHOWN_FILES = 24, 320, 100, 6


def render_check(report: CheckReport, dataset: DataSet) -> str:
    """The page as HTML. Images are read again and made small; one that cannot be read is left out.

    Args:
        report: what `check` returned.
        dataset: what was checked.
    """
    parts = [_opening(report, dataset), _problems(report, dataset), _sheet(dataset), _classes(report, dataset)]
    return document(f"Data: {dataset.root.name}", "\n".join([*parts, _sizes(report)]))


def _opening(report: CheckReport, dataset: DataSet) -> str:
    note = f'<p class="note">{escape(dataset.note)}</p>' if dataset.note else ""
    numbers = [(split, str(count)) for split, count in report.pairs.items()]
    numbers += [("classes", str(len(dataset.classes))), ("errors", str(report.errors))]
    numbers += [("warnings", str(len(report.problems) - report.errors))]
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in numbers)
    title = escape(str(dataset.root))
    return f'<header><h1>{title}</h1>{note}<dl class="headline">{cells}</dl></header>'


def _problems(report: CheckReport, dataset: DataSet) -> str:
    if not report.problems:
        return "<h2>Problems</h2><p>No problems were found.</p>"
    pair_of = {file: pair for pairs in dataset.splits.values() for pair in pairs for file in (pair.image, pair.mask)}
    rows = [_problem(problem, pair_of, dataset) for problem in report.problems[:SHOWN_PROBLEMS]]
    more = len(report.problems) - len(rows)
    rest = f'<p class="note">and {more} more problems; --json lists all</p>' if more > 0 else ""
    return f"<h2>Problems</h2>{''.join(rows)}{rest}"


def _problem(problem: Problem, pair_of: dict[Path, Pair], dataset: DataSet) -> str:
    files = [problem.file, *problem.more]
    pairs = list(dict.fromkeys(pair_of[file] for file in files if file in pair_of))[:SHOWN_FILES]
    names = "".join(f"<li>{escape(str(file))}</li>" for file in files)
    listed = f"<details><summary>{len(files)} files</summary><ul>{names}</ul></details>" if problem.more else ""
    where = f'<p class="note">{escape(str(problem.file))}</p>'
    images = _figures(pairs, dataset)
    return (
        f'<section class="row"><h3>{problem.severity}: {escape(problem.text)}</h3>{where}{listed}'
        f"<div>{images}</div></section>"
    )


def _sheet(dataset: DataSet) -> str:
    """Images of every split with their masks laid over, spread evenly."""
    entries = [*zip(map(rgb, dataset.palette), dataset.classes, strict=True)]
    parts = []
    for split, pairs in dataset.splits.items():
        step = max(len(pairs) / SHEET, 1)
        chosen = [pairs[int(place * step)] for place in range(min(SHEET, len(pairs)))]
        title = f"{escape(split)}: {len(chosen)} of {len(pairs)}"
        parts.append(f'<section class="row"><h3>{title}</h3><div>{_figures(chosen, dataset)}</div></section>')
    note = "Masks are laid over their images; ignored pixels keep the color of the image."
    return f'<h2>Images</h2><p class="note">{note}</p>{legend(entries)}{"".join(parts)}'


def _figures(pairs: Iterable[Pair], dataset: DataSet) -> str:
    figures = []
    for pair in pairs:
        image, caption = _laid_over(pair, dataset)
        if image is not None:
            photo = f'<img class="photo" src="{data_uri(image, True)}" alt="{escape(pair.name)}">'
            caption = escape(f"{pair.name}{caption}")
            figures.append(f"<figure>{photo}<figcaption>{caption}</figcaption></figure>")
    return "".join(figures)


def _laid_over(pair: Pair, dataset: DataSet) -> tuple[np.ndarray | None, str]:
    """An image in small with its mask laid over, and what could not be shown; no image where it cannot be read."""
    try:
        image = read_image(pair.image)
    except CrissCrossError:
        return None, ""
    try:
        stored = read_stored(pair.mask, dataset)
    except CrissCrossError:
        return _small(image), ": mask cannot be read"
    if stored.shape != image.shape[:2]:
        return _small(image), ": mask of another size"
    small = _small(image)
    y, x = ((np.arange(new) * old // new) for new, old in zip(small.shape[:2], stored.shape, strict=True))
    return overlay(small, label_table(dataset)[stored][np.ix_(y, x)], dataset.palette, 0.55), ""


def _small(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    height, width = image.shape[:2]
    if width <= WIDTH:
        return image
    size = WIDTH, max(1, round(height * WIDTH / width))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _classes(report: CheckReport, dataset: DataSet) -> str:
    """Fractions of the classes as a bar chart for each split, and as a table."""
    splits = [split for split, count in report.pairs.items() if count]
    values = {split: report.fractions(split) for split in splits}
    empty = [None] * len(dataset.classes)
    drawn = [
        (escape(split), bar_chart(dataset.classes, dataset.palette, _scores(values[split]), empty, "fraction"))
        for split in splits
    ]
    rows = [
        [escape(name), *(f"{values[split][number]:.3%}" for split in splits)]
        for number, name in enumerate(dataset.classes)
    ]
    ignored = ["ignored, of all pixels", *(f"{report.ignored_fraction(split):.2%}" for split in splits)]
    note = "Fraction of the labeled pixels that each class has."
    return f'<h2>Classes</h2><p class="note">{note}</p>{charts(drawn)}{table(["class", *splits], [*rows, ignored])}'


def _scores(values: np.ndarray) -> Sequence[float | None]:
    return [float(value) if value else None for value in values]


def _sizes(report: CheckReport) -> str:
    rows = [[f"{width} x {height}", str(count)] for (width, height), count in list(report.sizes.items())[:40]]
    more = f'<p class="note">and {len(report.sizes) - 40} more sizes</p>' if len(report.sizes) > 40 else ""
    return f"<h2>Sizes</h2>{table(['width x height', 'images'], rows)}{more}"
