"""What a check of a data set found: as facts, and as a dictionary for JSON."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

# Problems of one cause that are listed one by one; more of them become one, with a count.
MOST_ALIKE = 3


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong (`error`) or looks odd (`warning`), and the file or folder that it is about; `more` are
    further files with the same cause."""

    severity: Literal["error", "warning"]
    file: Path
    text: str
    more: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{self.severity}: {self.file}: {self.full_text}"

    @property
    def full_text(self) -> str:
        """The text with the number of further files."""
        if not self.more:
            return self.text
        names = ", ".join(path.name for path in self.more[:MOST_ALIKE])
        dots = ", ..." if len(self.more) > MOST_ALIKE else ""
        return f"{self.text} (and {len(self.more)} more files alike: {names}{dots})"


def grouped(problems: Iterable[Problem]) -> list[Problem]:
    """Problems of more than three files with one cause as one problem, where the first of them stood.

    Two texts have one cause if they are the same but for numbers, parentheses, and what follows a semicolon.
    """
    causes: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        cause = re.sub(r"[0-9]+", "0", re.split(r"; | \(", problem.text)[0])
        causes.setdefault((problem.severity, cause), []).append(problem)
    found = []
    for alike in causes.values():
        first, rest = alike[0], tuple(dict.fromkeys(problem.file for problem in alike[1:]))
        found += [replace(first, more=rest)] if len(alike) > MOST_ALIKE and len(rest) >= MOST_ALIKE else alike
    return found


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

    def fractions(self, split: str) -> np.ndarray:
        """float64 [K], 0..1: each class's fraction of the split's labeled pixels; all 0 where none is labeled."""
        return self.pixels[split] / max(int(self.pixels[split].sum()), 1)

    def ignored_fraction(self, split: str) -> float:
        """0..1: the ignored fraction of all the split's pixels; 0 where there are none."""
        return self.ignored[split] / max(int(self.pixels[split].sum()) + self.ignored[split], 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and text, ready for JSON."""
        return {
            "problems": [
                {"severity": problem.severity, "file": str(problem.file), "text": problem.text}
                | ({"more": list(map(str, problem.more))} if problem.more else {})
                for problem in self.problems
            ],
            "pairs": self.pairs,
            "pixels": {split: counts.tolist() for split, counts in self.pixels.items()},
            "fractions": {split: self.fractions(split).tolist() for split in self.pixels},
            "ignored": self.ignored,
            "sizes": [{"width": w, "height": h, "images": count} for (w, h), count in self.sizes.items()],
        }
