"""States of a whole network: evaluation mode for a while, and the memory layout of its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the former mode of the whole network afterwards."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def lay_channels_last(network: Network) -> Network:
    """The network itself, its tensors of four dimensions in channels-last memory, all others as they were.

    `network.to(memory_format=torch.channels_last)` fails on tensors of five, such as the weights of `nn.Conv3d`.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return network
