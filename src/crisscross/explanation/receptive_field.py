"""Effective receptive fields: which pixels the gradient of a feature comes from."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crisscross.explanation.attention import layers_of

# Fraction of the gradient that the effective receptive field holds.
HELD = 0.9


def effective_side(gradient: Tensor, center: tuple[float, float], held: float = HELD) -> float:
    """Side in pixels of the smallest square around a point that holds 90 % of a gradient.

    Args:
        gradient: [H, W], 0 or more: absolute values, summed over channels.
        center: (y, x) in pixels; the middle of the first pixel is (0.5, 0.5).
        held: another fraction.
    """
    rows, columns = (torch.arange(side, device=gradient.device) + 0.5 for side in gradient.shape)
    offset = torch.maximum((rows - center[0]).abs()[:, None], (columns - center[1]).abs()[None, :])
    order = offset.flatten().argsort()
    summed = gradient.flatten()[order].double().cumsum(0)
    return 2 * float(offset.flatten()[order][int((summed < held * summed[-1]).sum())])


@dataclass(frozen=True)
class Field:
    """The effective receptive field of the middle of a layer's feature map, without and with its attention.

    Attributes:
        before, after: float32 [H, W], sum 1: which share of the gradient each pixel of the network's input has, of the
            layer's input and of its output after all passes.
        center: (y, x) of the position in pixels.
        added: norm of what all passes add to the layer's input, over the norm of that input.
    """

    before: np.ndarray
    after: np.ndarray
    center: tuple[float, float]
    added: float

    @property
    def sides(self) -> tuple[float, float]:
        """`effective_side` before and after."""
        before, after = (effective_side(torch.from_numpy(one), self.center) for one in (self.before, self.after))
        return before, after


def fields(network: nn.Module, run: Callable[[Tensor], Any], x: Tensor) -> dict[str, Field]:
    """The effective receptive fields of the criss-cross layers, by name.

    The gradient is that of half the squared norm of the features at the middle position: their change in the direction
    of their own.

    Args:
        network: holds the layers; in evaluation mode, or its batch statistics take part.
        run: runs the network, or the part with the layers, on its input.
        x: that input, [1, 3, H, W].
    """
    maps: dict[str, list[Tensor]] = {}
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as hooks:

        def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            def hook(_: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
                maps[name] = [maps[name][0] if name in maps else given[0], result]

            return hook

        for name, layer in layers_of(network).items():
            hooks.callback(layer.register_forward_hook(keep(name)).remove)
        x = x.detach().clone().requires_grad_()
        run(x)
        return {name: _field(x, *pair) for name, pair in maps.items()}


def _field(x: Tensor, before: Tensor, after: Tensor) -> Field:
    size = before.shape[2:]
    middle = [side // 2 for side in size]
    center = [(place + 0.5) * x.shape[side] / size[side] for side, place in ((-2, middle[-2]), (-1, middle[-1]))]
    place, shares = int(np.ravel_multi_index(middle, size)), []
    for features in (before, after):
        strength = features[0].flatten(1)[:, place].float().square().sum() / 2
        (gradient,) = torch.autograd.grad(strength, x, retain_graph=True)
        share = gradient[0].float().abs().sum(0)
        shares.append((share / share.sum().clamp_min(torch.finfo(share.dtype).tiny)).cpu().numpy())
    given, result = (features.detach().float() for features in (before, after))
    added = (result - given).norm() / given.norm().clamp_min(torch.finfo(torch.float32).tiny)
    return Field(shares[0], shares[1], (center[0], center[1]), float(added))
