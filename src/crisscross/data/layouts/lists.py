"""Lists of images: text files that name what belongs to a split, in every form that people write them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from crisscross.data.dataset import Pair
from crisscross.data.files.folders import name_key, read_lines
from crisscross.data.files.reading import is_image_file
from crisscross.errors import CrissCrossError


class Index:
    """Pairs by every name that a list may give them: with or without folders and file type."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self.by_name: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            parts = PurePosixPath(name_key(pair.name)).parts
            for start in range(len(parts)):
                self.by_name["/".join(parts[start:])].append(pair)

    def find(self, text: str) -> list[Pair]:
        """The pairs that a name can mean, those that share the most folders with it."""
        for name in endings(text):
            stem = name.rsplit(".", 1)[0] if is_image_file(Path(name)) else name
            if found := self.by_name.get(name) or self.by_name.get(stem):
                return found
        return []


def listed_pairs(path: Path, pairs: Iterable[Pair], masks: Mapping[str, Path] | None = None) -> tuple[Pair, ...]:
    """The pairs that a list names, in its order: one image a line, by name or path, with its mask perhaps.

    Comments (`# ...`), empty lines, a byte order mark and both kinds of line ends are accepted. Paths may be those of
    another machine: what counts is the end that is found here.

    Args:
        path: the list.
        pairs: what it can name.
        masks: where a line names a mask of another name than its image's: the masks of the folder, by name.

    Raises:
        CrissCrossError: an unreadable list, a name of no image or of several, a mask that is not there.
    """
    index, chosen = Index(pairs), []
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        words = _words(line)
        found = next((pairs for word in (line, words[0]) if (pairs := index.find(word))), [])
        if not found:
            raise CrissCrossError(
                f"{path}, line {number}: no image named {line!r:.200}; a list names the images of a split, one a line"
            )
        if len(found) > 1:
            raise CrissCrossError(
                f"{path}, line {number}: {line!r:.200} can be {found[0].image} or {found[1].image}; write its folder"
            )
        pair = found[0]
        if len(words) > 1 and masks is not None and not pair.mask.is_file():
            mask = next((masks[name] for name in endings(words[1]) if name in masks), None)
            if mask is None:
                raise CrissCrossError(f"{path}, line {number}: no mask named {words[1]!r:.200}")
            pair = replace(pair, mask=mask)
        chosen.append(pair)
    return tuple(chosen)


def _words(line: str) -> list[str]:
    """An image and its mask stand in one line, apart by a blank, a tab, a comma or a bar; names may hold blanks."""
    return [word.strip("\"' ") for word in re.split(r"[\t,|;]| +", line) if word.strip("\"' ")]


def endings(text: str) -> Iterator[str]:
    """The path in a list without its first folders, the longest first: folders may be those of another machine."""
    parts = [part for part in re.split(r"[/\\]", name_key(text)) if part not in ("", ".")]
    return ("/".join(parts[start:]) for start in range(len(parts)))


def lists_pairs(path: Path) -> bool:
    """Whether the first line of a list names an image and a mask."""
    line = next((line for line in read_lines(path) if line and not line.startswith("#")), "")
    return len(words := _words(line)) == 2 and all(is_image_file(Path(word)) for word in words)
