"""Winograd's 3 x 3 convolutions in training on a CPU: forward, and the gradient of the input.

Half of the multiplications of a training step of CCNet at output stride 8 are these; a quarter of them remains. The
gradient of the weights is torch's. Values differ from torch's convolution by rounding, about 3e-6 of the largest.
"""

from functools import lru_cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crisscross.layers.plain_modules import is_plain
from crisscross.speed.winograd import OUT, WORTHWHILE, Tiled, _Grid, called_plainly, gain, why_not, winograd_matrices

# A feature map on which every tile is full and every fixed cost small.
LARGE = 1024
# Of the input's gradient, made together: transformed weights take four times the memory of the weights.
CHANNELS = 512


def train_by_winograd(network: nn.Module) -> int:
    """Let 3 x 3 convolutions that gain by it train by Winograd, in place; returns their number.

    Modules, names and weights stay. Taken on a CPU, in float32, in training mode; otherwise the convolution is torch's.
    """
    count = 0
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _suits(module) and gain(module, LARGE, LARGE) >= WORTHWHILE:
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]
            count += 1
    return count


def train_by_torch(network: nn.Module) -> None:
    """Undo `train_by_winograd`, in place."""
    for module in network.modules():
        if getattr(module.__dict__.get("forward"), "__func__", None) is _forward:
            del module.forward


def _suits(conv: nn.Conv2d) -> bool:
    """The output has the input's size, so that the input's gradient is a convolution of the same kind."""
    return is_plain(conv, nn.Conv2d) and conv.padding == conv.dilation and why_not(conv) is None


def _forward(conv: Any, x: Tensor) -> Tensor:
    if not conv.training or not _takes(conv, x) or gain(conv, x.shape[-2], x.shape[-1]) < WORTHWHILE:
        return nn.Conv2d.forward(conv, x)
    y = _Winograd.apply(x, conv.weight, conv.dilation[0])
    return y if conv.bias is None else y + conv.bias[:, None, None]


def _takes(conv: nn.Conv2d, x: Tensor) -> bool:
    usual = x.dim() == 4 and x.device.type == conv.weight.device.type == "cpu"
    return usual and x.dtype == conv.weight.dtype == torch.float32 and called_plainly()


class _Pass(Tiled):
    """One convolution of [B, C, H, W] with weights [D, C, 3, 3], padded by its dilation."""

    def __init__(self, weight: Tensor, dilation: int) -> None:
        self.dilation = self.padding = dilation, dilation
        self.out_channels, self.bias = weight.shape[0], None
        into_weights, self.into_PP, self.back_QP = _transforms()
        weight_KX = weight.flatten(2).permute(2, 1, 0).flatten(1)
        self.weight_PCD = (into_weights @ weight_KX).view(-1, weight.shape[1], weight.shape[0])

    def of(self, x: Tensor) -> Tensor:
        """[B, D, H, W] in channels-last memory."""
        grid = _Grid(x.shape[-2], x.shape[-1], self.dilation[0])
        return self._tiled(x.permute(0, 2, 3, 1), grid).permute(0, 3, 1, 2)


@lru_cache(maxsize=1)
def _transforms() -> tuple[Tensor, Tensor, Tensor]:
    """Of the nine weights, of a tile of inputs and of its products, in float32."""
    with torch.inference_mode(False):
        a, g, b = winograd_matrices()
        back_QP = torch.cat([torch.kron(a, a), torch.ones(OUT * OUT, 1, dtype=a.dtype)], 1)
        return torch.kron(g, g).float(), torch.kron(b, b).float(), back_QP.float()


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return _Pass(weight, dilation).of(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            for first in range(0, x.shape[1], CHANNELS):
                part = slice(first, first + CHANNELS)
                # Turned by 180 degrees and read from output to input.
                grad_x[:, part] = _Pass(weight[:, part].flip(2, 3).transpose(0, 1), ctx.dilation).of(grad)
        if ctx.needs_input_grad[1]:
            same = [ctx.dilation] * 2
            _, grad_weight, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [1, 1], same, same, False, [0, 0], 1, [False, True, False]
            )
        return grad_x, grad_weight, None
