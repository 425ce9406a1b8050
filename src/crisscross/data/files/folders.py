"""What the openers share: folders that must be there, lists of names, images of a folder."""

import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from crisscross.config.documents import JSON_BYTES, read_text
from crisscross.data.dataset import Pair
from crisscross.data.files.reading import is_image_file
from crisscross.errors import CrissCrossError, CrissCrossWarning

# Symbolic links that lead to one folder by more paths than this are a maze, not a data set.
PATHS = 64


def needed_folder(path: Path, fix: str) -> Path:
    """The path itself.

    Raises:
        CrissCrossError: it is no folder; `fix` says where it comes from.
    """
    if not os.path.isdir(path):
        raise CrissCrossError(f"{path}: no such folder; {fix}")
    return path


def needed_file(path: Path, fix: str) -> Path:
    """The path itself.

    Raises:
        CrissCrossError: it is no file; `fix` says where it comes from.
    """
    if not os.path.isfile(path):
        raise CrissCrossError(f"{path}: no such file; {fix}")
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without blanks around them; empty lines stay, so that numbers of lines are right.

    Raises:
        CrissCrossError: unreadable, more than 64 MiB, or not UTF-8.
    """
    return [line.strip() for line in read_text(path, JSON_BYTES).splitlines()]


def read_names(path: Path, fix: str) -> tuple[str, ...]:
    """The names of a list with one name a line; more words on a line are left out.

    Raises:
        CrissCrossError: missing (`fix` says where it comes from), unreadable, or not UTF-8.
    """
    return tuple(line.split()[0] for line in read_lines(needed_file(path, fix)) if line)


def images_in(folder: Path, suffix: str = "", deep: bool = False) -> list[Path]:
    """Image files of a folder (with `deep` those of the folders below) whose name ends with `suffix`, in order.

    Symbolic links to files and folders are followed, a link back to a folder above it is not; hidden files and folders
    are left out. Left out with a `CrissCrossWarning` are folders that cannot be read, and pipes and devices with the
    name of an image. A link to nothing stays: who reads it says that it is missing.

    Raises:
        CrissCrossError: symbolic links lead to one folder by more than 64 paths.
    """
    found: list[Path] = []
    odd: list[Path] = []
    for path, kind in _walk(folder, deep):
        if is_image_file(path) and path.name.endswith(suffix):
            (odd if kind == "device" else found).append(path)
    if odd:
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        warnings.warn(f"{min(odd)}: a pipe or a device, not a file: left out{more}", CrissCrossWarning, 2)
    return sorted(found)


def _walk(top: Path, deep: bool) -> Iterator[tuple[Path, str]]:
    """What lies in (with `deep` below) a folder, but for folders, and its kind."""
    paths: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            identity = (found := folder.stat()).st_dev, found.st_ino
            with os.scandir(folder) as listing:
                entries = [(folder / entry.name, _kind(entry)) for entry in listing if not entry.name.startswith(".")]
        except OSError as error:
            warnings.warn(f"{folder}: left out, it cannot be read: {error.strerror}", CrissCrossWarning, 3)
            continue
        if identity in above:
            continue
        paths[identity] += 1
        if paths[identity] > PATHS:
            raise CrissCrossError(f"{folder}: symbolic links lead to this folder by more than {PATHS} paths")
        yield from (entry for entry in entries if entry[1] != "folder")
        waiting += [(path, above | {identity}) for path, kind in entries if deep and kind == "folder"]


def _kind(entry: "os.DirEntry[str]") -> str:
    """`folder`, `file`, `device` (or pipe, or socket), or `lost`: a link to nothing."""
    try:
        return (
            "folder" if entry.is_dir() else "file" if entry.is_file() else "device" if os.path.exists(entry) else "lost"
        )
    except OSError:
        return "lost"


def name_key(name: str) -> str:
    """One text for names that look the same: a Mac writes an accent as a character of its own (NFD), a keyboard not."""
    return unicodedata.normalize("NFC", name)


def either_form(path: Path) -> Path:
    """The path, or where nothing is there the same name as a Mac (NFD) or a keyboard (NFC) writes it, if that is."""
    if path.name.isascii() or os.path.exists(path):
        return path
    others = (path.with_name(unicodedata.normalize(form, path.name)) for form in ("NFC", "NFD"))
    return next((other for other in others if os.path.exists(other)), path)


def pairs_of(images: Iterable[Path], masks: Path) -> tuple[Pair, ...]:
    """Every image with the PNG of its name in the folder of masks."""
    return tuple(Pair(path.stem, path, either_form(masks / f"{path.stem}.png")) for path in images)


def absent(root: Path, folders: Mapping[str, Iterable[str]]) -> str:
    """Which splits are left out because a folder of theirs is missing, for the note of a data set; empty if none."""
    lacking = {
        split: [name for name in names if not (root / name).is_dir()] for split, names in sorted(folders.items())
    }
    return "; ".join(f"no {split}: {', '.join(names)} not there" for split, names in lacking.items() if names)
