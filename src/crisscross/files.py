"""Writing files so that nobody ever meets half of one."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from crisscross.errors import CrissCrossError


def user_cache(name: str) -> Path:
    """A folder of ours in the user's cache folder: `XDG_CACHE_HOME`, else `~/.cache`. It need not be there yet.

    Raises:
        CrissCrossError: there is no home folder.
    """
    return with_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "crisscross-seg" / name


def with_home(path: str) -> Path:
    """A path in which `~` is the user's home folder.

    Raises:
        CrissCrossError: there is none.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise CrissCrossError(f"{path}: this user has no home folder; set HOME or XDG_CACHE_HOME") from error


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in the same folder, then move it into place.

    Raises:
        CrissCrossError: the folder cannot be written, or the disk is full; an older file at `path` is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Some writers keep their files from other people; ours are as open as any file that the user makes.
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CrissCrossError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed process left behind, but not those of another one at work there."""
    for path in folder.glob(".*.tmp"):
        if not _others_work(path.name.split(".")[-2]):
            with contextlib.suppress(OSError):
                path.unlink()


def _others_work(pid: str) -> bool:
    """Whether another process of this number lives."""
    if os.name != "posix" or not pid.isdecimal() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
