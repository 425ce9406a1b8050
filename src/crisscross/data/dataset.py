"""The nouns of the data room."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crisscross.errors import CrissCrossError


@dataclass(frozen=True)
class Pair:
    """One picture and its mask on disk; `name` is unique within a split."""

    name: str
    picture: Path
    mask: Path


@dataclass(frozen=True)
class DataSet:
    """Pairs by split, and what their labels mean.

    `palette` holds one RGB colour (0..255) per class. Mask values are class numbers 0..K-1; `ignore` and every value in
    `void` mean "counts nowhere" and are read as `ignore`. Where masks hold other numbers, `labels` maps each stored
    value to its class (or to `ignore`). `flip_pairs` are classes that change places when a picture is mirrored.
    `video`: the pictures are frames of videos, and their names are the video's and the frame's number; see `clips.py`.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    splits: dict[str, tuple[Pair, ...]]
    ignore: int = 255
    void: tuple[int, ...] = ()
    note: str = ""
    labels: Mapping[int, int] | None = None
    flip_pairs: tuple[tuple[int, int], ...] = ()
    video: bool = False

    def split(self, name: str) -> tuple[Pair, ...]:
        """The pairs of one split.

        Raises:
            CrissCrossError: there is no such split, or it is empty.
        """
        if name not in self.splits:
            reason = f" ({self.note})" if self.note else ""
            raise CrissCrossError(
                f"{self.root}: no split {name!r}; this data set has {', '.join(self.splits) or 'none'}{reason}"
            )
        if not self.splits[name]:
            reason = f" ({self.note})" if self.note else ""
            advice = f"; list its picture names in {name}.txt" if self.note and self.name == "folder" else ""
            raise CrissCrossError(f"{self.root}: the split {name!r} is empty{reason}{advice}")
        return self.splits[name]


def existing_folder(root: str | os.PathLike[str]) -> Path:
    """`root` as a path, or an error that says it is missing."""
    root = Path(root)
    if not root.is_dir():
        raise CrissCrossError(f"{root}: no such folder; give the data set's folder")
    return root
