"""A user's own data: `images/`, `masks/`, `dataset.yaml` and, if wanted, split lists. No code."""

import os
import zlib
from pathlib import Path
from typing import Any

from crisscross.config import hint
from crisscross.config.documents import read_yaml
from crisscross.data.dataset import DataSet, Pair, existing_folder
from crisscross.data.layout import read_lines
from crisscross.data.palette import default_palette
from crisscross.data.reading import is_picture_file
from crisscross.errors import CrissCrossError

DESCRIPTION = "dataset.yaml"
KEYS = ["classes", "palette", "ignore", "void", "images", "masks", "splits", "video"]
# Without split lists this share of the pictures, chosen by name, is held out.
HELD_OUT, HELD_OUT_NOTE = 5, "no split lists"


def open_folder(root: str | os.PathLike[str]) -> DataSet:
    """Open a plain folder described by its `dataset.yaml`.

    Keys: `classes` (names, required), `palette` (RGB triples), `ignore` (default 255), `void` (more ignored values),
    `images` and `masks` (folder names), `video` (true where names are VIDEO_NUMBER and the pictures frames of videos),
    `splits` (split name -> text file with one picture name a line). Lists called
    `train.txt`, `val.txt` and `test.txt` are found without being named. Without a `train` list, `train` is what no
    other list holds; without a `val` list either, about a fifth, chosen by a checksum of the names, is `val`.

    Raises:
        CrissCrossError: a missing folder or file, an unknown key or a senseless value.
    """
    root = existing_folder(root)
    values = _description(root / DESCRIPTION)
    classes = _classes(values["classes"], root / DESCRIPTION)
    palette = _palette(values.get("palette"), len(classes), root / DESCRIPTION)
    ignore, void = _ignored(values, len(classes), root / DESCRIPTION)
    folders = {key: values.get(key, key) for key in ("images", "masks")}
    for key, value in folders.items():
        if not isinstance(value, str) or not value.strip("./"):
            raise CrissCrossError(f"{root / DESCRIPTION}: {key} must be the name of a folder, got {value!r}")
    pairs = _pairs(root, folders["images"], folders["masks"])
    splits, note = _splits(root, values.get("splits"), pairs)
    if not isinstance(video := values.get("video", False), bool):
        raise CrissCrossError(f"{root / DESCRIPTION}: video must be true or false, got {video!r}")
    if video and note.startswith(HELD_OUT_NOTE):
        raise CrissCrossError(
            f"{root}: frames of videos need train.txt and val.txt: single frames held out would be neighbours of those "
            "that are trained on"
        )
    return DataSet("folder", root, classes, palette, splits, ignore, void, note, video=video)


def _description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such file; it must at least hold `classes: [first, second, ...]`")
    values = read_yaml(path)
    if not isinstance(values, dict) or not isinstance(values.get("classes"), list) or not values["classes"]:
        raise CrissCrossError(f"{path}: `classes` must be a list of names")
    for key in values:
        if key not in KEYS:
            raise CrissCrossError(f"{path}: unknown key {key}; {hint(str(key), KEYS, 'known here')}")
    return values


def _classes(given: list[Any], path: Path) -> tuple[str, ...]:
    for name in given:
        # YAML reads a bare yes, no or null as something other than text.
        if name is None or isinstance(name, bool) or not str(name).strip():
            raise CrissCrossError(f"{path}: `classes` must be names, got {name!r}; put quotes around it")
    classes = tuple(str(name) for name in given)
    if len(classes) < 2:
        raise CrissCrossError(f"{path}: `classes` must name at least two classes, got {list(classes)}")
    if twice := sorted({name for name in classes if classes.count(name) > 1}):
        raise CrissCrossError(f"{path}: `classes` names {twice[0]!r} twice; each class needs a name of its own")
    if len(classes) > 255:
        raise CrissCrossError(f"{path}: `classes` must hold at most 255 names, got {len(classes)}")
    return classes


