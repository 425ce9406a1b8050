"""Exact memory accounting: every byte of PyTorch's allocator, not what the system reports.

On a CPU the profiler records each allocation and release; on CUDA the allocator keeps the peak itself. Memory that a
library allocates by itself is not counted.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from crisscross.measurement.timing import synchronize


@dataclass(frozen=True)
class Usage:
    """Bytes above what existed before: the largest number at one time, and the number at the end."""

    peak: int
    left: int


def peak_memory(work: Callable[[], object], device: torch.device) -> Usage:
    """The memory that one call takes, including its result.

    Args:
        work: what to call; once.
        device: whose memory is counted.
    """
    if device.type != "cuda":
        return _of_cpu(work)
    synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    held = work()
    synchronize(device)
    usage = Usage(torch.cuda.max_memory_allocated(device) - before, torch.cuda.memory_allocated(device) - before)
    del held
    return usage


def _of_cpu(work: Callable[[], object]) -> Usage:
    # The profiler's library reports its own start and stop, and the lack of a GPU, on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        held = work()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    usage = running_sum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())])
    del held
    return usage


def running_sum(changes: Sequence[int]) -> Usage:
    """The peak and the end of a sequence of allocations (positive) and releases (negative), in bytes."""
    live = peak = 0
    for change in changes:
        live += change
        peak = max(peak, live)
    return Usage(peak, live)
