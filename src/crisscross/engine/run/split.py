"""The split of a run: images that were held out by their names stay so when the folder gets more images."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crisscross.config import NO_SPLIT
from crisscross.config.documents import JSON_BYTES, read_json
from crisscross.data import DataSet
from crisscross.data.layouts.opening import HELD_OUT_NOTE
from crisscross.errors import CrissCrossError
from crisscross.files import write_text

SPLIT = "split.json"
SIDES = ("train", "val")


def write_split(folder: Path, data: Any) -> None:
    """Store the names of both sides in the run's folder, if they were chosen by a rule and not by the data set.

    Raises:
        CrissCrossError: the file cannot be written.
    """
    if isinstance(data, DataSet) and HELD_OUT_NOTE in data.note:
        names = {side: [pair.name for pair in data.splits[side]] for side in SIDES}
        write_text(folder / SPLIT, json.dumps(names, indent=0) + "\n")


def held_in(data: Any, val_split: str) -> Any:
    """The data as the experiment's `data.val_split` wants it: with `none`, no image is held out by a rule."""
    if not (val_split == NO_SPLIT and isinstance(data, DataSet) and HELD_OUT_NOTE in data.note):
        return data
    train, val = SIDES
    pairs = tuple(sorted((*data.splits[train], *data.splits[val]), key=lambda pair: pair.name))
    splits = {name: pairs if name == train else own for name, own in data.splits.items() if name != val}
    note = "; ".join(part for part in data.note.split("; ") if HELD_OUT_NOTE not in part)
    return replace(data, splits=splits, note=note)


def keep_split(folder: Path, data: Any) -> tuple[Any, Sequence[str]]:
    """The data with the sides that the run began with, and a line if that changes anything.

    Images that are new since go where the rule puts them.

    Raises:
        CrissCrossError: the stored split is damaged.
    """
    path = folder / SPLIT
    if not (path.is_file() and isinstance(data, DataSet) and HELD_OUT_NOTE in data.note):
        return data, ()
    stored = read_json(path, JSON_BYTES)
    if not isinstance(stored, dict) or not all(isinstance(stored.get(side), list) for side in SIDES):
        raise CrissCrossError(f"{path}: must hold lists of names, train and val; remove it to split the images anew")
    side_of = {str(name): side for side in SIDES for name in stored[side]}
    pairs = [(pair, side) for side in SIDES for pair in data.splits[side]]
    moved = [pair for pair, side in pairs if side_of.get(pair.name, side) != side]
    if not moved:
        return data, ()
    kept = {side: tuple(pair for pair, own in pairs if side_of.get(pair.name, own) == side) for side in SIDES}
    line = (
        f"{len(moved)} images would change between train and val, such as {moved[0].name}: they stay as the run began"
    )
    return replace(data, splits={**data.splits, **kept}), (line,)
