"""Many small files from many small files: several processes, finished ones are skipped, stopping is safe."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from crisscross.data.color import Color, index_image
from crisscross.errors import CrissCrossError
from crisscross.files import remove_leftovers, write_atomically
from crisscross.progress import Progress

# So many jobs wait for each process: enough to keep it busy, few enough to hold in memory.
WAITING = 4


@dataclass(frozen=True)
class Job:
    """One file to be written: `make(target)` writes it, and returns a number of odd pixels, usually 0.

    `make` goes to another process, so it is a module's function or a partial of one.
    """

    target: Path
    make: Callable[[Path], int]


@dataclass(frozen=True)
class Plan:
    """All jobs, what to write after the last one, and lines to tell at the end."""

    jobs: Sequence[Job]
    finish: Callable[[], None] = lambda: None
    lines: tuple[str, ...] = ()
    # What the odd pixels that jobs count are, as the end of a sentence.
    odd: str = ""


@dataclass(frozen=True)
class Prepared:
    """How many files were written now, how many were there before, and what is to be told."""

    written: int
    skipped: int
    lines: tuple[str, ...]


def carry_out(title: str, plan: Plan, workers: int) -> Prepared:
    """Do every job whose target does not exist.

    Raises:
        CrissCrossError: the first job that failed, or a process that was killed.
    """
    folders = {job.target.parent for job in plan.jobs}
    for folder in folders:
        remove_leftovers(folder)
    todo = [job for job in plan.jobs if not job.target.is_file()]
    skipped, odd = len(plan.jobs) - len(todo), 0
    with Progress(title, len(plan.jobs), start=skipped) as progress:
        for done, count in enumerate(_results(todo, workers), skipped + 1):
            odd += count
            progress.update(done)
    plan.finish()
    # Processes of a run that was killed may have ended only now.
    for folder in folders:
        remove_leftovers(folder)
    lines = (*plan.lines, f"{odd} {plan.odd}") if odd else plan.lines
    return Prepared(len(todo), skipped, lines)


def _results(jobs: Sequence[Job], workers: int) -> Iterator[int]:
    if workers <= 1:
        yield from map(_do, jobs)
        return
    pool = ProcessPoolExecutor(workers, initializer=_follow_the_first)
    try:
        yield from _in_turn(pool, iter(jobs), workers * WAITING)
    except BrokenProcessPool as error:
        raise CrissCrossError(
            "a process was killed, perhaps for want of memory; run the same command again with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_turn(pool: ProcessPoolExecutor, jobs: Iterator[Job], ahead: int) -> Iterator[int]:
    """Results in order, with at most `ahead` jobs handed out at a time."""
    waiting: list[Future[int]] = [pool.submit(_do, job) for job in islice(jobs, ahead)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(_do, job) for job in islice(jobs, 1)]


def _do(job: Job) -> int:
    return job.make(job.target)


def _follow_the_first() -> None:
    # Ctrl-C reaches every process of the terminal; these finish the file at hand.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_first, daemon=True).start()


def _end_with_the_first() -> None:
    # Nobody else ends these when the first process is killed.
    first = multiprocessing.parent_process()
    if first is not None:
        first.join()
        os._exit(1)


def write_mask(path: Path, labels: np.ndarray, palette: Sequence[Color] | None = None) -> None:
    """Write uint8 [H, W] as an index PNG, with colors where a palette is given.

    Raises:
        CrissCrossError: the file cannot be written.
    """
    image = index_image(labels, palette)
    write_atomically(path, partial(image.save, format="PNG"))


def unique_targets(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, each target once: lists may name an image twice."""
    return list({job.target: job for job in jobs}.values())
