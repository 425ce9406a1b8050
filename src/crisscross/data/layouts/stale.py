"""Whether annotations changed since masks were drawn from them into the data set's folder."""

import hashlib
import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crisscross.config.documents import JSON_BYTES, read_json
from crisscross.data.cures import DESCRIPTION
from crisscross.data.layouts.reading import DRAWN
from crisscross.data.layouts.sources import image_files, text_files
from crisscross.errors import CrissCrossError
from crisscross.files import write_text

# Beside the drawn masks: size, time of modification and checksum of every file that they may have been drawn from.
RECORD = "annotations.json"
TYPES = (".json", ".jsonl", ".txt", ".csv", ".xml", ".yaml", ".yml")
# At the root these say how the data set is used, not what its masks are.
NOT_DRAWN = (DESCRIPTION, "train.txt", "val.txt", "test.txt")
# Binary masks of one class each are drawn together.
FROM_IMAGES = "a mask for each class", "imagefolder"


def record(root: Path, kind: str, images: set[Path]) -> None:
    """Write down what the masks below a folder were drawn from.

    Args:
        root: the data set's folder.
        kind: of its reading.
        images: those of its pairs, which no mask is drawn from.

    Raises:
        CrissCrossError: a file cannot be read or written.
    """
    files = {path: _facts(path) for path in _sources(root)}
    if kind in FROM_IMAGES:
        files |= {path: _facts(path) for path in image_files(root) if path not in images}
    named = {path.relative_to(root).as_posix(): facts for path, facts in files.items()}
    write_text(root / DRAWN / RECORD, json.dumps(named, indent=0) + "\n")


def stale(root: Path) -> str:
    """That annotations changed since, with the command that draws again; empty where they did not."""
    path = root / DRAWN / RECORD
    if not path.is_file():
        return ""
    try:
        known = read_json(path, JSON_BYTES)
        changed = [name for name, facts in known.items() if _changed(root / name, facts)]
    except (CrissCrossError, AttributeError, TypeError, ValueError, LookupError):
        return ""
    # Other texts appear in a folder; of an annotation there are others like it.
    kinds = {(os.path.dirname(name), os.path.splitext(name)[1]) for name in known}
    for source in _sources(root):
        name = source.relative_to(root).as_posix()
        alike = (os.path.dirname(name), os.path.splitext(name)[1]) in kinds
        if name not in known and alike and not (os.path.dirname(name) == "" and source.suffix in (".txt", ".yaml")):
            changed.append(name)
    if not changed:
        return ""
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return (
        f"{changed[0]}{more} changed since the masks in {DRAWN}/ were drawn: `crisscross data init "
        f"{shlex.quote(str(root))} --force` draws them again (and writes {DESCRIPTION} anew)"
    )


def _sources(root: Path) -> Iterator[Path]:
    return (path for path in text_files(root, *TYPES) if path.parent != root or path.name not in NOT_DRAWN)


def _facts(path: Path) -> list[Any]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, _checksum(path)]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _changed(path: Path, facts: list[Any]) -> bool:
    """Whether a file is another one: its content counts where size and time do not settle it, as in a copy."""
    try:
        state = path.stat()
        return state.st_size != facts[0] or (state.st_mtime_ns != facts[1] and _checksum(path) != facts[2])
    except OSError:
        return True
