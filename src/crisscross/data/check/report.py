"""What a check of a data set found: as facts, as a dictionary for JSON and as an image of the class shares."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crisscross.data.dataset import DataSet
from crisscross.files import write_atomically

NAMED = 5
WIDTH, MARGIN, BAR, GAP = 960, 24, 16, 10
INK, FAINT, RULE = (32, 33, 36), (110, 114, 120), (214, 217, 221)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong (`error`) or looks odd (`warning`), and the file or folder that it is about."""

    severity: Literal["error", "warning"]
    file: Path
    text: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.file}: {self.text}"


@dataclass(frozen=True)
class CheckReport:
    """The facts of a data set.

    Attributes:
        problems: errors first.
        pairs: pairs in each split.
        pixels: int64 [K] for each split, the pixels of every class.
        ignored: ignored pixels in each split. Pixels with a label outside the classes are in neither count.
        sizes: (width, height) of the readable images and how many have it, the most frequent first.
    """

    problems: tuple[Problem, ...]
    pairs: dict[str, int]
    pixels: dict[str, np.ndarray]
    ignored: dict[str, int]
    sizes: dict[tuple[int, int], int]

    @property
    def errors(self) -> int:
        """How many of the problems are errors."""
        return sum(problem.severity == "error" for problem in self.problems)

    def shares(self, split: str) -> np.ndarray:
        """float64 [K], 0..1: each class's share of the split's labeled pixels; all 0 where none is labeled."""
        return self.pixels[split] / max(int(self.pixels[split].sum()), 1)

    def ignored_share(self, split: str) -> float:
        """0..1: the ignored share of all the split's pixels; 0 where there are none."""
        return self.ignored[split] / max(int(self.pixels[split].sum()) + self.ignored[split], 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and text, ready for JSON."""
        return {
            "problems": [
                {"severity": problem.severity, "file": str(problem.file), "text": problem.text}
                for problem in self.problems
            ],
            "pairs": self.pairs,
            "pixels": {split: counts.tolist() for split, counts in self.pixels.items()},
            "ignored": self.ignored,
            "sizes": [{"width": w, "height": h, "images": count} for (w, h), count in self.sizes.items()],
        }


def few(texts: Sequence[str]) -> str:
    """The first five, and how many more there are."""
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def write_share_image(report: CheckReport, dataset: DataSet, path: str | os.PathLike[str]) -> None:
    """Write a PNG with one bar per class and split: the class's share of the labeled pixels, in its palette color.

    Raises:
        CrissCrossError: the file cannot be written.
    """
    image = _draw_shares(report, dataset)
    write_atomically(path, lambda temporary: image.save(temporary, format="PNG", optimize=True))


def _draw_shares(report: CheckReport, dataset: DataSet) -> Any:
    """The image: a title, one line of facts and a block of bars for every class, one bar a split."""
    from PIL import Image, ImageDraw, ImageFont

    small, plain, large = (ImageFont.load_default(size) for size in (12, 15, 20))
    splits = [split for split, count in report.pairs.items() if count]
    facts = [f"{split} {report.pairs[split]} pairs, {report.ignored_share(split):.1%} ignored" for split in splits]
    names = [_shortened(name, plain, 240) for name in dataset.classes]
    block, top = len(splits) * BAR + GAP, MARGIN + 64
    image = Image.new("RGB", (WIDTH, top + block * len(names) + MARGIN - GAP), "white")
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN - 4), f"{dataset.name}: share of the labeled pixels", INK, large)
    draw.text((MARGIN, MARGIN + 26), _shortened("   |   ".join(facts), small, WIDTH - 2 * MARGIN), FAINT, small)
    left = MARGIN + 16 + max(int(plain.getlength(name)) for name in names)
    start = left + 10 + max((int(small.getlength(split)) for split in splits), default=0)
    shares = np.stack([report.shares(split) for split in splits], axis=1) if splits else np.zeros((len(names), 0))
    lengths = np.rint(shares * ((WIDTH - MARGIN - 60 - start) / (shares.max(initial=0) or 1))).astype(int)
    for index, name in enumerate(names):
        y = top + index * block
        draw.line((MARGIN, y - GAP // 2, WIDTH - MARGIN, y - GAP // 2), RULE)
        draw.text((MARGIN, y + (block - GAP) / 2), name, INK, plain, anchor="lm")
        for split, share, length in zip(splits, shares[index], lengths[index], strict=True):
            draw.text((left, y + BAR / 2), split, FAINT, small, anchor="lm")
            color = dataset.palette[index]
            draw.rectangle((start, y + 2, start + int(length), y + BAR - 2), tuple(color), _outline(color))
            draw.text((start + int(length) + 8, y + BAR / 2), _percent(share), INK, small, anchor="lm")
            y += BAR
    return image


def _outline(color: Sequence[int]) -> tuple[int, ...]:
    """A darker shade, so that pale bars stand out from the paper."""
    return tuple(int(channel * 0.7) for channel in color)


def _percent(share: float) -> str:
    return f"{share:.2%}" if share >= 0.0001 or share == 0 else "<0.01%"


def _shortened(text: str, font: Any, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
