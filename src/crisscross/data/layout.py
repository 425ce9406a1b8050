"""What the openers share: folders that must be there, lists of names, pictures of a folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from crisscross.data.reading import is_picture_file
from crisscross.errors import CrissCrossError


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
    """Picture files of a folder (with `deep` those of the folders below) whose name ends with `suffix`, in order."""
    entries: Iterable[Path] = folder.rglob("*") if deep else folder.iterdir()
    return sorted(path for path in entries if is_picture_file(path) and path.name.endswith(suffix))


def absent(root: Path, folders: Mapping[str, Iterable[str]]) -> str:
    """Which splits are left out because a folder of theirs is missing, for the note of a data set; empty if none."""
    lacking = {
        split: [name for name in names if not (root / name).is_dir()] for split, names in sorted(folders.items())
    }
    return "; ".join(f"no {split}: {', '.join(names)} not there" for split, names in lacking.items() if names)
