"""Random draws from an explicit generator; nothing else in `crisscross.data` is random."""

import torch
from torch import Generator


def uniform(low: float, high: float, generator: Generator) -> float:
    """One draw from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def whole_number(count: int, generator: Generator) -> int:
    """One draw from 0..count-1."""
    return int(torch.randint(count, (), generator=generator))


def chance(probability: float, generator: Generator) -> bool:
    """True with this probability."""
    return uniform(0, 1, generator) < probability
