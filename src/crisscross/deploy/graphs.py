"""What is exported of a network: images in, coarse logits out, in operations that every runtime has."""

from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross.layers import RecurrentCrissCrossAttention3d
from crisscross.layers.modes import dtype_of
from crisscross.models import Segmenter
from crisscross.models.heads.ccnet import CrissCrossHead

Network = TypeVar("Network", bound=nn.Module)


class ImageNetwork(nn.Module):
    """Normalized float32 images [B, 3, H, W] -> coarse float32 logits [B, K, h, w]."""

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype_of(network)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, K, h, w]."""
        return self.network.coarse(images.to(self.dtype)).main.float()


class ClipNetwork(nn.Module):
    """The normalized frames [T, 3, H, W] of a clip, and which of them to label [L] -> coarse logits [L, K, h, w].

    T is free where the head is `CrissCrossHead`.
    """

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype_of(network)

    def forward(self, images: Tensor, places: Tensor) -> Tensor:
        """[T, 3, H, W] and int64 [L] -> [L, K, h, w]."""
        head: CrissCrossHead = self.network.head
        features, attended = head.encode(self.network.backbone(images.to(self.dtype)))
        if isinstance(head.attend, RecurrentCrissCrossAttention3d):
            # [T, C, h, w] -> [1, C, T, h, w] and back, whatever T is.
            clip = attended.transpose(0, 1)[None]
            attended = RecurrentCrissCrossAttention3d.forward(head.attend, clip)[0].transpose(0, 1)
        labeled = [x.index_select(0, places) for x in features]
        return head.logits(labeled, attended.index_select(0, places)).float()


class SameConv2d(nn.Module):
    """A strided convolution with TensorFlow's SAME padding, without arithmetic on the sides of the image.

    That arithmetic, symbolic where sides are free, grows behind each such layer until an export takes minutes. Here a
    fixed number of zeros is added, and the windows' first row and column are chosen by tensors.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D, ceil(H / stride), ceil(W / stride)]."""
        rows, columns = (_reach(axis, self.conv) for axis in (0, 1))
        x = functional.pad(x, [columns, columns, rows, rows])
        x = _from_first(x, -2, rows, self.conv.stride[0])
        x = _from_first(x, -1, columns, self.conv.stride[1])
        conv = self.conv
        return functional.conv2d(x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


def _reach(axis: int, conv: nn.Conv2d) -> int:
    """Rows (or columns) that a window spans beyond its first."""
    return (conv.kernel_size[axis] - 1) * conv.dilation[axis]


def _from_first(x: Tensor, axis: int, reach: int, stride: int) -> Tensor:
    """A padded x from the first row that SAME padding lets a window begin at, with ceil(rows / stride) windows."""
    rows = x.shape[axis] - 2 * reach
    every = torch.arange(rows + reach, device=x.device)
    # SAME pads by max(reach + 1 - (1 + (rows - 1) % stride), 0), half of it before the first row.
    missing = (reach - (every[-1] - reach) % stride).clamp(min=0)
    return x.index_select(axis, every + reach - missing // 2)


def plain_padding(conv: nn.Conv2d) -> nn.Conv2d:
    """The same weights with padding that gives as many windows as SAME does, though at other places.

    Raises:
        ValueError: the kernel is even.
    """
    reaches = [_reach(axis, conv) for axis in (0, 1)]
    if any(reach % 2 for reach in reaches):
        raise ValueError("an even kernel")
    made = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (conv.kernel_size[0], conv.kernel_size[1]),
        (conv.stride[0], conv.stride[1]),
        (reaches[0] // 2, reaches[1] // 2),
        (conv.dilation[0], conv.dilation[1]),
        conv.groups,
        conv.bias is not None,
        device="meta",
    )
    made.weight, made.bias = conv.weight, conv.bias
    return made.train(conv.training)


def without_same_padding(network: nn.Module, marked: bool) -> list[str]:
    """Replace timm's SAME convolutions in place.

    Args:
        network: changed; make a copy before.
        marked: where a kernel allows it, use padding that only gives the right sizes. ONNX has a word for SAME, and
            the exported convolutions with these weights get it.

    Returns:
        The names of the weights of the convolutions to mark.
    """
    from timm.layers.conv2d_same import Conv2dSame

    found = []
    for name, module in list(network.named_modules()):
        if type(module) is not Conv2dSame:
            continue
        odd = not any(_reach(axis, module) % 2 for axis in (0, 1))
        # ONNX Runtime refuses SAME with dilation.
        if marked and odd and set(module.dilation) == {1}:
            network.set_submodule(name, plain_padding(module))
            found.append(f"{name}.weight")
        else:
            network.set_submodule(name, SameConv2d(module))
    return found


def ready(network: Network, half: bool = False) -> Network:
    """A copy for export: on the CPU, in evaluation mode, with ordinary memory layout, no gradients."""
    copy = deepcopy(network).cpu().eval().requires_grad_(False)
    for tensor in (*copy.parameters(), *copy.buffers()):
        tensor.data = tensor.data.contiguous()
    return copy.half() if half else copy.float()


def graph_of(network: Segmenter) -> tuple[nn.Module, tuple[Tensor, ...], tuple[dict[int, Any], ...]]:
    """The module to export, example inputs, and the free axes of each."""
    free = torch.export.Dim.DYNAMIC
    images = {0: free, 2: free, 3: free}
    if not network.experiment.model.frames:
        return ImageNetwork(network), (torch.zeros(2, 3, 96, 160),), (images,)
    return ClipNetwork(network), (torch.zeros(3, 3, 96, 160), torch.tensor([1, 2])), (images, {0: free})
