"""Many files at a time: decoding and waiting for files leave Python free."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

READERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    function: Callable[[Item], Result], items: Sequence[Item], progress: Callable[[int, int], None] | None = None
) -> Iterator[Result]:
    """The function of every item, in order, from several threads.

    Args:
        function: what is done with one item; an error ends the iteration when its turn comes.
        items: all of them.
        progress: called with (items done, all items) after every item.
    """
    pool = ThreadPoolExecutor(min(READERS, os.cpu_count() or 1))
    try:
        for done, result in enumerate(pool.map(function, items), 1):
            if progress:
                progress(done, len(items))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
