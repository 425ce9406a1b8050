"""The files of a folder that count: no masks that were drawn by us, no training runs, no litter of archives."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from crisscross.data.files.folders import files_in, images_in
from crisscross.data.layouts.reading import DRAWN
from crisscross.data.layouts.vocabulary import meaning

# `__MACOSX` is made by a Mac for its archives.
SKIPPED = (DRAWN, "__MACOSX")
RUN = "experiment.yaml"
MOST_TEXT = 64 * 2**20


def image_files(root: Path) -> list[Path]:
    """All images below a folder, in order."""
    return list(_counting(root, images_in(root, deep=True)))


def text_files(root: Path, *suffixes: str) -> list[Path]:
    """All files of some types (`.json`) below a folder, in order."""
    return list(_counting(root, files_in(root, *suffixes)))


def _counting(root: Path, files: Iterable[Path]) -> Iterator[Path]:
    skipped: dict[Path, bool] = {root: False}

    def is_skipped(folder: Path) -> bool:
        if folder not in skipped:
            own = folder.name in SKIPPED or (folder / RUN).is_file()
            skipped[folder] = own or is_skipped(folder.parent)
        return skipped[folder]

    return (file for file in files if not is_skipped(file.parent))


def holds(path: Path, *words: bytes, most: int = 2**16) -> bool:
    """Whether the first bytes of a file hold all words: a look that costs nothing, before a file is parsed."""
    try:
        with path.open("rb") as file:
            head = file.read(most)
    except OSError:
        return False
    return all(word in head for word in words)


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """The folder of each split where every name lies in a folder that is named as one; else one folder for all."""
    folders: dict[str, set[str]] = {}
    for name in names:
        parts = PurePosixPath(name).parts[:-1]
        folder = PurePosixPath(*parts).as_posix()
        folders.setdefault(split_of(folder), set()).add(folder)
    if "" in folders:
        return {"": ""}
    return {split: common(found) for split, found in folders.items()}


def common(folders: Iterable[str]) -> str:
    """The folder that all folders lie in; empty where that is the root."""
    parts = [PurePosixPath(folder).parts for folder in folders]
    first = parts[0] if parts else ()
    length = next((n for n in range(len(first), -1, -1) if all(other[:n] == first[:n] for other in parts)), 0)
    return "/".join(first[:length])


def split_of(folder: str) -> str:
    """The split that a folder's path names, empty where it names none."""
    return next((found for part in PurePosixPath(folder).parts if (found := meaning(part).split)), "")
