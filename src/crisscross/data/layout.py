"""What the openers share: folders that must be there, lists of names, pictures of a folder."""

import os
import stat
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from crisscross.data.reading import is_picture_file
from crisscross.errors import CrissCrossError, CrissCrossWarning

# Symbolic links that lead to one folder by more paths than this are a maze, not a data set.
PATHS = 64


def needed_folder(path: Path, fix: str) -> Path:
    """The path itself.

    Raises:
        CrissCrossError: it is no folder; `fix` says where it comes from.
    """
    if not path.is_dir():
        raise CrissCrossError(f"{path}: no such folder; {fix}")
    return path


def needed_file(path: Path, fix: str) -> Path:
    """The path itself.

    Raises:
        CrissCrossError: it is no file; `fix` says where it comes from.
    """
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such file; {fix}")
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without blanks around them; empty lines stay, so that numbers of lines are right.

    Raises:
        CrissCrossError: unreadable, or not UTF-8.
    """
    try:
        # Windows editors put a mark before the first character, which is no part of a name.
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise CrissCrossError(f"{path}: not UTF-8 text; save this split list as UTF-8") from error
    except OSError as error:
        raise CrissCrossError(f"{path}: cannot be read: {error.strerror}") from error


def read_names(path: Path, fix: str) -> tuple[str, ...]:
    """The names of a list with one name a line; more words on a line are left out.

    Raises:
        CrissCrossError: missing (`fix` says where it comes from), unreadable, or not UTF-8.
    """
    return tuple(line.split()[0] for line in read_lines(needed_file(path, fix)) if line)


def pictures_in(folder: Path, suffix: str = "", deep: bool = False) -> list[Path]:
    """Image files of a folder (with `deep` those of the folders below) whose name ends with `suffix`, in order.

    Symbolic links to files and folders are followed, a link back to a folder above it is not; hidden files and folders
    are left out. What has an image's name and is a pipe or a device is left out with a `CrissCrossWarning`, and so is
    a folder below that cannot be read. A link to nothing stays: who reads it says that it is missing.

    Raises:
        CrissCrossError: the folder itself cannot be read, or links lead to one folder by too many paths.
    """
    try:
        entries = os.listdir(folder)
    except OSError as error:
        raise CrissCrossError(f"{folder}: cannot be read: {error.strerror}") from error
    found, odd = [], []
    for path, mode in _walk(folder, entries, deep):
        if is_picture_file(path) and path.name.endswith(suffix):
            (found if stat.S_ISREG(mode) or not mode else odd).append(path)
    if odd:
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        warnings.warn(f"{min(odd)}: a pipe or a device, not a file: left out{more}", CrissCrossWarning, 2)
    return sorted(found)


def _walk(top: Path, entries: list[str], deep: bool) -> Iterator[tuple[Path, int]]:
    """What lies in and below a folder, but for folders, with the mode that links lead to; 0 where they lead nowhere."""
    paths: Counter[tuple[int, int]] = Counter()
    waiting = [(top, entries, frozenset({_identity(top.stat())}))]
    while waiting:
        folder, entries, above = waiting.pop()
        for path in (folder / name for name in entries if not name.startswith(".")):
            try:
                found = path.stat()
            except OSError:
                yield path, 0
                continue
            if not stat.S_ISDIR(found.st_mode):
                yield path, found.st_mode
            elif deep and (identity := _identity(found)) not in above:
                paths[identity] += 1
                if paths[identity] > PATHS:
                    raise CrissCrossError(f"{path}: symbolic links lead to this folder by more than {PATHS} paths")
                try:
                    waiting.append((path, os.listdir(path), above | {identity}))
                except OSError as error:
                    warnings.warn(f"{path}: cannot be read: {error.strerror}; left out", CrissCrossWarning, 3)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def name_key(name: str) -> str:
    """One text for names that look the same: a Mac writes an accent as a character of its own (NFD), a keyboard not."""
    return unicodedata.normalize("NFC", name)


def absent(root: Path, folders: Mapping[str, Iterable[str]]) -> str:
    """Which splits are left out because a folder of theirs is missing, for the note of a data set; empty if none."""
    lacking = {
        split: [name for name in names if not (root / name).is_dir()] for split, names in sorted(folders.items())
    }
    return "; ".join(f"no {split}: {', '.join(names)} not there" for split, names in lacking.items() if names)
