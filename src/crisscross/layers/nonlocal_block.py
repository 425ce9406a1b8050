"""The non-local block that criss-cross attention is compared with: every position attends to every other."""

import torch
from torch import Tensor, nn


class NonLocalBlock(nn.Module):
    """x + output(softmax(query . key) value), over all H x W positions (Wang et al. 2018, embedded Gaussian).

    Query, key and value are 1 x 1 convolutions to half the channels. The 1 x 1 convolution back starts at zero, so that
    the block starts as the identity. Time and memory grow with the square of H x W.

    Args:
        channels: C of the input [B, C, H, W]; the output has the same shape.
        reduction: divides C for query, key and value.

    Raises:
        ValueError: `channels` is smaller than `reduction`.
    """

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction must lie in 1..channels, got {reduction} and {channels}")
        inner = channels // reduction
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.output = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.output.weight)
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        query, key, value = (layer(x).flatten(2).transpose(1, 2) for layer in (self.query, self.key, self.value))
        # As published, the logits are not divided by the square root of the channels.
        attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.output(attended.transpose(1, 2).unflatten(2, x.shape[-2:]))
