"""Evaluation mode for a while, and other facts that need not be the same all over a network."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain

import torch
from torch import nn

from crisscross.layers.precision import float32_products

# What a network can compute in; weights that are only kept in another type are brought to one of these.
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# By the names of `--precision` and `train.precision`.
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and exact float32 products inside, the former mode of every module and of products afterwards."""
    modules = list(network.modules())
    # Mostly none is in training mode: then there is nothing to change, and some milliseconds an image are saved.
    former = [(module, module.training) for module in modules] if any(module.training for module in modules) else []
    try:
        if former:
            network.eval()
        # Labels and scores are the same whatever the network was trained in.
        with float32_products(tf32=False):
            yield
    finally:
        # By `train`, which a class may have extended, from the outside in.
        for module, mode in former:
            if module.training != mode:
                module.train(mode)
        # What is part of two modules may have followed the second.
        for module, mode in former:
            module.training = mode


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Inside, convolutions and matrix products are computed in this precision (`PRECISIONS`), by torch's autocast.

    Weights, norms and the logits' resize stay in float32, as in training with `train.precision`.
    """
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, PRECISIONS[precision])


def lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Give the weights of convolutions over images this memory format, in place.

    `nn.Module.to` fails where there are others of five axes beside them: torch has no format for both.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=memory_format)


def device_of(network: nn.Module) -> torch.device:
    """Where its inputs belong: the device of its first weight that is not on `meta`.

    Weights that are all on `meta` come from elsewhere when they are needed, and are brought to the inputs.
    """
    devices = (parameter.device for parameter in network.parameters() if not parameter.is_meta)
    return next(devices, torch.device("cpu"))


def dtype_of(network: nn.Module) -> torch.dtype:
    """What its inputs are to be: the type of its first matrix or convolution; norms beside it may stay in float32."""
    weights = (weight for weight in network.parameters() if weight.dtype in DTYPES)
    first = next(weights, None)
    if first is None:
        return torch.float32
    return next((weight for weight in chain([first], weights) if weight.dim() > 1), first).dtype
