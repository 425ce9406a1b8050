"""What a check of a data set found: as facts, and as a dictionary for JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np


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
                for problem in self.problems
            ],
            "pairs": self.pairs,
            "pixels": {split: counts.tolist() for split, counts in self.pixels.items()},
            "fractions": {split: self.fractions(split).tolist() for split in self.pixels},
            "ignored": self.ignored,
            "sizes": [{"width": w, "height": h, "images": count} for (w, h), count in self.sizes.items()],
        }
