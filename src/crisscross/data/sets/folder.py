"""A user's own data: a folder that `dataset.yaml` describes, or whose layout can be recognized. No code."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from crisscross.config.documents import read_yaml
from crisscross.data.check.checks import MOST_MASKS
from crisscross.data.check.mixups import named, unseen
from crisscross.data.cures import DESCRIPTION
from crisscross.data.dataset import DataSet, existing_folder
from crisscross.data.layouts.description import parse_description
from crisscross.data.layouts.drawn import cached, draw_masks
from crisscross.data.layouts.opening import HELD_OUT_NOTE, open_description
from crisscross.data.layouts.reading import DRAWN, Reading
from crisscross.data.layouts.recognize import recognize
from crisscross.data.layouts.sources import RUN
from crisscross.data.layouts.stale import record
from crisscross.data.layouts.unread import nothing_found
from crisscross.data.sets.record import BuiltIn
from crisscross.errors import CrissCrossError
from crisscross.files import claim, write_text

HEAD = "# What the images and masks of this folder are; docs/data.md lists all keys.\n"


def is_folder(root: Path) -> bool:
    """Whether a folder has a description."""
    return (root / DESCRIPTION).is_file()


def open_folder(root: str | os.PathLike[str]) -> DataSet:
    """Open a folder of images and masks, described by its `dataset.yaml` or recognized.

    docs/data.md lists the keys of the description and the layouts that are recognized without one. What is assumed then
    stands in the data set's `note`. Polygons are drawn to masks in the user's cache folder.

    Raises:
        CrissCrossError: a missing folder or file, an unknown key or a wrong value, a layout that is none or can be read
            in more than one way.
    """
    root = existing_folder(root)
    if is_folder(root):
        return open_description(root, parse_description(read_yaml(root / DESCRIPTION), root / DESCRIPTION))
    reading, drawn = cached(root, recognized)
    # Classes that come with a tool's whole list may well have no pixel.
    said = replace(parse_description({**reading.description}, root), allow_empty=not reading.names_file)
    dataset = open_description(root, said, drawn)
    notes = "; ".join((*reading.notes, *filter(None, (dataset.note,))))
    return replace(dataset, note=f"read as {reading.kind}: {notes}")


def recognized(root: Path) -> Reading:
    """How a folder without a description is read.

    Raises:
        CrissCrossError: no images and masks in it, or in more than one way.
    """
    if (root / RUN).is_file():
        raise CrissCrossError(f"{root}: the folder of a training run, not of a data set; give the folder of the images")
    if reading := recognize(root):
        return reading
    raise nothing_found(root)


def describe(root: Path, dry_run: bool = False, force: bool = False) -> tuple[str, list[str]]:
    """Write `dataset.yaml`, the masks that have to be drawn, and lists of splits where the folder has none.

    Args:
        root: folder of images and masks.
        dry_run: write nothing into it.
        force: replace files that are in the way.

    Returns:
        The text of the description, and lines about what was recognized and written.

    Raises:
        CrissCrossError: as `recognized`; a file that is in the way, or cannot be written.
    """
    root = existing_folder(root)
    target = root / DESCRIPTION
    if os.path.lexists(target) and not (force or dry_run):
        raise CrissCrossError(f"{target} is there already; --force replaces it, --dry-run shows what it would be")
    reading = recognized(root)
    description: dict[str, Any] = dict(reading.description)
    said, drawn = parse_description(description, root), None
    lists: dict[Path, str] = {}
    lines = [f"read as {reading.kind}", *reading.notes]
    if reading.draw and dry_run:
        # Opening draws into the cache, where training looks for these masks as well.
        reading, drawn = cached(root, recognized)
    elif reading.draw:
        # Before the work: nothing is drawn where the description could not be written.
        claim([target], force=force)
        draw_masks(reading, root / DRAWN, force)
        lines.append(f"drew {len(reading.draw)} masks into {root / DRAWN}")
    dataset = open_description(root, said, drawn)
    if reading.draw and not dry_run:
        record(root, reading.kind, {pair.image for pairs in dataset.splits.values() for pair in pairs})
    lines += [*filter(None, (dataset.note,)), *_unready(dataset)]
    split = "train" if "train" in dataset.splits else next(iter(dataset.splits), "")
    if split and (missing := unseen(dataset, dataset.splits[split], MOST_MASKS)):
        lacking = f"no pixel of {named(dataset, missing)} in {split!r}"
        if reading.names_file:
            lines.append(
                f"{lacking}, so that training will refuse to start: mend {reading.names_file}, or add "
                f"`allow_empty: true`"
            )
        else:
            description["allow_empty"] = True
            lines.append(f"{lacking}, and nothing says that each must occur: `allow_empty: true` is written")
    if HELD_OUT_NOTE in dataset.note and set(said.images) == {""}:
        names = {split: [pair.name for pair in dataset.splits[split]] for split in ("train", "val")}
        lists = {root / f"{split}.txt": "".join(f"{name}\n" for name in kept) for split, kept in names.items()}
        lines.append("train.txt and val.txt keep this split")
    import yaml

    text = HEAD + yaml.safe_dump(description, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)
    if not dry_run:
        claim([*lists, target], force=force)
        for path, names_of_split in lists.items():
            write_text(path, names_of_split)
        write_text(target, text)
        lines.append(f"wrote {', '.join(path.name for path in (target, *lists))} into {root}")
    return text, lines


def _unready(dataset: DataSet) -> list[str]:
    """What training and `data check` will refuse, so that it is known where the description is written."""
    pairs = [pair for found in dataset.splits.values() for pair in found]
    lacking = [pair.image for pair in pairs if not pair.mask.is_file()]
    lines = []
    if lacking:
        lines.append(
            f"{len(lacking)} of {len(pairs)} images have no mask ({lacking[0].name}), which training refuses: add the "
            "masks, or move these images elsewhere"
        )
    if not dataset.splits.get("val", ("",)):
        lines.append("no image is left for val, without which training needs `--set data.val_split=none`")
    return lines


FOLDER = BuiltIn(open_folder, is_folder)
