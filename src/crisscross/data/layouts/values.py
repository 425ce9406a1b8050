"""What the values stored in masks stand for, where nothing says it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crisscross.data.check.mixups import lossy_cure
from crisscross.data.files.decoding import opened
from crisscross.data.files.reading import mask_problem, read_mask
from crisscross.data.files.threads import each
from crisscross.data.palette import Palette
from crisscross.errors import CrissCrossError

IGNORE = 255
# Masks that are read to find out what their values mean; they are spread evenly over the data set.
LOOKED_AT = 200
# A photograph of a mask, or a mask with soft edges, has more colors than any list of classes.
MOST_COLORS = 64
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Stored:
    """What masks hold: pixels by value of index masks, pixels by color of color masks, and one file of each kind."""

    values: Counter[int] = field(default_factory=Counter)
    colors: Counter[Color] = field(default_factory=Counter)
    index_file: Path | None = None
    color_file: Path | None = None


@dataclass(frozen=True)
class Meaning:
    """How masks are read: `labels` maps stored values to classes (None: they are class numbers), or `colored` masks
    hold the colors of `palette`. `notes` are the assumptions, one line each."""

    classes: tuple[str, ...]
    labels: Mapping[int, int] | None = None
    palette: Palette = ()
    colored: bool = False
    notes: tuple[str, ...] = ()


def hex_color(color: Color) -> str:
    """A color as `#rrggbb`."""
    return "#" + bytes(color).hex()


def look_at_masks(files: Sequence[Path]) -> Stored:
    """What masks hold, from at most 200 of them.

    Raises:
        CrissCrossError: a mask cannot be read, or was compressed with loss.
    """
    step = max(len(files) // LOOKED_AT, 1)
    found = Stored()
    index_file = color_file = None
    for path, values, colors in each(_values_of, files[::step]):
        found.values.update(values)
        found.colors.update(colors)
        index_file, color_file = (index_file or (path if values else None)), color_file or (path if colors else None)
    return Stored(found.values, found.colors, index_file, color_file)


def _values_of(path: Path) -> tuple[Path, dict[int, int], dict[Color, int]]:
    with opened(path, decode=True) as (image, samples):
        if samples.lossy:
            raise CrissCrossError(f"{path}: {lossy_cure(path)}")
        colored = mask_problem(image, samples).startswith("a color mask") or image.mode == "RGB"
        pixels = np.asarray(image.convert("RGB")) if colored else None
    if pixels is None or bool((pixels == pixels[..., :1]).all()):
        numbers, counts = np.unique(read_mask(path) if pixels is None else pixels[..., 0], return_counts=True)
        return path, dict(zip(numbers.tolist(), counts.tolist(), strict=True)), {}
    packed, counts = np.unique(pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32), return_counts=True)
    colors = [(value >> 16, value >> 8 & 255, value & 255) for value in packed.tolist()]
    return path, {}, dict(zip(colors, counts.tolist(), strict=True))


def meaning_of(stored: Stored, names: Sequence[str], palette: Mapping[str, Color] | None, where: str) -> Meaning:
    """How masks with these values are read.

    Args:
        stored: what they hold.
        names: of the classes, in order; empty where nothing names them.
        palette: color of each class, where a file of the data set lists colors.
        where: what an error is about: the folder.

    Raises:
        CrissCrossError: the values fit no reading, or more than one; the message holds the lines for dataset.yaml.
    """
    if stored.colors and stored.values and not _is_gray(stored.values, palette):
        raise CrissCrossError(
            f"{where}: {stored.color_file} is a color mask and {stored.index_file} an index mask; use one kind"
        )
    if stored.colors:
        return _of_colors(stored, names, palette, where)
    return _of_values(stored.values, tuple(names), where)


def _is_gray(values: Mapping[int, int], palette: Mapping[str, Color] | None) -> bool:
    """Whether index values are the gray colors of a palette: a mask of the background alone looks gray."""
    grays = {color[0] for color in (palette or {}).values() if len(set(color)) == 1} | {0}
    return set(values) <= grays


def _of_colors(stored: Stored, names: Sequence[str], palette: Mapping[str, Color] | None, where: str) -> Meaning:
    colors = Counter(stored.colors)
    for value, count in stored.values.items():
        colors[(value,) * 3] += count
    if palette is None:
        if len(colors) > MOST_COLORS:
            raise CrissCrossError(
                f"{where}: masks hold {len(colors)} colors, more than classes could have: their edges are soft; write "
                "them again without anti-aliasing, or list the classes as `palette: {name: [r, g, b]}` in dataset.yaml"
            )
        ordered = sorted(colors, key=lambda color: (color != (0, 0, 0), color))
        if names:
            raise CrissCrossError(
                f"{where}: masks hold {len(ordered)} colors ({', '.join(map(hex_color, ordered[:4]))}...), and nothing "
                f"tells which is {names[-1]!r}; write `palette: {{{names[0]}: [r, g, b], ...}}` in dataset.yaml"
            )
        titles = tuple(hex_color(color) for color in ordered)
        note = f"masks hold {len(ordered)} colors; each is a class, named by its color: name them under `palette`"
        return Meaning(titles, palette=tuple(ordered), colored=True, notes=(note,))
    unknown = [color for color in colors if color not in palette.values()]
    if unknown:
        worst = max(unknown, key=lambda color: colors[color])
        near = min(palette, key=lambda name: sum((a - b) ** 2 for a, b in zip(palette[name], worst, strict=True)))
        raise CrissCrossError(
            f"{where}: {len(unknown)} colors in masks are none of the {len(palette)} classes, most often {list(worst)} "
            f"({colors[worst]} pixels); nearest is {near} {list(palette[near])}"
        )
    return Meaning(tuple(palette), palette=tuple(palette.values()), colored=True)


def _of_values(values: Mapping[int, int], names: tuple[str, ...], where: str) -> Meaning:
    found = sorted(values)
    if not found:
        raise CrissCrossError(f"{where}: no masks to look at")
    if len(names) == 1:
        names = ("background", *names)
    binary = found[-1] == 255 and found in ([255], [0, 255])
    if binary and len(names) in (0, 2):
        note = "masks hold 0 and 255: read as background and foreground"
        return Meaning(names or ("background", "foreground"), {0: 0, 255: 1}, notes=(note,))
    inner = [value for value in found if value != IGNORE]
    ignored = ("255 is ignored",) if IGNORE in values else ()
    if names:
        return _of_named(inner, names, ignored, where)
    if inner and inner[-1] >= 2 * len(inner) + 8:
        # Gray levels with gaps: 255 is one of them, as white is where masks are looked at.
        labels = {value: number for number, value in enumerate(found)}
        note = f"masks hold the values {_few(found)}: each is a class, in this order"
        return Meaning(tuple(f"value {value}" for value in found), labels, notes=(note,))
    count = max(inner[-1] + 1 if inner else 1, 2)
    titles = ("background", "foreground") if count == 2 else tuple(f"class {number}" for number in range(count))
    note = f"masks hold the values {_few(inner)}: {count} classes, named by their numbers"
    return Meaning(titles, notes=(note, *ignored))


def _of_named(inner: list[int], names: tuple[str, ...], ignored: tuple[str, ...], where: str) -> Meaning:
    count = len(names)
    if not inner or inner[-1] < count:
        if inner and 0 not in inner and inner[-1] == count - 1 and len(inner) > 1:
            return Meaning(names, notes=(*ignored, f"no mask holds 0 ({names[0]})"))
        return Meaning(names, notes=ignored)
    if inner[-1] == count and 0 not in inner:
        labels = "{" + ", ".join(f"{value}: {value - 1}" for value in range(1, count + 1)) + "}"
        raise CrissCrossError(
            f"{where}: masks count {count} classes from 1 ({_few(inner)}); write `labels: {labels}` in dataset.yaml"
        )
    if inner[-1] == count:
        raise CrissCrossError(
            f"{where}: masks hold 0..{count}, {count} names are given; if 0 is a background without a name, write "
            "`background: background` in dataset.yaml to add it as class 0, or `background: ignore`"
        )
    raise CrissCrossError(
        f"{where}: masks hold the values {_few(inner)}, {count} names are given ({', '.join(names[:4])}"
        f"{', ...' if count > 4 else ''}); write `labels: {{value: class, ...}}` in dataset.yaml"
    )


def _few(values: Sequence[int]) -> str:
    shown = ", ".join(map(str, values[:8]))
    return f"{shown}, ... ({len(values)} values up to {values[-1]})" if len(values) > 8 else shown
