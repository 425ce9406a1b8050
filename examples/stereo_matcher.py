"""A stereo matcher whose cost volume is row-only attention: the left image asks, the right one answers.

    python examples/stereo_matcher.py

In a rectified pair a point lies on the same row of both images. Queries come from the left and keys from the right
features; the values are the columns of the right image, so attention gives the column where the match is expected.
"""

import torch
from torch import Tensor, nn

import crisscross

HEIGHT, WIDTH, LARGEST = 32, 64, 12


def draw_pair(count: int, chance: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right images [B, 3, H, W] and the disparity [B, 1, H, W]: a near box before a far, sloping wall."""
    right = torch.rand(count, 3, HEIGHT, WIDTH, generator=chance)
    row, column = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    disparity = torch.empty(count, HEIGHT, WIDTH)
    for wall in disparity:
        far, top, left = (int(torch.randint(1, high, (), generator=chance)) for high in (5, 16, 40))
        wall[:] = far + row // 12
        box = (row >= top) & (row < top + 14) & (column >= left) & (column < left + 20)
        wall[box] = LARGEST - far
    # A left pixel shows what the right image has `disparity` columns further left.
    source = (column - disparity).long().clamp(min=0)
    left_image = right.gather(3, source[:, None].expand(-1, 3, -1, -1))
    noise = 0.05 * torch.randn(left_image.shape, generator=chance)
    return left_image + noise, right, disparity[:, None]


class Matcher(nn.Module):
    """The same features of both images, compared along rows."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Disparity [B, 1, H, W] in columns."""
        column = torch.arange(left.shape[-1], dtype=left.dtype).expand(len(left), 1, *left.shape[-2:])
        match = crisscross.criss_cross_attention(self.features(left), self.features(right), column, axis="row")
        return column - match


def end_point_error(matcher: Matcher, left: Tensor, right: Tensor, disparity: Tensor) -> float:
    """Mean error in columns; further left than `LARGEST` a point may lie outside the right image."""
    with torch.no_grad():
        return (matcher(left, right) - disparity)[..., LARGEST:].abs().mean().item()


torch.manual_seed(0)
chance = torch.Generator().manual_seed(0)
unseen = draw_pair(16, chance)
matcher = Matcher()
before = end_point_error(matcher, *unseen)
optimizer = torch.optim.Adam(matcher.parameters(), lr=1e-2)
for _ in range(200):
    left, right, disparity = draw_pair(4, chance)
    optimizer.zero_grad()
    nn.functional.smooth_l1_loss(matcher(left, right)[..., LARGEST:], disparity[..., LARGEST:]).backward()
    optimizer.step()
after = end_point_error(matcher, *unseen)
near = unseen[2][..., LARGEST:]
constant = (near - near.mean()).abs().mean().item()
print(
    f"end-point error on unseen pairs: {before:.2f} columns untrained, {after:.2f} trained; a constant {constant:.2f}"
)
