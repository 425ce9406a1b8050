"""A user's own data: a folder that `dataset.yaml` describes, or whose layout can be recognized. No code."""

import hashlib
import os
from pathlib import Path
from typing import Any

import yaml

from crisscross.config.documents import read_yaml
from crisscross.data.color import write_mask
from crisscross.data.dataset import DataSet, existing_folder
from crisscross.data.files.threads import each
from crisscross.data.layouts.description import parse_description
from crisscross.data.layouts.opening import HELD_OUT_NOTE, open_description
from crisscross.data.layouts.reading import DRAWN, Reading
from crisscross.data.layouts.recognize import recognize
from crisscross.data.sets.record import BuiltIn
from crisscross.errors import CrissCrossError
from crisscross.files import claim, user_cache, write_text
from crisscross.progress import Progress

DESCRIPTION = "dataset.yaml"
# Files that drawn masks depend on.
SOURCES = (".json", ".txt", ".csv", ".xml", ".yaml", ".yml")


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
    reading = recognized(root)
    said = parse_description({**reading.description}, root)
    drawn = None
    if reading.draw:
        drawn = user_cache("masks") / _fingerprint(root)
        draw_masks(reading, drawn / DRAWN)
    dataset = open_description(root, said, drawn)
    notes = "; ".join((*reading.notes, *filter(None, (dataset.note,))))
    return DataSet(**{**vars(dataset), "note": f"read as {reading.kind}: {notes}"})


def recognized(root: Path) -> Reading:
    """How a folder without a description is read.

    Raises:
        CrissCrossError: no images and masks in it, or in more than one way.
    """
    if reading := recognize(root):
        return reading
    raise CrissCrossError(
        f"{root}: no images with masks found; put images into images/, masks with the same names into masks/, and "
        f"write `names: [background, first, ...]` into {DESCRIPTION} (docs/data.md lists the layouts)"
    )


def draw_masks(reading: Reading, folder: Path) -> None:
    """Draw the masks of a reading below a folder; those that are there already are kept.

    Raises:
        CrissCrossError: an annotation that cannot be drawn, or a file that cannot be written.
    """
    todo = [(folder / name, make) for name, make in reading.draw.items() if not (folder / name).is_file()]
    with Progress("drawing masks", len(todo)) as progress:
        for _ in each(lambda item: write_mask(item[0], item[1]()), todo, lambda done, _: progress.update(done)):
            pass


def _fingerprint(root: Path) -> str:
    """A name for the annotations of a folder as they are now."""
    found = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=12)
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in SOURCES and path.is_file()):
        facts = path.stat()
        found.update(f"{path.relative_to(root)} {facts.st_size} {facts.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def describe(root: Path, dry_run: bool = False, force: bool = False) -> tuple[str, list[str]]:
    """Write `dataset.yaml`, the masks that have to be drawn, and lists of splits where the folder has none.

    Args:
        root: folder of images and masks.
        dry_run: write nothing.
        force: replace a description that is there.

    Returns:
        The text of the description, and lines about what was recognized and written.

    Raises:
        CrissCrossError: as `recognized`; a description that is there already, or a file that cannot be written.
    """
    root = existing_folder(root)
    if is_folder(root) and not force:
        raise CrissCrossError(f"{root / DESCRIPTION} is there already; --force replaces it")
    reading = recognized(root)
    description: dict[str, Any] = dict(reading.description)
    lines = [f"read as {reading.kind}", *reading.notes]
    targets = [root / DESCRIPTION]
    if reading.draw and not dry_run:
        draw_masks(reading, root / DRAWN)
        lines.append(f"drew {len(reading.draw)} masks into {root / DRAWN}")
    if not reading.draw or not dry_run:
        dataset = open_description(root, parse_description(description, root))
        if HELD_OUT_NOTE in dataset.note and isinstance(description["images"], str):
            for split in ("train", "val"):
                list_file = root / f"{split}.txt"
                targets.append(list_file)
                if not dry_run:
                    write_text(list_file, "".join(f"{pair.name}\n" for pair in dataset.splits[split]))
            lines.append(dataset.note + ": train.txt and val.txt keep this split")
        elif dataset.note:
            lines.append(dataset.note)
    text = "# What the images and masks of this folder are; docs/data.md lists all keys.\n"
    text += yaml.safe_dump(description, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)
    if not dry_run:
        claim([root / DESCRIPTION], force=force)
        write_text(root / DESCRIPTION, text)
        lines.append(f"wrote {root / DESCRIPTION}")
    return text, lines


FOLDER = BuiltIn(open_folder, is_folder)
