"""Winograd's 3 x 3 convolutions in networks on a CPU: a layer for inference, and a forward pass for training.

Values differ from torch's convolution by rounding, about 3e-6 of the largest. In a training step of CCNet at output
stride 8 these convolutions and the gradients of their inputs are half of the multiplications, of which a quarter
remains; the gradient of the weights is torch's.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crisscross.layers.plain_modules import is_plain
from crisscross.speed.winograd import WORTHWHILE, convolve, gain, takes, transform_weights, why_not

# A feature map on which every tile is full and every fixed cost small.
LARGE = 1024
# Channels of the input's gradient made together: transformed weights take four times the memory of the weights.
CHANNELS = 512


def use_winograd(network: nn.Module) -> int:
    """Replace, in place, the convolutions that gain on a large image by `WinogradConv2d`; returns their number."""
    made: dict[int, WinogradConv2d] = {}
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if name and _gains(module):
            if id(module) not in made:
                made[id(module)] = WinogradConv2d(module)
            network.set_submodule(name, made[id(module)])
    return len(made)


def train_by_winograd(network: nn.Module) -> int:
    """Let 3 x 3 convolutions that gain by it train by Winograd, in place; returns their number.

    Modules, names and weights stay. Outside a CPU, float32 and training mode the convolution is torch's.
    """
    # The output has the input's size, so that the input's gradient is a convolution of the same kind.
    convolutions = [module for module in network.modules() if _gains(module) and module.padding == module.dilation]
    for conv in convolutions:
        conv.forward = MethodType(_training_forward, conv)  # type: ignore[assignment]
    return len(convolutions)


def train_by_torch(network: nn.Module) -> None:
    """Undo `train_by_winograd`, in place."""
    for module in network.modules():
        if getattr(module.__dict__.get("forward"), "__func__", None) is _training_forward:
            del module.forward


def _gains(module: Any) -> bool:
    return is_plain(module, nn.Conv2d) and why_not(module) is None and gain(module, LARGE, LARGE) >= WORTHWHILE


class WinogradConv2d(nn.Conv2d):
    """An `nn.Conv2d` for inference: the same weights, [B, C, H, W] -> [B, D, H', W'] in channels-last memory.

    Inputs that Winograd cannot compute, or not faster, take the way of `nn.Conv2d`: another type than float32, another
    device than the CPU, autocast, gradients, small images, tracing for export or compilation. The transformed weights
    take four times the memory of the convolution's own, and come beside them.

    Args:
        conv: the convolution; its weight and bias are shared, not copied, and must not change afterwards other than
            by `load_state_dict`.

    Raises:
        ValueError: Winograd cannot compute it; the message gives the reason.
    """

    weight_PCD: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        if reason := why_not(conv):
            raise ValueError(f"no Winograd form of {conv}: {reason}")
        padding, dilation = (int(conv.padding[0]), int(conv.padding[1])), conv.dilation[0]
        size = conv.in_channels, conv.out_channels, 3
        super().__init__(*size, padding=padding, dilation=dilation, bias=False, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self.register_buffer("weight_PCD", transform_weights(conv.weight.double()), persistent=False)
        self.train(conv.training)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.weight_PCD.copy_(transform_weights(self.weight.double()))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D, H', W'] as `nn.Conv2d`."""
        gradients = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if gradients or not takes(self, x):
            return super().forward(x)
        with torch.no_grad():
            return convolve(x, self.weight_PCD, self.bias, self.padding, self.dilation[0])


def _training_forward(conv: Any, x: Tensor) -> Tensor:
    if not conv.training or not takes(conv, x):
        return nn.Conv2d.forward(conv, x)
    y = _Winograd.apply(x, conv.weight, conv.dilation[0])
    return y if conv.bias is None else y + conv.bias[:, None, None]


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return convolve(x, transform_weights(weight), None, (dilation, dilation), dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        same = (ctx.dilation, ctx.dilation)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            for first in range(0, x.shape[1], CHANNELS):
                part = slice(first, first + CHANNELS)
                # Turned by 180 degrees and read from output to input.
                turned_PCD = transform_weights(weight[:, part].flip(2, 3).transpose(0, 1))
                grad_x[:, part] = convolve(grad, turned_PCD, None, same, ctx.dilation)
        if ctx.needs_input_grad[1]:
            _, grad_weight, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [1, 1], same, same, False, [0, 0], 1, [False, True, False]
            )
        return grad_x, grad_weight, None
