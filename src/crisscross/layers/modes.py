"""Evaluation mode, precision, memory format, device and dtype of a whole network."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain

import torch
from torch import nn

from crisscross.layers.precision import float32_products

# Types that a network can compute in; weights stored in another are cast to one of these.
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# By the names of `--precision` and `train.precision`.
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and exact float32 products inside; afterwards every module and setting is as before."""
    modules = list(network.modules())
    # Usually none is in training mode; changing nothing then saves some milliseconds an image.
    former = [(module, module.training) for module in modules] if any(module.training for module in modules) else []
    try:
        if former:
            network.eval()
        # Labels and scores do not depend on the precision of training.
        with float32_products(tf32=False):
            yield
    finally:
        # By `train`, which a class may have overridden, from the outside in.
        for module, mode in former:
            if module.training != mode:
                module.train(mode)
        # A submodule of two modules may have followed the second.
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
    """The device of its inputs: that of its first weight that is not on `meta`, else the CPU.

    Weights that are all on `meta` are offloaded, and are loaded to the device of the inputs when they are needed.
    """
    devices = (parameter.device for parameter in network.parameters() if not parameter.is_meta)
    return next(devices, torch.device("cpu"))


def dtype_of(network: nn.Module) -> torch.dtype:
    """The type of its inputs: that of its first matrix or convolution; norms may stay in float32."""
    weights = (weight for weight in network.parameters() if weight.dtype in DTYPES)
    first = next(weights, None)
    if first is None:
        return torch.float32
    return next((weight for weight in chain([first], weights) if weight.dim() > 1), first).dtype
