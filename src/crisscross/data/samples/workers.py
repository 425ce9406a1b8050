"""Processes that read samples: an error in one is one line, its death is noticed, Ctrl-C is left to the first."""

import contextlib
import errno
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from crisscross.errors import CrissCrossError

# Open files that a training needs beside its workers, and for each of them: pipes, and the tensors on their way.
FILES, FILES_EACH = 16, 16


class Guarded(Dataset):
    """Samples of which those that raise a `CrissCrossError` are that error: a worker would bury it in a traceback."""

    def __init__(self, samples: Dataset) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        try:
            return self.samples[index]
        except CrissCrossError as error:
            return error


def guarded_items(samples: Dataset, workers: int, pin: bool = False) -> Iterator[Any]:
    """The items of samples that have a length, in order, read by `workers` processes.

    `pin`: in page-locked memory, from where copies to a GPU run beside other work.

    Raises:
        CrissCrossError: whatever a sample raises, when its turn comes, or a process that reads died.
    """
    loader = DataLoader(
        Guarded(samples), batch_size=None, num_workers=workers, worker_init_fn=start_worker, pin_memory=pin
    )
    yield from loaded(loader)


def loaded(loader: DataLoader) -> Iterator[Any]:
    """The items of a loader of `Guarded` samples.

    Raises:
        CrissCrossError: an item is one, or a process that reads died.
    """
    items: Any = _started(loader)
    item: Any = None
    try:
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if (explained := _explained(error, items)) is error:
                    raise
                raise explained from None
            if isinstance(item, CrissCrossError):
                raise item
            yield item
    finally:
        # The traceback of an error holds this frame: without this, the processes would live as long as the error does.
        items = item = None


def _started(loader: DataLoader) -> Iterator:
    """The loader's iterator, which reports a dead worker when an item is requested and at no other time.

    torch's own signal handler would raise in the middle of whatever runs, such as half an optimizer step.
    """
    if loader.num_workers:
        allow_open_files(loader.num_workers)
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    former = signal.getsignal(signal.SIGCHLD)
    items = iter(loader)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL if former is None else former)
    return items


def _explained(error: Exception, items: Iterator) -> Exception:
    """The error of worker processes that died; any other error as it is."""
    if getattr(error, "errno", None) == errno.EMFILE or "Too many open files" in str(error):
        return CrissCrossError("too many open files: raise the limit (ulimit -n 4096), or lower --workers")
    if not isinstance(error, ConnectionError | EOFError) and "DataLoader worker" not in str(error):
        return error
    workers = getattr(items, "_workers", ())
    # A broken pipe is seen before the process behind it has ended and has an exit code.
    ended = multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout=1)
    for worker in workers:
        if worker.sentinel in ended:
            worker.join(1)
    codes = [worker.exitcode for worker in workers if worker.exitcode]
    how = f"was killed by {signal.Signals(-codes[0]).name}" if codes and codes[0] < 0 else "ended unexpectedly"
    memory = "; perhaps memory is short, of the machine or of /dev/shm: lower --workers"
    return CrissCrossError(f"a process that reads images {how}{memory}")


def start_worker(worker: int) -> None:
    """What each process does first."""
    # Ctrl-C reaches every process of the terminal, and Slurm sends SIGTERM to every process of a step; only the main
    # one decides what to do about them. A second SIGTERM ends this process: so torch ends one that hangs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
    torch.set_num_threads(1)


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
