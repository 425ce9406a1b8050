"""A data set: pairs of an image and its mask by split, and the meaning of the labels."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from crisscross.config.rules import one_line
from crisscross.errors import CrissCrossError


@dataclass(frozen=True)
class Pair:
    """One image and its mask on disk; `name` is unique within a split: saved predictions and messages go by it.

    Strings become paths.
    """

    name: str
    image: Path
    mask: Path

    def __post_init__(self) -> None:
        for field in ("image", "mask"):
            object.__setattr__(self, field, Path(getattr(self, field)))


@dataclass(frozen=True)
class DataSet:
    """Pairs by split, and what their labels mean.

    `root` is its folder; a string becomes a path.

    `palette` holds one RGB color (0..255) per class. Mask values are class numbers 0..K-1; `ignore` and every value in
    `void` are ignored: neither trained on nor scored. Where masks hold other numbers, `labels` maps each stored
    value to its class (or to `ignore`). `flip_pairs` are classes that are exchanged when an image is mirrored.
    `colored`: masks hold the colors of `palette`; a gray one holds numbers as usual.
    `allow_empty`: training may start although a class has no pixel in its masks.
    `video`: the images are frames of videos, and their names are the video's and the frame's number; see `clips.py`.

    Raises:
        CrissCrossError: class names that are not text or not unique; a number of classes outside 1..255; a palette that
            is not one color of 0..255 for each; an `ignore`, `void` or stored value outside 0..255; an
            `ignore` that is a class; `labels` or `flip_pairs` beyond the classes.
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
    colored: bool = False
    allow_empty: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        where = f"{self.root}: the data set {self.name!r}"
        check_class_names(self.classes, f"{where}: `classes`")
        count = len(self.classes)
        if len(self.palette) != count or not all(map(_is_color, self.palette)):
            raise CrissCrossError(
                f"{where}: palette must hold one (red, green, blue) of 0..255 for each of {count} classes"
            )
        for name, values in (("ignore", [self.ignore]), ("void", self.void), ("labels", self.labels or ())):
            if wrong := [value for value in values if not _is_byte(value)]:
                raise CrissCrossError(f"{where}: {name} must be whole numbers 0..255, got {wrong[0]!r}")
        if self.ignore < count:
            raise CrissCrossError(
                f"{where}: ignore is {self.ignore}, a class (0..{count - 1}); list classes to ignore in void"
            )
        for stored, number in (self.labels or {}).items():
            if number != self.ignore and not (_is_byte(number) and number < count):
                raise CrissCrossError(
                    f"{where}: labels reads {stored} as {number!r}, but classes are 0..{count - 1} (ignore "
                    f"{self.ignore}); count them from 0"
                )
        flat = [number for pair in self.flip_pairs for number in pair]
        if len(flat) != 2 * len(self.flip_pairs) or len(set(flat)) < len(flat) or not set(flat) <= set(range(count)):
            raise CrissCrossError(
                f"{where}: flip_pairs must be pairs of classes 0..{count - 1}, no class in two, got {self.flip_pairs}"
            )

    def split(self, name: str) -> tuple[Pair, ...]:
        """The pairs of one split.

        Raises:
            CrissCrossError: there is no such split, it is empty, or two of its pairs have one name.
        """
        if name not in self.splits:
            reason = f" ({self.note})" if self.note else ""
            raise CrissCrossError(
                f"{self.root}: no split {name!r}; this data set has {', '.join(self.splits) or 'none'}{reason}"
            )
        if not self.splits[name]:
            reason = f" ({self.note})" if self.note else ""
            advice = f"; list its image names in {name}.txt" if self.note and self.name == "folder" else ""
            if name == "val" and sum(map(len, self.splits.values())) == 1:
                # Its only image cannot be in both.
                advice = "; to train on a single image: `--set data.val_split=none`"
            raise CrissCrossError(f"{self.root}: the split {name!r} is empty{reason}{advice}")
        for pair, text in name_clashes(name, self.splits[name]):
            raise CrissCrossError(f"{pair.image}: {text}")
        return self.splits[name]


def name_clashes(split: str, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, str]]:
    """Every pair of a split that has the name of an earlier, different one, and a message about it."""
    seen: dict[str, Pair] = {}
    for pair in pairs:
        if (other := seen.setdefault(pair.name, pair)) != pair:
            yield (
                pair,
                f"in the split {split!r} {pair.name!r} is also the name of {other.image}, but predictions are saved "
                "by name; make them differ, for example by including the folder",
            )


def is_line(value: Any) -> bool:
    """Whether a value is text of one line: not blank, not too long to show, without control characters."""
    return isinstance(value, str) and bool(value.strip()) and one_line(value)


def check_class_names(names: Iterable[Any], what: str, most: int = 255) -> None:
    """Refuse names that are not unique, or that no file could hold.

    Raises:
        CrissCrossError: none or more than `most`; one that is blank, not text of one line, or there twice. `what`
            begins the message.
    """
    seen: set[str] = set()
    for name in names:
        if not is_line(name):
            raise CrissCrossError(f"{what} must be names, got {name!r:.60}; put quotes around it")
        if name in seen:
            raise CrissCrossError(f"{what} names {name!r} twice; each class needs a name of its own")
        seen.add(name)
    if not 1 <= len(seen) <= most:
        raise CrissCrossError(f"{what} must hold at least one and at most {most} names, got {len(seen)}")


def _is_byte(value: Any) -> bool:
    # NumPy's whole numbers are Integral, and so are True and False.
    return type(value) is not bool and isinstance(value, Integral) and 0 <= int(value) <= 255


def _is_color(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 3 and all(map(_is_byte, value))


def existing_folder(root: str | os.PathLike[str]) -> Path:
    """`root` as a path, or an error that says it is missing."""
    root = Path(root)
    if not root.is_dir():
        raise CrissCrossError(f"{root}: no such folder; give the data set's folder")
    return root
