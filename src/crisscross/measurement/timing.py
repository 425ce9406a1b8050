"""Interleaved timing: load on a machine drifts, so pieces of work take turns (A B C A B C ...) and medians count."""

import time
from collections.abc import Callable, Collection, Mapping
from statistics import median

import torch

Work = Callable[[], object]
Clock = Callable[[], float]

# A turn takes at least this many seconds, by repeated calls, so that the resolution of the clock does not matter.
SHORTEST_TURN = 0.02
# Work whose call takes longer than this drops out after a few turns, as the others wait for it.
SLOW, TURNS_OF_SLOW = 1.0, 3


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Work, device: torch.device, repeats: int = 1, clock: Clock = time.perf_counter) -> float:
    """Seconds of one call of `work` by a clock, the mean over `repeats` calls in a row."""
    synchronize(device)
    start = clock()
    for _ in range(repeats):
        work()
    synchronize(device)
    return (clock() - start) / repeats


def interleave(
    works: Mapping[str, Work],
    rounds: int,
    device: torch.device,
    on_turn: Callable[[], object] = lambda: None,
    always: Collection[str] = (),
    clock: Clock = time.perf_counter,
) -> dict[str, float]:
    """Time several pieces of work in turns, each once a round.

    Every piece is called beforehand: to warm up, and to learn how many calls fill a turn. One that takes more than
    `SLOW` seconds is not called twice for that, and takes `TURNS_OF_SLOW` turns at most, unless it is in `always`.

    Args:
        works: name -> what to call.
        rounds: turns that each piece takes; 1 or more.
        device: where the work happens.
        on_turn: called after every turn and after every warm-up, at most `rounds + 1` times for each piece.
        always: names that take all turns, however slow they are.
        clock: returns seconds; `time.process_time` is CPU time of this process, which other load does not change.

    Returns:
        Name -> the median seconds of one call, in the order of `works`.
    """
    repeats: dict[str, int] = {}
    slow: set[str] = set()
    times: dict[str, list[float]] = {name: [] for name in works}
    for name, work in works.items():
        first = seconds(work, device, 1, clock)
        if first > SLOW and name not in always:
            slow.add(name)
        repeats[name] = 1 if first > SLOW else max(1, round(SHORTEST_TURN / max(seconds(work, device, 1, clock), 1e-9)))
        on_turn()
    for index in range(rounds):
        for name, work in works.items():
            if index < TURNS_OF_SLOW or name not in slow:
                times[name].append(seconds(work, device, repeats[name], clock))
                on_turn()
    return {name: median(values) for name, values in times.items()}
