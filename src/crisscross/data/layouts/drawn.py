"""Masks drawn from annotations: written into the data set's folder, or kept in the user's cache folder."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from crisscross.config.documents import JSON_BYTES, read_json
from crisscross.data.color import write_mask
from crisscross.data.files.folders import files_in
from crisscross.data.files.threads import each
from crisscross.data.layouts.reading import DAMAGE, DRAWN, Reading
from crisscross.errors import CrissCrossError
from crisscross.files import claim, joined, user_cache, write_text
from crisscross.progress import Progress

# Raised when the same annotations are drawn otherwise than before.
VERSION = 1
READING = "reading.json"


def cached(root: Path, recognize: Callable[[Path], Reading]) -> tuple[Reading, Path | None]:
    """The reading of a folder, and the folder below which masks that had to be drawn lie, in the user's cache.

    A folder whose files have not changed since is not looked at again.

    Raises:
        CrissCrossError: as `recognize`; an annotation that cannot be drawn, or a file that cannot be written.
    """
    place = user_cache("masks") / fingerprint(root)
    if reading := _kept(place / READING):
        return reading, place
    reading = recognize(root)
    if not reading.draw:
        return reading, None
    draw_masks(reading, place / DRAWN)
    kept = {"kind": reading.kind, "description": reading.description, "notes": reading.notes}
    # Last: where this file is, all masks are.
    write_text(place / READING, json.dumps(kept))
    return reading, place


def _kept(path: Path) -> Reading | None:
    try:
        kept = read_json(path, JSON_BYTES)
        if isinstance(kept["description"], Mapping):
            # JSON knows no numbers as keys.
            labels = kept["description"].get("labels")
            numbers = {"labels": {int(value): meant for value, meant in labels.items()}} if labels else {}
            return Reading(str(kept["kind"]), {**kept["description"], **numbers}, tuple(map(str, kept["notes"])))
    except (CrissCrossError, KeyError, TypeError, ValueError, AttributeError):
        pass
    return None


def fingerprint(root: Path) -> str:
    """A name for the files of a folder as they are now: their names, sizes and times of modification."""
    found = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=12, salt=VERSION.to_bytes(2))
    for path in files_in(root):
        facts = path.stat()
        found.update(os.fsencode(path.relative_to(root)) + f"\n{facts.st_size} {facts.st_mtime_ns}\n".encode())
    return found.hexdigest()


def draw_masks(reading: Reading, folder: Path, force: bool | None = None) -> None:
    """Draw the masks of a reading below a folder.

    Args:
        reading: what to draw.
        folder: where.
        force: replace files that are in the way, even those of others; None for a folder of ours.

    Raises:
        CrissCrossError: an annotation that cannot be drawn, or a file that cannot be written.
    """
    targets = {joined(folder, name): make for name, make in reading.draw.items()}
    if force is not None:
        claim(targets, force=force)
    with Progress("drawing masks", len(targets)) as progress:
        for _ in each(
            lambda target: write_mask(target, _drawn(target, targets[target])),
            list(targets),
            lambda done, _: progress.update(done),
        ):
            pass


def _drawn(target: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    try:
        return make()
    except DAMAGE as error:
        raise CrissCrossError(f"the annotation of {target.stem} cannot be drawn ({error!r:.100})") from None
