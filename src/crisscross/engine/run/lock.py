"""One training at a time in a run folder."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crisscross.engine.processes import is_first_process
from crisscross.errors import CrissCrossError

LOCK = "running.lock"


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run folder, which is made if need be. The lock ends with its process, however that ends.

    Of several processes that train together only the first holds it. On a file system without locks nothing is
    held.

    Raises:
        CrissCrossError: another training holds the folder, or it cannot be made.
    """
    if not is_first_process():
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise CrissCrossError(f"{folder}: another training runs in this folder; choose another --out") from None
    except NotImplementedError:
        pass
    except OSError as error:
        raise CrissCrossError(f"{folder}: cannot be written: {error.strerror or error}") from None
    try:
        yield
    finally:
        # An empty folder of a run that never began goes too.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()
        lock.release()
