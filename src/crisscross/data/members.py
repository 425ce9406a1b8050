"""Files, and files inside tar files: `shards/train-00000.tar/00000012.jpg` is a member of that tar file."""

import io
import json
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from crisscross.errors import CrissCrossError

TAR = ".tar"
# Beside a tar file, where its members lie: one small read in the place of one for every head.
INDEX = ".index.json"


def open_member(path: Path) -> BinaryIO:
    """A readable, seekable file; of a member all bytes, read at once.

    Raises:
        OSError: there is no such file or member.
        CrissCrossError: the tar file is damaged.
    """
    place = _place(path)
    if place is None:
        return path.open("rb")
    shard, offset, size = place
    with shard.open("rb") as file:
        file.seek(offset)
        content = file.read(size)
    if len(content) < size:
        raise CrissCrossError(f"{shard}: cut off: {path.name} ends after {len(content)} of {size} bytes")
    return io.BytesIO(content)


def size_of(path: Path) -> int:
    """Bytes of a file or member.

    Raises:
        OSError: there is no such file or member.
    """
    place = _place(path)
    return path.stat().st_size if place is None else place[2]


def modified_at(path: Path) -> int:
    """When a file, or the tar file around a member, was last changed, in nanoseconds.

    Raises:
        OSError: there is no such file.
    """
    place = _place(path)
    return (path if place is None else place[0]).stat().st_mtime_ns


def is_there(path: Path) -> bool:
    """Whether there is such a file or member."""
    try:
        return path.is_file() if path.parent.suffix != TAR else _place(path) is not None
    except OSError:
        return False


def _place(path: Path) -> tuple[Path, int, int] | None:
    """Tar file, first byte and length of a member; None for an ordinary file."""
    shard = path.parent
    if shard.suffix != TAR or not shard.is_file():
        return None
    members = _members(shard, shard.stat().st_mtime_ns)
    if path.name not in members:
        raise FileNotFoundError(2, "no such member", str(path))
    return (shard, *members[path.name])


@lru_cache(maxsize=4096)
def _members(shard: Path, modified: int) -> dict[str, tuple[int, int]]:
    """First byte and length of each member, from the index or else from the heads; once in each process."""
    try:
        index = json.loads(Path(f"{shard}{INDEX}").read_text(encoding="utf-8"))
        if index["bytes"] == shard.stat().st_size:
            return {name: (offset, size) for name, (offset, size) in index["members"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return scan(shard)


def scan(shard: Path) -> dict[str, tuple[int, int]]:
    """First byte and length of each member of a tar file, from the heads.

    Raises:
        CrissCrossError: it is no readable tar file.
    """
    try:
        with tarfile.open(shard, "r:") as file:
            return {entry.name: (entry.offset_data, entry.size) for entry in file if entry.isfile()}
    except tarfile.TarError as error:
        raise CrissCrossError(f"{shard}: not a readable tar file: {error}") from error