def _ignored(values: dict[str, Any], classes: int, path: Path) -> tuple[int, tuple[int, ...]]:
    ignore, void = values.get("ignore", 255), values.get("void", [])
    if type(ignore) is not int or not classes <= ignore <= 255:
        raise CrissCrossError(f"{path}: ignore must be a whole number {classes}..255, got {ignore!r}")
    if not isinstance(void, list) or any(type(value) is not int or not 0 <= value <= 255 for value in void):
        raise CrissCrossError(f"{path}: void must be a list of whole numbers 0..255, got {void!r}")
    if taken := [value for value in void if value < classes]:
        raise CrissCrossError(f"{path}: void holds {taken[0]}, which is a class (0..{classes - 1})")
    return ignore, tuple(void)


def _palette(given: Any, classes: int, path: Path) -> tuple[tuple[int, int, int], ...]:
    if given is None:
        return default_palette(classes)
    try:
        palette = tuple((red, green, blue) for red, green, blue in given)
        if any(type(channel) is not int for colour in palette for channel in colour):
            raise TypeError("not whole numbers")
    except (TypeError, ValueError) as error:
        raise CrissCrossError(f"{path}: palette must be a list of [red, green, blue], got {given!r}") from error
    if len(palette) != classes:
        raise CrissCrossError(f"{path}: palette has {len(palette)} colours for {classes} classes")
    for colour in palette:
        if min(colour) < 0 or max(colour) > 255:
            raise CrissCrossError(f"{path}: palette colours lie in 0..255, got {list(colour)}")
    return palette


def _pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise CrissCrossError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if is_picture_file(path)):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise CrissCrossError(f"{path}: {found[name].name} has the same name; rename or remove one of them")
        found[name] = path
    return found


def _pairs(root: Path, images: str, masks: str) -> dict[str, Pair]:
    mask_of = _pictures(root / masks)
    pictures = _pictures(root / images)
    return {name: Pair(name, path, mask_of.get(name, root / masks / f"{name}.png")) for name, path in pictures.items()}


def _splits(root: Path, given: Any, pairs: dict[str, Pair]) -> tuple[dict[str, tuple[Pair, ...]], str]:
    if given is None:
        given = {name: f"{name}.txt" for name in ("train", "val", "test") if (root / f"{name}.txt").is_file()}
        if "train" not in given:
            return _without_train_list(root, given, pairs)
    if not isinstance(given, dict) or not all(isinstance(path, str) for path in given.values()):
        raise CrissCrossError(f"{root / DESCRIPTION}: splits must map split names to list files, got {given!r}")
    return {str(name): _listed(root / path, pairs) for name, path in given.items()}, ""


def _without_train_list(
    root: Path, given: dict[str, str], pairs: dict[str, Pair]
) -> tuple[dict[str, tuple[Pair, ...]], str]:
    """`train` is whatever no list holds; without a `val` list a part of it, chosen by name, is held out."""
    splits = {name: _listed(root / path, pairs) for name, path in given.items()}
    listed = {pair.name for split in splits.values() for pair in split}
    free = {name: pair for name, pair in pairs.items() if name not in listed}
    note = f"no list train.txt: train is the {len(free)} pictures that no other list holds"
    if "val" not in given:
        order = sorted(free, key=_checksum)
        held_out = {name for name in order if _checksum(name) % HELD_OUT == 0} or set(order[: len(order) > 1])
        splits["val"] = tuple(pair for name, pair in free.items() if name in held_out)
        free = {name: pair for name, pair in free.items() if name not in held_out}
        note = f"{HELD_OUT_NOTE}: {len(held_out)} of {len(pairs)} pictures held out as val by name"
    return {"train": tuple(free.values()), **splits}, note


def _checksum(name: str) -> int:
    return zlib.crc32(os.fsencode(name))


def _listed(path: Path, pairs: dict[str, Pair]) -> tuple[Pair, ...]:
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such split list")
    chosen = []
    for number, name in enumerate(read_lines(path), 1):
        if not name:
            continue
        pair = pairs.get(name) or (pairs.get(name.rsplit(".", 1)[0]) if is_picture_file(Path(name)) else None)
        if pair is None:
            raise CrissCrossError(f"{path}, line {number}: no picture named {name!r}")
        chosen.append(pair)
    return tuple(chosen)
