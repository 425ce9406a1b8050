"""Files that list the classes of a folder: their names, perhaps with numbers or colors."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crisscross.config.documents import read_text
from crisscross.data.layouts.sources import MOST_TEXT
from crisscross.errors import CrissCrossError

Color = tuple[int, int, int]
NAME_FILES = ("class_names.txt", "classes.txt", "labels.txt", "codes.txt", "names.txt")
# `0 road`, `0: road`, `0,road`; `road: 0`, `road,0`; `road 128 64 128`; `128 64 128 road`.
NUMBERED = re.compile(r"(?P<number>[0-9]{1,5})\s*[:,;.)=\s]\s*(?P<name>\S.*)")
NUMBER_LAST = re.compile(r"(?P<name>\S.*?)\s*[:,;=\t]\s*(?P<number>[0-9]{1,5})")
COLOR_LAST = re.compile(r"(?P<name>\S.*?)[:,;\s]+(?P<color>[0-9]{1,3}[,\s]+[0-9]{1,3}[,\s]+[0-9]{1,3})")
COLOR_FIRST = re.compile(r"(?P<color>[0-9]{1,3}[,\s]+[0-9]{1,3}[,\s]+[0-9]{1,3})[:,;\s]+(?P<name>\S.*)")
CSV_COLUMNS = (("name", "class", "label", "class_name"), ("r", "red"), ("g", "green"), ("b", "blue"))
HEADINGS = {"id", "name", "class", "label", "value", "index", "r", "g", "b", "red", "green", "blue", "number"}


@dataclass(frozen=True)
class ClassList:
    """What a file says about the classes.

    Attributes:
        names: in its order; empty where there is no such file.
        values: what masks store for each name; None: 0, 1, 2, ...
        palette: color of each name, None where the file holds none.
        file: its name.
    """

    names: tuple[str, ...] = ()
    values: tuple[int, ...] | None = None
    palette: Mapping[str, Color] | None = None
    file: str = ""


def class_list(root: Path) -> ClassList:
    """The classes of a folder, from the first file with a usual name; a table of colors comes before a list of names.

    Raises:
        CrissCrossError: a file that cannot be understood; the line is named.
    """
    for name, read in (("labelmap.txt", _cvat), ("label_colors.txt", _camvid), ("label_color.txt", _camvid)):
        if (path := root / name).is_file():
            return ClassList(tuple(found := _unique(path, read(path))), palette=found, file=name)
    for path in sorted(root.glob("*class_dict*.csv")):
        return ClassList(tuple(found := _unique(path, _csv(path))), palette=found, file=path.name)
    for name in NAME_FILES:
        if (path := root / name).is_file() and (lines := _lines(path)):
            return _listed(path, lines)
    return ClassList()


def listed_names(root: Path) -> list[str]:
    """Names of classes in order, for labels that are counted from 0.

    Raises:
        CrissCrossError: as `class_list`, or the file numbers them otherwise.
    """
    found = class_list(root)
    if found.values is not None:
        raise CrissCrossError(f"{root / found.file}: must number the classes 0, 1, ..., as the labels do")
    return list(found.names)


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in read_text(path, MOST_TEXT).lstrip("\ufeff").splitlines()]
    return [line for line in lines if line and not re.match(r"#(?![0-9a-fA-F]{6})", line) and line != "__ignore__"]


def _listed(path: Path, lines: list[str]) -> ClassList:
    if len(lines) > 1 and set(re.split(r"[,;:\s]+", lines[0].lower())) <= HEADINGS:
        lines = lines[1:]
    if len(lines) == 1 and "," in lines[0] and not NUMBER_LAST.fullmatch(lines[0]):
        return ClassList(tuple(word.strip() for word in lines[0].split(",") if word.strip()), file=path.name)
    for pattern in (COLOR_LAST, COLOR_FIRST):
        matches = [pattern.fullmatch(line) for line in lines]
        if (found := [match for match in matches if match]) and len(found) == len(lines):
            pairs = [(one["name"], _color(path, one.string, re.split(r"[,\s]+", one["color"]))) for one in found]
            return ClassList(tuple(table := _unique(path, pairs)), palette=table, file=path.name)
    for pattern in (NUMBERED, NUMBER_LAST):
        matches = [pattern.fullmatch(line) for line in lines]
        found = [match for match in matches if match]
        if len(found) > 1 and len(found) == len(lines):
            return _numbered(path, [(int(one["number"]), one["name"].strip()) for one in found])
        if len(found) > max(1, len(lines) // 2):
            odd = next(line for line, match in zip(lines, matches, strict=True) if match is None)
            raise CrissCrossError(
                f"{path}: the line {odd[:60]!r} has no number, the others have; write one name a line, without numbers"
            )
    return ClassList(tuple(lines), file=path.name)


def _numbered(path: Path, pairs: Sequence[tuple[int, str]]) -> ClassList:
    values = [value for value, _ in pairs]
    if len(set(values)) < len(values) or max(values) > 255:
        raise CrissCrossError(
            f"{path}: numbers of classes must differ and be 0..255; or write one name a line, without numbers"
        )
    pairs = sorted(pairs)
    counted = [value for value, _ in pairs] == list(range(len(pairs)))
    names = tuple(name for _, name in pairs)
    return ClassList(names, None if counted else tuple(value for value, _ in pairs), file=path.name)


def hex_color(color: Color) -> str:
    """A color as `#rrggbb`."""
    return "#" + bytes(color).hex()


def _unique(path: Path, pairs: Sequence[tuple[str, Color]]) -> dict[str, Color]:
    table: dict[Color, str] = {}
    for name, color in pairs:
        if (other := table.setdefault(color, name)) != name:
            raise CrissCrossError(f"{path}: {other!r} and {name!r} have one color, {list(color)}; give each its own")
    if not pairs:
        raise CrissCrossError(f"{path}: lists no classes")
    return dict(pairs)


def _cvat(path: Path) -> list[tuple[str, Color]]:
    """Lines `name:r,g,b:parts:actions`."""
    return [
        (line.partition(":")[0].strip(), _color(path, line, line.split(":")[1].split(",") if ":" in line else []))
        for line in _lines(path)
    ]


def _camvid(path: Path) -> list[tuple[str, Color]]:
    """Lines `r g b name`."""
    words = [(line, line.split()) for line in _lines(path)]
    colors = [_color(path, line, found[:3]) for line, found in words]
    return [(" ".join(found[3:]) or hex_color(color), color) for (_, found), color in zip(words, colors, strict=True)]


def _csv(path: Path) -> list[tuple[str, Color]]:
    """A table with the columns name, r, g, b, in any order."""
    text = read_text(path, MOST_TEXT).lstrip("\ufeff")
    rows = [[word.strip() for word in row] for row in csv.reader(io.StringIO(text)) if any(map(str.strip, row))]
    head = [word.lower() for word in rows[0]] if rows else []
    places = [next((head.index(word) for word in words if word in head), None) for words in CSV_COLUMNS]
    if None in places:
        raise CrissCrossError(f"{path}: its first line must be `name,r,g,b`, got {','.join(head)[:60]!r}")
    chosen = [[row[place] if place < len(row) else "" for place in places if place is not None] for row in rows[1:]]
    return [(name, _color(path, ",".join([name, *color]), color)) for name, *color in chosen]


def _color(path: Path, line: str, words: Sequence[str]) -> Color:
    try:
        red, green, blue = (int(word) for word in words)
        if not all(0 <= value <= 255 for value in (red, green, blue)):
            raise ValueError("outside 0..255")
    except ValueError as error:
        raise CrissCrossError(f"{path}: no color in the line {line[:60]!r} ({error})") from None
    return red, green, blue
