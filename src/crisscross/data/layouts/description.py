"""What `dataset.yaml` says about a folder: names of classes, meaning of stored values, where images and masks lie."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crisscross.config import hint
from crisscross.data.dataset import check_class_names, is_line
from crisscross.data.palette import Palette, default_palette
from crisscross.errors import CrissCrossError, shown_name

KEYS = (
    *("names", "classes", "labels", "palette", "background", "ignore", "void", "images", "masks", "image_suffix"),
    *("mask_suffix", "splits", "video", "allow_empty"),
)
DEFAULT_IGNORE = 255
BACKGROUND = "background"


@dataclass(frozen=True)
class Description:
    """A parsed `dataset.yaml`.

    Attributes:
        classes, palette, ignore, void, labels, colored, video, allow_empty: as in `DataSet`.
        images, masks: folder of each split; the key `""` is the folder of all images where splits are lists.
        image_suffix, mask_suffix: what image and mask files have after the name that they share.
        splits: list files and folders of images of each split, by name; None where none is named.
        notes: what was assumed.
        where: how errors call it.
    """

    classes: tuple[str, ...]
    palette: Palette
    ignore: int
    void: tuple[int, ...]
    labels: Mapping[int, int] | None
    colored: bool
    images: Mapping[str, str]
    masks: Mapping[str, str]
    image_suffix: str = ""
    mask_suffix: str = ""
    splits: Mapping[str, tuple[str, ...]] | None = None
    video: bool = False
    allow_empty: bool = False
    notes: tuple[str, ...] = ()
    where: str = ""


def parse_description(values: Any, where: Path | str) -> Description:
    """A description from the values of a YAML file.

    Raises:
        CrissCrossError: an unknown key or a senseless value; `where` begins the message.
    """
    key = next((key for key in ("names", "classes") if isinstance(values, dict) and key in values), None)
    if key is None:
        raise CrissCrossError(f"{where}: must hold `names: [first, second, ...]`, the classes in order")
    for other in values:
        if other not in KEYS:
            known = hint(str(other), list(KEYS), "known here")
            raise CrissCrossError(f"{where}: unknown key {shown_name(other)}; {known}")
    if "names" in values and "classes" in values:
        raise CrissCrossError(f"{where}: names and classes mean the same; leave one of them out")
    names = parse_names(values[key], key, where)
    ignore = values.get("ignore", DEFAULT_IGNORE)
    labels, names, notes = _with_background(values, names, ignore, where)
    if "labels" in values:
        labels = _labels(values["labels"], names, ignore, where)
    if not isinstance(void := values.get("void", []), list):
        raise CrissCrossError(f"{where}: void must be a list of whole numbers, got {void!r:.80}")
    images, masks = (_folders(values.get(key, key), key, where) for key in ("images", "masks"))
    splits = _splits(values.get("splits"), where)
    switches = {key: values.get(key, False) for key in ("video", "allow_empty")}
    for key, value in switches.items():
        if not isinstance(value, bool):
            raise CrissCrossError(f"{where}: {key} must be true or false, got {value!r:.80}")
    suffixes = {key: values.get(key) or "" for key in ("image_suffix", "mask_suffix")}
    for key, value in suffixes.items():
        if not isinstance(value, str) or "/" in value or "\\" in value:
            raise CrissCrossError(f"{where}: {key} must be the end of a file name such as _mask, got {value!r:.80}")
    return Description(
        names,
        _palette(values.get("palette"), names, where),
        ignore,
        tuple(void),
        labels,
        values.get("palette") is not None,
        images,
        masks,
        suffixes["image_suffix"],
        suffixes["mask_suffix"],
        splits,
        **switches,
        notes=notes,
        where=str(where),
    )


def _text(value: Any) -> Any:
    """What YAML made of a name, as it was written where that can be recovered: it reads 7 as a number."""
    return str(value) if type(value) is int else value


def parse_names(given: Any, key: str, where: Path | str) -> tuple[str, ...]:
    """Names of classes in order, from a list or a mapping from 0, 1, ...

    Raises:
        CrissCrossError: it is neither, or names are not text of one line or not unique; `where` begins the message.
    """
    if isinstance(given, dict) and given:
        if not all(type(number) is int for number in given) or sorted(given) != list(range(len(given))):
            shown = ", ".join(f"{number!r:.20}" for number in list(given)[:8])
            raise CrissCrossError(
                f"{where}: {key} must be numbered 0, 1, ... without gaps, got {shown}; list the names of the classes, "
                "and use `labels: {value: name}` for values with gaps"
            )
        given = [given[number] for number in range(len(given))]
    if not isinstance(given, list) or not given:
        raise CrissCrossError(f"{where}: `{key}` must be a list of names, or map 0, 1, ... to them, got {given!r:.80}")
    names = tuple(map(_text, given))
    check_class_names(names, f"{where}: `{key}`")
    return names


def _with_background(
    values: Mapping[str, Any], names: tuple[str, ...], ignore: int, where: Path | str
) -> tuple[dict[int, int] | None, tuple[str, ...], tuple[str, ...]]:
    """Classes with the background that `background` adds, or that a single class needs; labels where it is ignored."""
    background = _text(values.get("background"))
    if type(ignore) is not int:
        raise CrissCrossError(f"{where}: ignore must be whole numbers 0..255, got {ignore!r:.80}")
    if background is not None and not is_line(background):
        raise CrissCrossError(f"{where}: background must be `ignore` or a name for the class 0, got {background!r:.80}")
    if background == "ignore":
        if "labels" in values:
            raise CrissCrossError(f"{where}: background and labels both say what 0 means; leave background out")
        return {0: ignore, ignore: ignore} | {k: k - 1 for k in range(1, len(names) + 1)}, names, ()
    if background is not None:
        check_class_names((background, *names), f"{where}: background and names")
        return None, (background, *names), ()
    if len(names) == 1 and names[0] != BACKGROUND:
        note = f"one class is named, {names[0]!r}: class 0 is {BACKGROUND!r}, class 1 is {names[0]!r}"
        return None, (BACKGROUND, *names), (note,)
    return None, names, ()


def _labels(given: Any, names: tuple[str, ...], ignore: int, where: Path | str) -> dict[int, int]:
    """Stored value -> class number, of a mapping to numbers, names, or `ignore` (also: null)."""
    if not isinstance(given, dict) or not given:
        raise CrissCrossError(f"{where}: labels must map stored values to classes, such as {{0: 0, 255: 1}}")
    found = {}
    for value, meant in given.items():
        # An unhashable or odd value is no name; `in` compares without hashing.
        number = ignore if meant in (None, "ignore") else names.index(_text(meant)) if meant in names else meant
        if type(value) is not int or not 0 <= value <= 255:
            raise CrissCrossError(f"{where}: labels: {value!r:.40} is no value of a mask (0..255)")
        if type(number) is not int or not (0 <= number < len(names) or number == ignore):
            raise CrissCrossError(
                f"{where}: labels: {value} becomes {meant!r:.40}; it must be a class 0..{len(names) - 1} or its name"
            )
        found[value] = number
    return found


def _palette(given: Any, names: tuple[str, ...], where: Path | str) -> Palette:
    """RGB colors of the classes, from a list in their order or a mapping from their names."""
    if given is None:
        return default_palette(names)
    if isinstance(given, dict):
        if set(map(_text, given)) != set(names):
            odd = sorted({str(_text(name)) for name in given} ^ set(names)) or ["a name that is no text"]
            raise CrissCrossError(
                f"{where}: palette and names differ: {', '.join(odd[:4])}; name each class once in both"
            )
        colors = {_text(name): color for name, color in given.items()}
        given = [colors[name] for name in names]
    if not isinstance(given, list):
        raise CrissCrossError(f"{where}: palette must be a list of [red, green, blue], got {given!r:.80}")
    return tuple(tuple(color) if isinstance(color, list) else color for color in given)


def _splits(given: Any, where: Path | str) -> dict[str, tuple[str, ...]] | None:
    """List files, and folders of images, of each split."""
    if given is None:
        return None
    found: dict[str, tuple[Any, ...]] = {}
    for name, entries in given.items() if isinstance(given, dict) else ():
        found[_text(name)] = tuple(map(_text, entries)) if isinstance(entries, list) else (_text(entries),)
    if not isinstance(given, dict) or not all(is_line(word) for item in found.items() for word in (item[0], *item[1])):
        raise CrissCrossError(f"{where}: splits must map split names to list files, got {given!r:.80}")
    return found


def _folders(given: Any, key: str, where: Path | str) -> dict[str, str]:
    """Folder of each split, or of all images under the key `""`."""
    found = {_text(split): path for split, path in given.items()} if isinstance(given, dict) else {"": given}
    for split, path in found.items():
        if not is_line("all" if split == "" else split) or not is_line(path):
            raise CrissCrossError(
                f"{where}: {key} must be the name of a folder, or map splits to folders, got {path!r:.80}"
            )
    return found
