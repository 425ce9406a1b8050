"""Modules whose weights may be read instead of calling them."""

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module


def is_plain(module: nn.Module, *kinds: type[nn.Module], own_hooks: int = 0) -> bool:
    """Whether calling the module does what the forward of its class does with its weights, and nothing else.

    False for another class in its place (LoRA, parametrizations), a replaced `forward` (offloading, layerwise casting),
    hooks of every kind, also torch's global ones, and weights that are tensor subclasses (quantized, distributed). Such
    a module has to be called. The caller checks the device of the weights: torch's own convolution takes those on
    `meta` and returns uninitialized memory.

    Args:
        module: what would be called.
        *kinds: classes with a known forward; subclasses do not count.
        own_hooks: the number of forward hooks that are the caller's own.
    """
    hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
    hooks += len(module._backward_hooks) + len(module._backward_pre_hooks)
    if type(module) not in kinds or "forward" in module.__dict__ or hooks != own_hooks:
        return False
    if torch_module._has_any_global_hook():
        return False
    weights = [weight for weight in module._parameters.values() if weight is not None]
    return torch.compiler.is_compiling() or all(type(weight) in (nn.Parameter, Tensor) for weight in weights)
