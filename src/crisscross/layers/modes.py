"""States of a whole network: evaluation mode for a while, and the memory layout of its weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from crisscross.layers.precision import float32_products


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and float32 products inside, the former mode of the whole network and of products afterwards."""
    was_training = network.training
    network.eval()
    try:
        # Labels and scores are the same whatever the network was trained in.
        with float32_products(tf32=False):
            yield
    finally:
        network.train(was_training)


def lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Give the weights of convolutions over images this memory format, in place.

    `nn.Module.to` fails where there are others of five axes beside them: torch has no format for both.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=memory_format)
