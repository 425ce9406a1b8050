"""Criss-cross attention inside another network, and how far one pass and two passes reach.

    python examples/attention_in_your_network.py

Needs torch and `crisscross.layers`, nothing else.
"""

import torch
from torch import Tensor, nn

from crisscross.layers import RecurrentCrissCrossAttention


class SmallNet(nn.Module):
    """Two convolutions with attention between them."""

    def __init__(self, recurrence: int) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 32, 1)
        self.attend = RecurrentCrissCrossAttention(32, recurrence)
        self.after = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.attend(self.before(x)))


def reach(recurrence: int, height: int = 9, width: int = 12) -> Tensor:
    """Which input positions the output at (4, 5) depends on: a boolean [height, width]."""
    torch.manual_seed(0)
    net = SmallNet(recurrence).double()
    # The gate starts at 0, where the layer is the identity; training opens it.
    nn.init.ones_(net.attend.attention.gamma)
    x = torch.randn(1, 3, height, width, dtype=torch.float64, requires_grad=True)
    net(x)[0, :, 4, 5].sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().sum(0) > 0


if __name__ == "__main__":
    for recurrence in (1, 2):
        seen = reach(recurrence)
        print(f"R = {recurrence}: the output at (4, 5) sees {int(seen.sum())} of {seen.numel()} positions")
        print("\n".join("  " + "".join("#" if value else "." for value in row) for row in seen.tolist()))
