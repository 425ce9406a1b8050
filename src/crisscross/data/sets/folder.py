"""A user's own data: `images/`, `masks/`, `dataset.yaml` and, if wanted, split lists. No code."""

import os
import zlib
from pathlib import Path
from typing import Any

from crisscross.config import hint
from crisscross.config.documents import read_yaml
from crisscross.data.dataset import DataSet, Pair, existing_folder, is_line
from crisscross.data.files.folders import images_in, name_key, needed_file, needed_folder, read_lines
from crisscross.data.files.reading import is_image_file
from crisscross.data.palette import default_palette
from crisscross.data.sets.record import BuiltIn
from crisscross.errors import CrissCrossError, shown_name

DESCRIPTION = "dataset.yaml"
KEYS = ["classes", "palette", "ignore", "void", "images", "masks", "splits", "video"]
# Without split lists one image in so many, chosen by name, is held out.
HELD_OUT, HELD_OUT_NOTE = 5, "no split lists"


def is_folder(root: Path) -> bool:
    """Whether a folder has a description."""
    return (root / DESCRIPTION).is_file()


def open_folder(root: str | os.PathLike[str]) -> DataSet:
    """Open a plain folder described by its `dataset.yaml`.

    Keys: `classes` (names, required), `palette` (RGB triples), `ignore` (default 255), `void` (more ignored values),
    `images` and `masks` (folder names), `video` (true where names are VIDEO_NUMBER and the images frames of videos),
    `splits` (split name -> text file with one image name a line). Lists called
    `train.txt`, `val.txt` and `test.txt` are found without being named. Without a `train` list, `train` is what no
    other list holds; without a `val` list either, about a fifth, chosen by a checksum of the names, is `val`.

    Raises:
        CrissCrossError: a missing folder or file, an unknown key or a wrong value.
    """
    root = existing_folder(root)
    file, values = root / DESCRIPTION, _description(root / DESCRIPTION)
    classes = tuple(map(_name, values["classes"]))
    if len(classes) < 2:
        raise CrissCrossError(f"{file}: `classes` must name at least two classes, got {list(classes)}")
    palette, void = values.get("palette", default_palette(len(classes))), values.get("void", [])
    for key, value, wanted in (("palette", palette, "[red, green, blue]"), ("void", void, "whole numbers")):
        if not isinstance(value, list | tuple):
            raise CrissCrossError(f"{file}: {key} must be a list of {wanted}, got {value!r:.80}")
    pairs = _pairs(root, *(_folder(values.get(key, key), key, file) for key in ("images", "masks")))
    splits, note = _splits(root, values.get("splits"), pairs)
    if not isinstance(video := values.get("video", False), bool):
        raise CrissCrossError(f"{file}: video must be true or false, got {video!r:.80}")
    if video and note.startswith(HELD_OUT_NOTE):
        raise CrissCrossError(
            f"{root}: frames of videos need train.txt and val.txt: single frames held out would be neighbors of those "
            "that are trained on"
        )
    colors = tuple(tuple(color) if isinstance(color, list) else color for color in palette)
    try:
        return DataSet(
            "folder", root, classes, colors, splits, values.get("ignore", 255), tuple(void), note, video=video
        )
    except CrissCrossError as error:
        raise CrissCrossError(str(error).replace(f"{root}: the data set 'folder'", str(file), 1)) from error


def _description(path: Path) -> dict[str, Any]:
    values = read_yaml(needed_file(path, "it must at least hold `classes: [first, second, ...]`"))
    if not isinstance(values, dict) or not isinstance(values.get("classes"), list) or not values["classes"]:
        raise CrissCrossError(f"{path}: `classes` must be a list of names")
    for key in values:
        if key not in KEYS:
            raise CrissCrossError(f"{path}: unknown key {shown_name(key)}; {hint(str(key), KEYS, 'known here')}")
    return values


def _name(value: Any) -> Any:
    """A name as it was written: YAML reads 7 as a number."""
    return str(value) if type(value) is int else value


