"""Other ways to the same or a comparable layer: [B, C, H, W] -> x + gamma * attention(x), with the same parameters.

Shape suffixes: B batch, N positions (H * W), D query and key channels, C channels, 1 an attention head.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PeerLayer(nn.Module):
    """Projections, gate and residual; the parameters have the names and shapes of `CrissCrossAttention`'s."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        q_BDN, k_BDN, v_BCN = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        attended_BCN = self.attend(q_BDN, k_BDN, v_BCN, x.shape[-1])
        return x + self.gamma * attended_BCN.reshape(x.shape)

    def attend(self, q_BDN: Tensor, k_BDN: Tensor, v_BCN: Tensor, width: int) -> Tensor:
        """Attention over positions, [B, C, N]."""
        raise NotImplementedError


class NonLocal(PeerLayer):
    """Every position attends to every position: the embedded-Gaussian non-local block (Wang et al., 2018).

    The product with the values is written as value @ weights^T, on [B, C, N], as position attention in segmentation
    usually is.
    """

    def attend(self, q_BDN: Tensor, k_BDN: Tensor, v_BCN: Tensor, width: int) -> Tensor:
        weights_BNN = (q_BDN.transpose(1, 2) @ k_BDN).softmax(-1)
        return v_BCN @ weights_BNN.transpose(1, 2)


class NonLocalRows(PeerLayer):
    """The same function, the product written as weights @ value^T: its backward saves one copy of the weights."""

    def attend(self, q_BDN: Tensor, k_BDN: Tensor, v_BCN: Tensor, width: int) -> Tensor:
        weights_BNN = (q_BDN.transpose(1, 2) @ k_BDN).softmax(-1)
        return (weights_BNN @ v_BCN.transpose(1, 2)).transpose(1, 2)


class MaskedSDPA(PeerLayer):
    """Criss-cross attention as one `scaled_dot_product_attention` over all positions under a row-or-column mask.

    Two calls, one for rows and one for columns, cannot be merged: the function does not return the log-sum-exp. The
    mask is made once for each size.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__(channels, reduction)
        self.masks: dict[tuple[int, int], Tensor] = {}

    def attend(self, q_BDN: Tensor, k_BDN: Tensor, v_BCN: Tensor, width: int) -> Tensor:
        mask_NN = self._mask(q_BDN.shape[-1], width, q_BDN.device)
        q_B1ND, k_B1ND, v_B1NC = (x.transpose(1, 2).unsqueeze(1) for x in (q_BDN, k_BDN, v_BCN))
        out_B1NC = F.scaled_dot_product_attention(q_B1ND, k_B1ND, v_B1NC, attn_mask=mask_NN, scale=1.0)
        return out_B1NC.squeeze(1).transpose(1, 2)

    def _mask(self, positions: int, width: int, device: torch.device) -> Tensor:
        if (positions, width) not in self.masks:
            position = torch.arange(positions, device=device)
            row, column = position // width, position % width
            self.masks[positions, width] = (row[:, None] == row) | (column[:, None] == column)
        return self.masks[positions, width]


class Flex(PeerLayer):
    """Criss-cross attention as a compiled `flex_attention` with the row-or-column rule; the block mask is made once.

    On a CPU it runs forward only. In row-major order every block of keys holds one of each column: none is skipped.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__(channels, reduction)
        self.compiled: Any = None
        self.masks: dict[tuple[int, int], Any] = {}

    def attend(self, q_BDN: Tensor, k_BDN: Tensor, v_BCN: Tensor, width: int) -> Tensor:
        from torch.nn.attention.flex_attention import flex_attention

        if self.compiled is None:
            self.compiled = torch.compile(flex_attention, dynamic=False)
        q_B1ND, k_B1ND, v_B1NC = (x.transpose(1, 2).unsqueeze(1) for x in (q_BDN, k_BDN, v_BCN))
        if not torch.is_grad_enabled():
            # On a CPU it refuses tensors that ask for gradients, even where none are recorded.
            q_B1ND, k_B1ND, v_B1NC = q_B1ND.detach(), k_B1ND.detach(), v_B1NC.detach()
        mask = self._mask(q_BDN.shape[-1], width, q_BDN.device)
        out_B1NC = self.compiled(q_B1ND, k_B1ND, v_B1NC, block_mask=mask, scale=1.0)
        return out_B1NC.squeeze(1).transpose(1, 2)

    def _mask(self, positions: int, width: int, device: torch.device) -> Any:
        from torch.nn.attention.flex_attention import create_block_mask

        def in_reach(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (query // width == key // width) | (query % width == key % width)

        if (positions, width) not in self.masks:
            mask = create_block_mask(in_reach, None, None, positions, positions, device=str(device))
            self.masks[positions, width] = mask
        return self.masks[positions, width]


class PlainCrissCross(PeerLayer):
    """Criss-cross attention as published systems write it: einsum, -inf on the column's diagonal, cat, softmax."""

    def attend(self, q_BDN: Tensor, k_BDN: Tensor, v_BCN: Tensor, width: int) -> Tensor:
        q, k, v = (x.unflatten(2, (-1, width)) for x in (q_BDN, k_BDN, v_BCN))
        height = q.shape[2]
        itself = torch.full((height,), -torch.inf, dtype=q.dtype, device=q.device).diag()
        column = torch.einsum("bdhw,bdiw->bhwi", q, k) + itself[:, None]
        row = torch.einsum("bdhw,bdhj->bhwj", q, k)
        weights = torch.cat([column, row], dim=-1).softmax(-1)
        from_column = torch.einsum("bciw,bhwi->bchw", v, weights[..., :height])
        return (from_column + torch.einsum("bchj,bhwj->bchw", v, weights[..., height:])).flatten(2)


class PlainCrissCross3d(nn.Module):
    """3-D criss-cross attention as one would write it: einsum, -inf where a position meets itself, cat, softmax.

    The parameters have the names and shapes of `CrissCrossAttention3d`'s; [B, C, T, H, W] -> the same shape.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.query = nn.Conv3d(channels, channels // reduction, 1)
        self.key = nn.Conv3d(channels, channels // reduction, 1)
        self.value = nn.Conv3d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """x + gamma * attention(x)."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        frames, height, width = x.shape[2:]
        time = torch.einsum("bcthw,bcshw->bthws", q, k) + self._itself(frames, q)[:, None, None]
        column = torch.einsum("bcthw,bctiw->bthwi", q, k) + self._itself(height, q)[:, None]
        row = torch.einsum("bcthw,bcthj->bthwj", q, k)
        time, column, row = torch.cat([time, column, row], -1).softmax(-1).split([frames, height, width], -1)
        attended = torch.einsum("bcshw,bthws->bcthw", v, time) + torch.einsum("bctiw,bthwi->bcthw", v, column)
        return x + self.gamma * (attended + torch.einsum("bcthj,bthwj->bcthw", v, row))

    def _itself(self, length: int, like: Tensor) -> Tensor:
        return torch.full((length,), -torch.inf, dtype=like.dtype, device=like.device).diag()
