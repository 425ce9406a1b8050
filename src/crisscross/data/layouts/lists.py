"""Lists of images: text files that name what belongs to a split, in every form that people write them."""

import re
from collections import defaultdict
from collections.abc import Iterable
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
        parts = [part for part in re.split(r"[/\\]", name_key(text)) if part not in ("", ".")]
        for start in range(len(parts)):
            name = "/".join(parts[start:])
            stem = name.rsplit(".", 1)[0] if is_image_file(Path(name)) else name
            if found := self.by_name.get(name) or self.by_name.get(stem):
                return found
        return []


def listed_pairs(path: Path, pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """The pairs that a list names, in its order: one image a line, by name or path, with its mask perhaps.

    Comments (`# ...`), empty lines, a byte order mark and both kinds of line ends are accepted.

    Raises:
        CrissCrossError: an unreadable list, a name of no image or of several.
    """
    index, chosen = Index(pairs), []
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        # An image and its mask stand in one line, apart by a blank, a tab, a comma or a bar; names may hold blanks.
        words = [line, re.split(r"[\t,|]| +", line)[0].strip("\"' ")]
        found = next((pairs for word in words if (pairs := index.find(word))), [])
        if not found:
            raise CrissCrossError(f"{path}, line {number}: no image named {line!r:.200}")
        if len(found) > 1:
            raise CrissCrossError(
                f"{path}, line {number}: {line!r:.200} can be {found[0].image} or {found[1].image}; write its folder"
            )
        chosen.append(found[0])
    return tuple(chosen)