def _folder(value: Any, key: str, file: Path) -> Path:
    if not is_line(value) or not value.strip("./"):
        raise CrissCrossError(f"{file}: {key} must be the name of a folder, got {value!r:.80}")
    return needed_folder(file.parent / value, f"another one can be named in {DESCRIPTION}")


def _images(folder: Path) -> dict[str, Path]:
    """Image files by the key of their name, see `name_key`."""
    found: dict[str, Path] = {}
    for path in images_in(folder, deep=True):
        key = name_key(_stem(folder, path))
        if key in found:
            forms = " but for NFC/NFD" if _stem(folder, found[key]) != _stem(folder, path) else ""
            raise CrissCrossError(f"{path}: {found[key].name} has the same name{forms}; rename or remove one of them")
        found[key] = path
    return found


def _stem(folder: Path, path: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _pairs(root: Path, images: Path, masks: Path) -> dict[str, Pair]:
    """Every image with its mask, or the path where that should be, by the key of its name."""
    if images.samefile(masks):
        raise CrissCrossError(f"{root / DESCRIPTION}: images and masks must be two folders, both are {images.name!r}")
    mask_of, image_of = _images(masks), _images(images)
    names = {key: _stem(images, path) for key, path in image_of.items()}
    return {key: Pair(names[key], image_of[key], mask_of.get(key, masks / f"{names[key]}.png")) for key in image_of}


def _splits(root: Path, given: Any, pairs: dict[str, Pair]) -> tuple[dict[str, tuple[Pair, ...]], str]:
    if given is None:
        given = {name: f"{name}.txt" for name in ("train", "val", "test") if (root / f"{name}.txt").is_file()}
        if "train" not in given:
            return _without_train_list(root, given, pairs)
    if not isinstance(given, dict) or not all(is_line(_name(word)) for item in given.items() for word in item):
        raise CrissCrossError(f"{root / DESCRIPTION}: splits must map split names to list files, got {given!r:.80}")
    fix = f"{root / DESCRIPTION} calls it the list of a split: one name a line"
    return {_name(name): _listed(needed_file(root / _name(path), fix), pairs) for name, path in given.items()}, ""


def _without_train_list(
    root: Path, given: dict[str, str], pairs: dict[str, Pair]
) -> tuple[dict[str, tuple[Pair, ...]], str]:
    """`train` is whatever no list holds; without a `val` list a part of it, chosen by name, is held out."""
    splits = {name: _listed(root / path, pairs) for name, path in given.items()}
    listed = {pair.name for split in splits.values() for pair in split}
    free = {pair.name: pair for pair in pairs.values() if pair.name not in listed}
    note = f"no list train.txt: train is the {len(free)} images that no other list holds"
    if "val" not in given:
        order = sorted(free, key=_checksum)
        held_out = {name for name in order if _checksum(name) % HELD_OUT == 0} or set(order[: len(order) > 1])
        splits["val"] = tuple(pair for name, pair in free.items() if name in held_out)
        free = {name: pair for name, pair in free.items() if name not in held_out}
        note = f"{HELD_OUT_NOTE}: {len(held_out)} of {len(pairs)} images held out as val by name"
    return {"train": tuple(free.values()), **splits}, note


def _checksum(name: str) -> int:
    return zlib.crc32(os.fsencode(name))


def _listed(path: Path, pairs: dict[str, Pair]) -> tuple[Pair, ...]:
    chosen = []
    for number, name in enumerate(read_lines(path), 1):
        if not name:
            continue
        key = name_key(name)
        pair = pairs.get(key) or (pairs.get(key.rsplit(".", 1)[0]) if is_image_file(Path(name)) else None)
        if pair is None:
            raise CrissCrossError(f"{path}, line {number}: no image named {name!r:.200}")
        chosen.append(pair)
    return tuple(chosen)


FOLDER = BuiltIn(open_folder, is_folder)
