"""Activation checkpointing: less memory in training for one more forward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import sqrt
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from crisscross.layers.norm import BATCH_NORMS

# Stages of at least this many blocks run several blocks together a second time.
LONG_STAGE = 4


def recompute_in_backward(module: nn.Module) -> None:
    """Let a module keep nothing but its input for the backward pass, and run a second time there.

    Weights, running statistics and dropout are the same as without it, bit for bit with deterministic operators. Names
    of tensors do not change. Outside training, or without gradients, nothing changes.

    Raises:
        ValueError: in the forward pass, if the module changes its input in place and could not run again.
    """
    forward = module.forward

    def checkpointed(*inputs: Any, **options: Any) -> Any:
        if not (module.training and torch.is_grad_enabled()):
            return forward(*inputs, **options)
        # A head is given a tuple of feature maps.
        flat = (entry for value in inputs for entry in (value if isinstance(value, (tuple, list)) else (value,)))
        tensors = [value for value in flat if isinstance(value, torch.Tensor)]
        versions = [tensor._version for tensor in tensors]
        result = checkpoint(forward, *inputs, use_reentrant=False, context_fn=lambda: _contexts(module), **options)
        if versions != [tensor._version for tensor in tensors]:
            raise ValueError(f"{type(module).__name__} changes its input in place and cannot run twice")
        return result

    module.forward = checkpointed  # type: ignore[method-assign]


def recompute_backbone(net: nn.Module) -> list[nn.Module]:
    """Let a backbone's stages run again in the backward pass, block by block; returns the parts that keep their input.

    Of a stage of n >= 4 blocks in a plain sequence, about sqrt(n) blocks at a time: fewer inputs are kept. The first
    child is left out: its input needs no gradient, and a stem is small.
    """
    parts: list[nn.Module] = []
    for child in list(net.children())[1:]:
        blocks = getattr(child, "blocks", child)
        if type(child) is nn.Sequential and len(child) >= LONG_STAGE and "forward" not in child.__dict__:
            parts += _in_segments(child)
        elif isinstance(blocks, (nn.Sequential, nn.ModuleList)) and len(blocks) > 0:
            parts += list(blocks)
        elif any(True for _ in child.children()):
            parts.append(child)
    learning = [part for part in parts if any(parameter.requires_grad for parameter in part.parameters())]
    for part in learning:
        recompute_in_backward(part)
    return learning


def _in_segments(stage: nn.Sequential) -> list[nn.Module]:
    """Sequences of the stage's blocks, which the stage calls from now on."""
    size = round(sqrt(len(stage)))
    segments = [nn.Sequential(*stage[first : first + size]) for first in range(0, len(stage), size)]

    def forward(x: torch.Tensor) -> torch.Tensor:
        for segment in segments:
            # The segment is no child of the stage, so `train()` does not reach it.
            segment.training = stage.training
            x = segment(x)
        return x

    stage.forward = forward  # type: ignore[method-assign]
    return list(segments)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _statistics_kept(module)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Inside, batch norms normalize by the batch as usual but do not update their running statistics."""
    norms = [norm for norm in module.modules() if isinstance(norm, BATCH_NORMS)]
    former = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in former:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in former:
            norm.momentum, norm.num_batches_tracked = momentum, count
