"""Writing files: atomically, inside the folder they are meant for, and without replacing files of others."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from crisscross.errors import CrissCrossError

# The files that this process has passed to `claim`; there may be millions.
_claimed: set[str] = set()
# Names of temporary files contain the machine and the process.
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{8})-([0-9]+)\.crisscross\.tmp", re.DOTALL)
# Names with more bytes are hashed in the names of temporary files, which most systems limit to 255.
_LONG = 180


def user_cache(name: str) -> Path:
    """Our folder `name` in the user's cache folder, `XDG_CACHE_HOME` or `~/.cache`. It may not exist yet.

    Raises:
        CrissCrossError: the user has no home folder.
    """
    return with_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "crisscross-seg" / name


def with_home(path: str) -> Path:
    """A path with `~` replaced by the user's home folder.

    Raises:
        CrissCrossError: the user has none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise CrissCrossError(f"{path}: this user has no home folder; set HOME or XDG_CACHE_HOME") from None


def joined(folder: str | os.PathLike[str], name: str | os.PathLike[str]) -> Path:
    """`folder / name` for a name from elsewhere, which must lead to a file below `folder` on every system.

    Raises:
        CrissCrossError: the name is empty, absolute or with a drive, contains `..`, or characters that file names
            cannot have (NUL, surrogates).
    """
    text = os.fspath(name)
    parts = [part for part in re.split(r"[/\\]", text) if part not in ("", ".")]
    # Windows ignores dots and blanks at the end of a name.
    if re.match(r"[/\\]|[A-Za-z]:", text) or not parts or not all(part.strip(". ") for part in parts):
        raise CrissCrossError(f"{text!r} does not name a file below {folder}; correct the list or file that names it")
    try:
        valid = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise CrissCrossError(f"{text!r} cannot be the name of a file; correct the list or file that names it")
    return Path(folder, text)


def output_path(folder: str | os.PathLike[str], name: str | os.PathLike[str]) -> Path:
    """`joined` for a file to write: symbolic links below `folder` may not lead out of it; `folder` itself may be one.

    Names that are too long or reserved are left to the system to refuse.

    Raises:
        CrissCrossError: as `joined`, or a folder on the way is a link that leads out of `folder`.
    """
    return output_paths(folder, [name])[0]


