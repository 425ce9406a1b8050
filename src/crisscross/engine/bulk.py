"""Many files: the share of each process, what is left to do, and reading and writing beside the network."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from crisscross.errors import CrissCrossError, shown

Key = TypeVar("Key")
Value = TypeVar("Value")
Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")
Done = TypeVar("Done")
# Items that are read ahead of the network, and results that wait to be written.
AHEAD = 4
# Names of a process's number, of the number of processes and of its number on its machine.
VARIABLES = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"))


class Share(NamedTuple):
    """This process is number `rank` of `processes`, and number `local` on its machine; all count from 0."""

    rank: int = 0
    processes: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the first process: it writes what all share."""
        return self.rank == 0

    @property
    def title(self) -> str:
        """` (process 2 of 8)`; empty for a process alone."""
        return f" (process {self.rank + 1} of {self.processes})" if self.processes > 1 else ""

    def device(self, device: str) -> str:
        """The device of this process: of several with `cuda` each has a GPU of its own, as far as there are enough."""
        if device != "cuda" or self.processes == 1:
            return device
        import torch

        return f"cuda:{self.local % torch.cuda.device_count()}"

    def of(self, items: Mapping[Key, Value]) -> dict[Key, Value]:
        """Every item that is this process's: in the order that all see, one after the other in turn."""
        return {key: value for place, (key, value) in enumerate(items.items()) if place % self.processes == self.rank}


def share() -> Share:
    """What torchrun's or else Slurm's variables say.

    Raises:
        CrissCrossError: they make no sense.
    """
    for names in VARIABLES:
        texts = [os.environ.get(name, "") for name in names]
        if not (texts[0] and texts[1]):
            continue
        rank, processes, local = (int(text) if text.isascii() and text.isdecimal() else -1 for text in texts)
        if not 0 <= rank < processes:
            raise CrissCrossError(
                f"{names[0]}={shown(texts[0])} and {names[1]}={shown(texts[1])}: must be a number from 0 on and a "
                "larger one; unset both to run alone"
            )
        return Share(rank, processes, max(local, 0))
    return Share()


def overlapped(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    work: Callable[[Read], Result],
    write: Callable[[Result], Done],
) -> Iterator[Done]:
    """`write(work(read(item)))` of each item, in order.

    `read` runs in threads ahead of `work`, which runs in this one; `write` runs in one thread behind it. At most 4
    items wait before `work` and 4 behind it, so memory does not grow with their number.

    Raises:
        Exception: what one of the three raises ends the work; what was worked on before is still written.
    """
    rest = iter(items)
    reading: deque[Future[Read]] = deque()
    writing: deque[Future[Done]] = deque()
    with ThreadPoolExecutor(2, "reading") as readers, ThreadPoolExecutor(1, "writing") as writer:
        try:
            while True:
                while len(reading) < AHEAD and (found := next(rest, _END)) is not _END:
                    reading.append(readers.submit(read, found))  # type: ignore[arg-type]
                if not reading:
                    break
                writing.append(writer.submit(write, work(reading.popleft().result())))
                while writing and (writing[0].done() or len(writing) > AHEAD):
                    yield writing.popleft().result()
            while writing:
                yield writing.popleft().result()
        finally:
            for future in reading:
                future.cancel()


_END = object()
