"""Open files, of which processes that read need some each."""

import contextlib
import os

from crisscross.errors import CrissCrossError

# Open files that a training needs beside its workers, and for each of them: pipes, and the tensors on their way.
FILES, FILES_EACH = 16, 16


def allow_open_files(workers: int) -> None:
    """Raise this process's limit of open files to what `workers` processes that read need, where the system lets it.

    Each tensor that they hand over is an open file; where one more cannot be opened, torch waits for ever.

    Raises:
        CrissCrossError: the limit cannot be raised that far.
    """
    try:
        import resource
    except ImportError:
        return
    needed = _open_files() + FILES + FILES_EACH * workers
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return
    if most != resource.RLIM_INFINITY and most < needed:
        raise CrissCrossError(
            f"this process may open {most} files at a time, with --workers {workers} it needs {needed}: raise the "
            f"limit (ulimit -n {needed}), or use --workers 0"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


def _open_files() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder))
    return FILES
