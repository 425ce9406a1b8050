"""When a module's weights may be read in the place of calling it."""

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module


def is_plain(module: nn.Module, *kinds: type[nn.Module], own_hooks: int = 0) -> bool:
    """Whether calling the module does what the forward of its class does with its weights, and nothing else.

    False where somebody put another class in its place (LoRA, parametrizations), replaced its `forward` (offloading,
    layerwise casting), listens to it (hooks of every kind, also torch's global ones), or gave it weights of another
    kind of tensor (quantised, distributed). It has to be called then. Weights on another device are for the one who
    reads them to refuse: torch's own convolution takes those on `meta` and gives uninitialized memory.

    Args:
        module: what would be called.
        *kinds: the classes whose forward is known; a subclass is another one.
        own_hooks: how many hooks on the forward pass are the caller's own.
    """
    hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
    hooks += len(module._backward_hooks) + len(module._backward_pre_hooks)
    if type(module) not in kinds or "forward" in module.__dict__ or hooks != own_hooks:
        return False
    if torch_module._has_any_global_hook():
        return False
    weights = [weight for weight in module._parameters.values() if weight is not None]
    return torch.compiler.is_compiling() or all(type(weight) in (nn.Parameter, Tensor) for weight in weights)
