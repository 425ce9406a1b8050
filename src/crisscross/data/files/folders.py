"""Folders and files that must be there, lists of names, and the images of a folder."""

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

# Links that lead to one folder by more paths than this can make a walk endless.
MOST_PATHS = 64


def needed_folder(path: Path, fix: str) -> Path:
    """The path itself.

    Raises:
        CrissCrossError: it is not a folder; `fix` says where to get it.
    """
    if not os.path.isdir(path):
        raise CrissCrossError(f"{path}: no such folder; {fix}")
    return path


def needed_file(path: Path, fix: str) -> Path:
    """The path itself.

    Raises:
        CrissCrossError: it is not a file; `fix` says where to get it.
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
        CrissCrossError: missing (`fix` says where to get it), unreadable, or not UTF-8.
    """
    return tuple(line.split()[0] for line in read_lines(needed_file(path, fix)) if line)


def images_in(folder: Path, suffix: str = "", deep: bool = False) -> list[Path]:
    """Image files of a folder (with `deep` those of the folders below) whose name ends with `suffix`, in order.

    Symbolic links to files and folders are followed, a link back to a folder above it is not; hidden files and folders
    are left out. Left out with a `CrissCrossWarning` are folders that cannot be read, and pipes and devices with the
    name of an image. A link to nothing stays: reading it reports that it is missing.

    Raises:
        CrissCrossError: symbolic links lead to one folder by more than 64 paths.
    """
    found: list[Path] = []
    devices: list[Path] = []
    for path, is_file in _walk(folder, deep):
        if is_image_file(path) and path.name.endswith(suffix):
            (found if is_file or not os.path.exists(path) else devices).append(path)
    if devices:
        more = f" (and {len(devices) - 1} more)" if len(devices) > 1 else ""
        warnings.warn(f"{min(devices)}: a pipe or a device, not a file: left out{more}", CrissCrossWarning, 2)
    return sorted(found)


def files_in(folder: Path, *suffixes: str) -> list[Path]:
    """Files of a folder and of those below it, in order; with `suffixes` (`.json`) only those of these types.

    Links, hidden files and folders, and folders that cannot be read, are treated as by `images_in`.
    """
    return sorted(path for path, is_file in _walk(folder, True, suffixes) if is_file)


def _walk(top: Path, deep: bool, suffixes: tuple[str, ...] = ()) -> Iterator[tuple[Path, bool]]:
    """The entries of a folder (with `deep` also of those below) that are not folders, and whether they are files.

    With `suffixes` only those whose names end so; comparing names is much faster than making paths of all.
    """
    paths: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            identity = (state := folder.stat()).st_dev, state.st_ino
            with os.scandir(folder) as listing:
                shown = [(entry.name, *_kind(entry)) for entry in listing if entry.name[0] != "."]
        except OSError as error:
            warnings.warn(f"{folder}: left out, it cannot be read: {error.strerror}", CrissCrossWarning, 3)
            continue
        if identity in above:
            continue
        entries = [
            (folder / name, is_folder, is_file)
            for name, is_folder, is_file in shown
            if is_folder or not suffixes or name.lower().endswith(suffixes)
        ]
        paths[identity] += 1
        if paths[identity] > MOST_PATHS:
            raise CrissCrossError(f"{folder}: symbolic links lead to this folder by more than {MOST_PATHS} paths")
        yield from ((path, is_file) for path, is_folder, is_file in entries if not is_folder)
        waiting += [(path, above | {identity}) for path, is_folder, _ in entries if deep and is_folder]


def _kind(entry: "os.DirEntry[str]") -> tuple[bool, bool]:
    """Whether an entry is a folder, and whether it is a file; neither where links form a circle."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:
        return False, False


def name_key(name: str) -> str:
    """The same text for names that look alike: a Mac stores an accent as a character of its own (NFD)."""
    return unicodedata.normalize("NFC", name)


def either_form(path: Path) -> Path:
    """The path, or the same name in another Unicode form (NFC, or NFD as a Mac stores it) where only that exists."""
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
