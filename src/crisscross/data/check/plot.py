"""The class fractions of a data set as an image."""

import os
from typing import Any

from crisscross.data.check.report import CheckReport
from crisscross.data.dataset import DataSet
from crisscross.files import write_atomically

WIDTH, MARGIN, BAR, GAP = 960, 24, 16, 10
LONGEST_NAME = 32
INK, PALE, RULE = (32, 33, 36), (110, 114, 120), (214, 217, 221)


def write_plot(report: CheckReport, dataset: DataSet, path: str | os.PathLike[str]) -> None:
    """Write a PNG with one bar per class and split: the class's fraction of the labeled pixels, in its palette color.

    Raises:
        CrissCrossError: the file cannot be written.
    """
    image = _draw(report, dataset)
    write_atomically(path, lambda temporary: image.save(temporary, format="PNG", optimize=True))


def _draw(report: CheckReport, dataset: DataSet) -> Any:
    """A title, a line for each split and a block of bars for every class."""
    from PIL import Image, ImageDraw, ImageFont

    small, plain, large = (ImageFont.load_default(size) for size in (12, 15, 20))
    fractions = {split: report.fractions(split) for split, count in report.pairs.items() if count}
    scale = max((values.max(initial=0) for values in fractions.values()), default=0) or 1
    names = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..." for name in dataset.classes]
    block, top = len(fractions) * BAR + GAP, MARGIN + 32 + len(fractions) * BAR
    image = Image.new("RGB", (WIDTH, top + block * len(names) + MARGIN), "white")
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN - 4), f"{dataset.name}: fraction of the labeled pixels", INK, large)
    for row, split in enumerate(fractions):
        text = f"{split}: {report.pairs[split]} pairs, {report.ignored_fraction(split):.1%} ignored"
        draw.text((MARGIN, MARGIN + 24 + row * BAR), text, PALE, small)
    left = MARGIN + 16 + max(int(plain.getlength(name)) for name in names)
    start = left + 10 + max((int(small.getlength(split)) for split in fractions), default=0)
    for index, name in enumerate(names):
        y = top + index * block
        draw.line((MARGIN, y, WIDTH - MARGIN, y), RULE)
        draw.text((MARGIN, y + block / 2), name, INK, plain, anchor="lm")
        for row, (split, values) in enumerate(fractions.items()):
            upper, end = y + GAP // 2 + row * BAR, start + round(values[index] / scale * (WIDTH - MARGIN - 60 - start))
            draw.text((left, upper + BAR / 2), split, PALE, small, anchor="lm")
            draw.rectangle((start, upper + 2, end, upper + BAR - 2), tuple(dataset.palette[index]), RULE)
            draw.text((end + 8, upper + BAR / 2), f"{values[index]:.2%}", INK, small, anchor="lm")
    return image
