"""Sums over the processes of a training run, each of which holds a part of the batch.

Every process must call these equally often and in the same order.
"""

import torch.distributed
from torch import Tensor


def processes() -> int:
    """How many processes train together."""
    alone = not (torch.distributed.is_available() and torch.distributed.is_initialized())
    return 1 if alone else torch.distributed.get_world_size()


def sum_of_all(value: Tensor) -> Tensor:
    """The sum over all processes; its gradient is the sum of theirs."""
    if processes() == 1:
        return value
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value)


def mean_count(count: Tensor) -> Tensor:
    """The mean of a count over all processes, at least 1 in all.

    The mean over processes of local sums divided by it, which averaged gradients minimize, is the quotient of the sums.
    """
    total = count.clone()
    if processes() > 1:
        torch.distributed.all_reduce(total)
    return total.clamp(min=1) / processes()
