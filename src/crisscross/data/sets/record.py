"""What is recorded of a data set that is known by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crisscross.data.dataset import DataSet
from crisscross.data.palette import Palette


@dataclass(frozen=True)
class Plan:
    """All files that a preparation writes.

    Attributes:
        jobs: function that writes a file, by that file, which it is called with; it returns a number of pixels.
        finish: called after the last job.
        lines: text to show at the end.
        counted: the end of the sentence that begins with the sum of these pixels, which is shown if there are any.
    """

    jobs: Mapping[Path, Callable[[Path], int]]
    finish: Callable[[], None] = lambda: None
    lines: tuple[str, ...] = ()
    counted: str = ""


@dataclass(frozen=True)
class BuiltIn:
    """One data set: how its folder is opened, recognized and prepared, and what is known of it without a folder.

    Attributes:
        open: opens a folder; raises `CrissCrossError` where it has another layout.
        recognize: whether an existing folder has this layout.
        classes, palette, flip_pairs: as in `DataSet`; empty where every folder brings its own.
        published: number of images in each split, as on the data set's own page.
        prepare: (data set's folder, output folder) -> the masks to make; None where the download has them.
        when: when it has to be prepared, for `crisscross data list`.
        stored: what the evaluator of the data set takes for each class; empty means the class number.
        ending: what a prediction's file has behind the name of its image.
        folder: where the evaluator looks for these files, below the output folder.
        colors: palette of these files; without one they are gray.
    """

    open: Callable[[Any], DataSet]
    recognize: Callable[[Path], bool]
    classes: tuple[str, ...] = ()
    palette: Palette = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    published: Mapping[str, int] = field(default_factory=dict)
    prepare: Callable[[Path, Path], Plan] | None = None
    when: str = "not needed"
    stored: tuple[int, ...] = ()
    ending: str = ".png"
    folder: str = ""
    colors: Palette | None = None