def output_paths(folder: str | os.PathLike[str], names: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """`output_path` of each name; a folder that holds several of them is looked at once."""
    paths = [joined(folder, name) for name in names]
    for parent, path in {path.parent: path for path in reversed(paths)}.items():
        try:
            inside = _resolved(parent).is_relative_to(_resolved(Path(folder)))
        except (OSError, RuntimeError) as error:
            raise CrissCrossError(f"{path}: cannot be written: {error}") from None
        if not inside:
            raise CrissCrossError(
                f"{path}: a symbolic link leads out of {folder}; write to the folder it leads to instead"
            )
    return paths


def _resolved(path: Path) -> Path:
    """`path.resolve()`, which returns a path through a link to itself from Python 3.13 on; that is an error here."""
    resolved = path.resolve()
    if any(map(os.path.islink, (resolved, *resolved.parents))):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return resolved


def claim(paths: Iterable[Path], inputs: Iterable[Path] = (), force: bool = False) -> None:
    """Declare the files that this process is going to write, before it starts working.

    An existing file may be replaced only if crisscross wrote it after such a declaration and it has not changed since
    (sizes and modification times are recorded in the user's cache folder), and if it is not an input; with `force`,
    any file may. Temporary files that killed processes left in the same folders are removed.

    Raises:
        CrissCrossError: a file may not be replaced, or a folder, pipe or device is in the way.
    """
    targets = [Path(path) for path in paths]
    for target in targets:
        _check_ordinary(target)
    noted: dict[Path, dict[str, list[Any]]] = {}
    read: set[tuple[int, int]] | None = None
    for target in targets if not force else []:
        if not os.path.lexists(target):
            continue
        if read is None:
            read = {_identity(path) for path in inputs if path.exists()}
        if target.exists() and _identity(target) in read:
            raise CrissCrossError(f"{target}: is an input; write to another place, or use --force to replace it")
        if target.parent not in noted:
            noted[target.parent] = _noted(target.parent)
        if _state(target) not in noted[target.parent].get(target.name, []):
            raise CrissCrossError(
                f"{target}: exists, and there is no record that crisscross wrote it as it is now; write to another "
                "place, or use --force to replace it"
            )
    places = {folder: folder.resolve() for folder in {target.parent for target in targets}}
    for folder in places:
        remove_leftovers(folder)
    _claimed.update(os.path.join(places[target.parent], target.name) for target in targets)


def unrecorded(paths: Iterable[Path]) -> Iterator[Path]:
    """Existing files of which there is no record that crisscross wrote them as they are now."""
    noted: dict[Path, dict[str, list[Any]]] = {}
    for path in paths:
        if path.parent not in noted:
            noted[path.parent] = _noted(path.parent)
        if os.path.lexists(path) and _state(path) not in noted[path.parent].get(path.name, []):
            yield path


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the same folder, then move it into place.

    Raises:
        CrissCrossError: the folder cannot be written, the disk is full, or a folder, pipe or device is in the way;
            an existing file at `path` stays as it was.
    """
    path = Path(path)
    _check_ordinary(path)
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Some writers make their files private; ours get the permissions of any new file of the user.
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        # As `claim` has it: links in its folder are resolved, but not the file itself.
        if os.path.join(path.parent.resolve(), path.name) in _claimed:
            _note(path, temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise CrissCrossError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically; surrogates, which some file names contain, become question marks."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))


def _check_ordinary(path: Path) -> None:
    """Refuse to replace a folder, pipe or device such as /dev/null."""
    # These two return False for a name that is too long.
    if os.path.exists(path) and not os.path.isfile(path):
        raise CrissCrossError(f"{path}: cannot be written: it is a folder, pipe or device; name an ordinary file")


def temporary_path(path: Path, process: int | None = None) -> Path:
    """The hidden file beside `path` that a process (by default this one) fills before it is renamed to `path`."""
    name = os.fsencode(path.name)
    short = path.name if len(name) <= _LONG else hashlib.blake2b(name, digest_size=16).hexdigest()
    return path.with_name(f".{short}.{_machine()}-{process or os.getpid()}.crisscross.tmp")


def remove_leftovers(folder: Path, alone: bool = False) -> None:
    """Remove temporary files of processes that no longer run.

    Those of other machines are removed only if nobody else writes to the folder (`alone`).
    """
    for path in folder.glob(".*.crisscross.tmp"):
        found = _TEMPORARY.fullmatch(path.name)
        if found and (alone if found[1] != _machine() else not _others_work(int(found[2]))):
            with contextlib.suppress(OSError):
                path.unlink()


def _machine() -> str:
    return hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()


def _others_work(pid: int) -> bool:
    """Whether another process with this number is running."""
    if os.name != "posix" or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    with contextlib.suppress(OSError, IndexError):
        # A zombie stays in the table until its parent collects it, in a container without an init forever.
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] != "Z"
        )
    return True


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def _state(path: Path) -> list[int]:
    state = path.lstat()
    return [state.st_size, state.st_mtime_ns]


def _notes(folder: Path) -> Path:
    """The record of files that crisscross wrote into a folder, one per line."""
    name = hashlib.blake2b(os.fsencode(folder.resolve()), digest_size=16).hexdigest()
    return user_cache("written") / f"{name}.jsonl"


def _note(path: Path, temporary: Path) -> None:
    # Without a cache folder, the user needs --force the next time.
    with contextlib.suppress(OSError, CrissCrossError):
        notes = _notes(path.parent)
        notes.parent.mkdir(parents=True, exist_ok=True)
        with notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps([path.name, *_state(temporary)]) + "\n")


def _noted(folder: Path) -> dict[str, list[Any]]:
    """Name -> sizes and modification times that are recorded for a folder.

    The last two of each name count: a process that is killed after recording leaves the file of the record before.
    """
    found: dict[str, list[Any]] = {}
    with contextlib.suppress(OSError, ValueError, CrissCrossError):
        lines = _notes(folder).read_text(encoding="utf-8").splitlines()
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                name, *state = json.loads(line)
                found[name] = [*found.get(name, []), state][-2:]
        if len(lines) > 4 * len(found) + 100:
            kept = [json.dumps([name, *state]) + "\n" for name, states in found.items() for state in states]
            write_text(_notes(folder), "".join(kept))
    return found


def is_offline() -> bool:
    """Whether the environment forbids downloads: `CRISSCROSS_OFFLINE` or `HF_HUB_OFFLINE` set to something like 1."""
    words = (os.environ.get(name, "") for name in ("CRISSCROSS_OFFLINE", "HF_HUB_OFFLINE"))
    return any(word.lower() in ("1", "true", "yes", "on") for word in words)
