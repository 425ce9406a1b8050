"""What the values stored in masks stand for, where nothing says it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.check.mixups import alpha_cure, lossy_cure, palette_conflict, two_scales
from crisscross.data.color import palette_of
from crisscross.data.cures import prepare_masks
from crisscross.data.files.decoding import opened
from crisscross.data.files.reading import mask_problem, read_mask
from crisscross.data.files.threads import each
from crisscross.data.layouts.class_lists import ClassList, Color, hex_color
from crisscross.data.palette import Palette
from crisscross.errors import CrissCrossError

IGNORE = 255
# Masks that are read to find out what their values mean; they are spread evenly over the data set.
LOOKED_AT = 200
# A photograph of a mask, or a mask with soft edges, has more colors than any list of classes.
MOST_COLORS = 64
# Numbers 1..n in every mask, with so many different n and one n of this size, are counted anew in each.
DIFFERENT_COUNTS, MANY_INSTANCES = 3, 8
# Soft edges: so many values beside 0 and 255, at most this fraction of all pixels together, and this alone.
SOFT_VALUES, SOFT_ALL, SOFT_ONE = 3, 0.4, 0.12


class UnclearError(CrissCrossError):
    """Values that fit no reading, or more than one; `keys` of a description decide."""

    def __init__(self, text: str, **keys: Any) -> None:
        super().__init__(text)
        self.keys = keys


@dataclass(frozen=True)
class Looked:
    """What one mask holds: pixels by value of an index mask, with the colors that its palette gives them, or pixels by
    color of a color mask."""

    path: Path
    values: Mapping[int, int] = field(default_factory=dict)
    palette: Mapping[int, Color] = field(default_factory=dict)
    colors: Mapping[Color, int] = field(default_factory=dict)

    def by_color(self) -> "Looked":
        """An index mask as the colors that it shows."""
        if not self.palette:
            return self
        colors: Counter[Color] = Counter()
        for value, count in self.values.items():
            colors[self.palette[value]] += count
        return Looked(self.path, colors=colors)


@dataclass(frozen=True)
class Meaning:
    """How masks are read: `labels` maps stored values to classes (None: they are class numbers), or `colored` masks
    hold the colors of `palette`. `notes` are the assumptions, one line each."""

    classes: tuple[str, ...]
    labels: Mapping[int, int] | None = None
    palette: Palette = ()
    colored: bool = False
    notes: tuple[str, ...] = ()


def look_at_masks(files: Sequence[Path]) -> list[Looked]:
    """What masks hold, of at most 200 of them.

    Raises:
        CrissCrossError: a mask cannot be read, was compressed with loss, or lies in the transparency.
    """
    return list(each(_look_at, files[:: max(len(files) // LOOKED_AT, 1)]))


def _look_at(path: Path) -> Looked:
    with opened(path, decode=True) as (image, samples):
        if samples.lossy:
            raise CrissCrossError(f"{path}: {lossy_cure(path)}")
        if cure := alpha_cure(path, image):
            raise CrissCrossError(f"{path}: {cure}")
        colored = mask_problem(image, samples).startswith("a color mask") or image.mode == "RGB"
        pixels = np.asarray(image.convert("RGB")) if colored else None
        palette = palette_of(image)
    if pixels is None or bool((pixels == pixels[..., :1]).all()):
        numbers, counts = np.unique(read_mask(path) if pixels is None else pixels[..., 0], return_counts=True)
        values = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
        known = set(values) <= set(palette)
        return Looked(path, values, {value: palette[value] for value in values} if known else {})
    packed, counts = np.unique(pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32), return_counts=True)
    colors = [(value >> 16, value >> 8 & 255, value & 255) for value in packed.tolist()]
    return Looked(path, colors=dict(zip(colors, counts.tolist(), strict=True)))


def meaning_of(looked: Sequence[Looked], listed: ClassList, where: str) -> Meaning:
    """How masks with these values are read.

    Args:
        looked: what they hold.
        listed: the classes that a file of the data set names.
        where: what an error is about: the folder.

    Raises:
        UnclearError: the values fit no reading, or more than one.
    """
    notes: tuple[str, ...] = ()
    if listed.palette is not None and all(
        one.colors or (one.palette and set(one.palette.values()) <= set(listed.palette.values())) for one in looked
    ):
        looked = [one.by_color() for one in looked]
    elif conflict := palette_conflict([(one.path, one.palette) for one in looked if one.palette]):
        looked, notes = [one.by_color() for one in looked], (f"{conflict}: masks are read by their colors",)
    colors = sum((Counter(one.colors) for one in looked), Counter[Color]())
    values = sum((Counter(one.values) for one in looked), Counter[int]())
    if colors and values and not _is_gray(values, listed):
        color_file, index_file = (
            next(one.path for one in looked if bool(one.colors) == kind) for kind in (True, False)
        )
        raise CrissCrossError(f"{where}: {color_file} is a color mask and {index_file} an index mask; use one kind")
    if colors:
        colors.update({(value, value, value): count for value, count in values.items()})
        found = _of_colors(colors, listed, looked[0].path, where)
    else:
        found = _of_values(looked, values, listed, where)
    return Meaning(found.classes, found.labels, found.palette, found.colored, (*notes, *found.notes))


def _is_gray(values: Mapping[int, int], listed: ClassList) -> bool:
    """Whether index values are the gray colors of a palette: a mask of the background alone looks gray."""
    return set(values) <= {color[0] for color in (listed.palette or {}).values() if len(set(color)) == 1} | {0}


def _of_colors(colors: Mapping[Color, int], listed: ClassList, example: Path, where: str) -> Meaning:
    palette = listed.palette
    if palette is None:
        if len(colors) > MOST_COLORS:
            raise CrissCrossError(
                f"{where}: masks hold {len(colors)} colors, more than classes could have: their edges are soft; write "
                f"them again without anti-aliasing, or {prepare_masks(example, '#000000,#ff0000')} with the colors of "
                "your classes gives each pixel the nearest one"
            )
        ordered = sorted(colors, key=lambda color: (color != (0, 0, 0), color))
        if listed.names:
            shown = ", ".join(map(hex_color, ordered[:4]))
            raise CrissCrossError(
                f"{where}: masks hold {len(ordered)} colors ({shown}{', ...' if len(ordered) > 4 else ''}), and "
                f"nothing tells which is {listed.names[-1]!r}; write lines `name r g b` into {listed.file}, such as "
                f"`{listed.names[0]} {' '.join(map(str, ordered[0]))}`"
            )
        titles = tuple(hex_color(color) for color in ordered)
        note = f"masks hold {len(ordered)} colors: each is a class, named by its color (`palette` in dataset.yaml)"
        return Meaning(titles, palette=tuple(ordered), colored=True, notes=(note,))
    if unknown := [color for color in colors if color not in palette.values()]:
        worst = max(unknown, key=lambda color: colors[color])
        near = min(palette, key=lambda name: sum((a - b) ** 2 for a, b in zip(palette[name], worst, strict=True)))
        raise CrissCrossError(
            f"{where}: {len(unknown)} {'color in masks is' if len(unknown) == 1 else 'colors in masks are'} none of "
            f"the {len(palette)} classes, most often {list(worst)} ({colors[worst]} pixels); nearest is {near} "
            f"{list(palette[near])}: add a line for {list(worst)} to {listed.file}, or mend the masks"
        )
    note = f"{listed.file}: {len(palette)} classes by color"
    return Meaning(tuple(palette), palette=tuple(palette.values()), colored=True, notes=(note,))


def _of_values(looked: Sequence[Looked], values: Mapping[int, int], listed: ClassList, where: str) -> Meaning:
    found = sorted(values)
    if not found:
        raise CrissCrossError(f"{where}: no masks to look at")
    if listed.values is not None:
        return _of_numbered(found, listed, where)
    names = ("background", *listed.names) if len(listed.names) == 1 else listed.names
    two = names or ("background", "foreground")
    if found in ([255], [0, 255]) and len(two) == 2:
        return Meaning(two, {0: 0, 255: 1}, notes=(f"masks hold 0 and 255: read as {two[0]} and {two[1]}",))
    if (mixed := two_scales([one.values for one in looked])) and len(two) == 2:
        note = f"{mixed[0]} masks hold 0 and 1, {mixed[1]} hold 0 and 255: 1 and 255 are both read as {two[1]}"
        return Meaning(two, {0: 0, 1: 1, 255: 1}, notes=(note,))
    inner = [value for value in found if value != IGNORE]
    if len(names) <= 2:
        _refuse_instances(looked, inner, where)
    ignored = ("255 is ignored",) if IGNORE in values else ()
    if names:
        return _of_named(inner, names, listed, ignored, where)
    return _of_unnamed(looked[0].path, values, inner, ignored, where)


def _refuse_instances(looked: Sequence[Looked], inner: Sequence[int], where: str) -> None:
    """Refuse masks whose values count objects, not classes."""
    objects = [set(one.values) - {0, IGNORE} for one in looked]
    tops = {max(values) for values in objects if values}
    counted = all(len(values) == max(values, default=0) for values in objects) and len(tops) >= DIFFERENT_COUNTS
    counted = counted and max(tops) >= MANY_INSTANCES
    if counted or len(inner) > MOST_COLORS:
        raise UnclearError(
            f"{where}: masks hold the values {few(inner)}, more than classes usually are: if each numbers one object, "
            f"{prepare_masks(looked[0].path, '0,1')} makes all objects one class; if each is a class, list the names "
            "in classes.txt, one a line"
        )


def _of_unnamed(
    example: Path, values: Mapping[int, int], inner: Sequence[int], ignored: tuple[str, ...], where: str
) -> Meaning:
    """Classes by the values that occur."""
    total, found = sum(values.values()), sorted(values)
    between = [value for value in inner if value not in (0, IGNORE)]
    uneven = len({second - first for first, second in pairwise(found)}) > 2
    if {0, IGNORE} <= set(values) and len(between) >= SOFT_VALUES and uneven and between[-1] > 2 * len(between):
        counts = [values[value] / total for value in between]
        if sum(counts) < SOFT_ALL and max(counts) < SOFT_ONE:
            raise UnclearError(
                f"{where}: masks hold 0, 255 and few pixels of {len(between)} values between ({few(between)}): soft "
                f"edges, or an index mask that was resampled; {prepare_masks(example)} gives each pixel "
                "the nearest class; if each is a class, write lines `value name` into classes.txt"
            )
    if inner and inner[-1] >= 2 * len(inner) + 8:
        # Gray levels with gaps: 255 is one of them, as white is where masks are looked at.
        labels = {value: number for number, value in enumerate(found)}
        note = f"masks hold the values {few(found)}: each is a class, in this order"
        return Meaning(tuple(f"value {value}" for value in found), labels, notes=(note,))
    count = len(inner)
    if list(inner) == [0] and total:
        raise UnclearError(f"{where}: every mask that was looked at is 0 all over: are these the right files?")
    if list(inner) != list(range(count)) and inner != [1]:
        labels = {value: number for number, value in enumerate(inner)}
        note = f"masks hold the values {few(inner)}: {count} classes, named by these values"
        labels |= {IGNORE: IGNORE} if ignored else {}
        return Meaning(tuple(f"class {value}" for value in inner), labels, notes=(note, *ignored))
    titles = tuple(f"class {number}" for number in range(count)) if count > 2 else ("background", "foreground")
    note = f"masks hold the values {few(inner)}: {len(titles)} classes, named by their numbers"
    return Meaning(titles, notes=(note, *ignored))


def _of_numbered(found: Sequence[int], listed: ClassList, where: str) -> Meaning:
    """Classes by the numbers that a file gives them; 0 is a background where the file begins with 1."""
    assert listed.values is not None
    names, values, notes = list(listed.names), list(listed.values), [f"{listed.file}: classes by their numbers"]
    if 0 in found and 0 not in values:
        names, values = ["background", *names], [0, *values]
        notes.append(f"{listed.file} does not list 0: class 0 is background")
    if unknown := [value for value in found if value not in values and value != IGNORE]:
        raise CrissCrossError(
            f"{where}: masks hold {few(unknown)}, which {listed.file} does not list ({few(sorted(values))}); add the "
            f"{'line' if len(unknown) == 1 else 'lines'}, such as `{unknown[0]} NAME`"
        )
    labels = {value: number for number, value in enumerate(values)}
    if IGNORE in found and IGNORE not in values:
        labels[IGNORE] = IGNORE
        notes.append("255 is ignored")
    plain = values == list(range(len(values)))
    return Meaning(tuple(names), None if plain else labels, notes=tuple(notes))


def _of_named(
    inner: list[int], names: tuple[str, ...], listed: ClassList, ignored: tuple[str, ...], where: str
) -> Meaning:
    count = len(names)
    if not inner or inner[-1] < count:
        if inner and 0 not in inner and inner[-1] == count - 1 and len(inner) > 1:
            return Meaning(names, notes=(*ignored, f"no mask holds 0 ({names[0]})"))
        return Meaning(names, notes=ignored)
    if inner[-1] == count and 0 not in inner:
        labels: dict[int, Any] = {value: value - 1 for value in range(1, count + 1)}
        raise UnclearError(
            f"{where}: masks count {count} classes from 1 ({few(inner)})",
            names=list(names),
            labels=labels | ({IGNORE: "ignore"} if ignored else {}),
        )
    if inner[-1] == count:
        raise UnclearError(
            f"{where}: masks hold 0..{count}, {listed.file} names {count} classes; if 0 is a background without a "
            "name, `background: background` adds it as class 0, `background: ignore` leaves it out",
            names=list(names),
            background="background",
        )
    shown = ", ".join(names[:4]) + (", ..." if count > 4 else "")
    if len(inner) == count:
        raise UnclearError(
            f"{where}: masks hold the values {few(inner)}, {listed.file} names {count} classes ({shown}); if these are "
            "the classes in order, say so",
            names=list(names),
            labels={value: number for number, value in enumerate(inner)} | ({IGNORE: "ignore"} if ignored else {}),
        )
    raise CrissCrossError(
        f"{where}: masks hold the values {few(inner)}, {listed.file} names {count} classes ({shown}); write lines "
        f"`value: name` into {listed.file}, one for each value that masks hold"
    )


def few(values: Sequence[int]) -> str:
    """The first values of a list, and how many there are."""
    shown = ", ".join(map(str, values[:8]))
    return f"{shown}, ... ({len(values)} values up to {values[-1]})" if len(values) > 8 else shown
