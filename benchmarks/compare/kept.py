"""The memory that a forward pass keeps for its backward pass."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def kept_for_backward(forward: Callable[[], object], beside: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps between forward and backward, each storage once.

    Args:
        forward: runs with gradients enabled.
        beside: tensors that exist anyway (the input, parameters) and are not counted.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in beside}
    # The tensors are held, so that no storage is freed and its address given to another.
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = forward()
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del held
    return total
