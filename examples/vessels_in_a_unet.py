"""A U-Net that tells arteries from veins, with criss-cross attention at its bottom and without.

python examples/vessels_in_a_unet.py

As in images of the retina, vessels are long and thin. Here only the root at the left border tells the kind: it is
bright for an artery and dark for a vein. Further right nothing but following the vessel back can tell.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross.surgery import insert_attention

HEIGHT, WIDTH, BATCH, STEPS = 48, 96, 4, 100


def draw(count: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images [B, 1, H, W] and labels [B, H, W]: 0 tissue, 1 artery, 2 vein. Three vessels, none crosses another."""
    column, row = torch.arange(WIDTH), torch.arange(HEIGHT)[:, None]
    images = 0.25 * torch.randn(count, 1, HEIGHT, WIDTH, generator=chance)
    labels = torch.zeros(count, HEIGHT, WIDTH, dtype=torch.long)
    for image, label in zip(images[:, 0], labels, strict=True):
        for lane in range(3):
            phase, pace, kind = torch.rand(3, generator=chance).tolist()
            middle = 8 + 16 * lane + 5 * torch.sin(6.3 * phase + column * (0.03 + 0.05 * pace))
            vessel = (row - middle).abs() < 1.5
            image[vessel] += 1.0
            image[vessel & (column < 8)] += 1.5 if kind < 0.5 else -2.0
            label[vessel] = 1 if kind < 0.5 else 2
    return images, labels


def convolutions(inside: int, outside: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, each with norm and activation."""
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        layers += [nn.Conv2d(channels, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Three sizes, the usual way down and up."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = convolutions(1, 8), convolutions(8, 16), convolutions(16, 32)
        self.up2, self.up1, self.classify = convolutions(48, 16), convolutions(24, 8), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        middle = self.down2(functional.max_pool2d(fine, 2))
        x = self.bottom(functional.max_pool2d(middle, 2))
        x = self.up2(torch.cat([functional.interpolate(x, scale_factor=2), middle], 1))
        return self.classify(self.up1(torch.cat([functional.interpolate(x, scale_factor=2), fine], 1)))


def train(network: nn.Module) -> list[float]:
    """IoU of artery and of vein on images not seen."""
    chance = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(STEPS):
        images, labels = draw(BATCH, chance)
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    images, labels = draw(16, torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = network.eval()(images).argmax(1)
    pairs = [(found == kind, labels == kind) for kind in (1, 2)]
    return [((one & other).sum() / (one | other).sum()).item() for one, other in pairs]


for attention in ("without", "with"):
    torch.manual_seed(0)
    network = UNet()
    if attention == "with":
        insert_attention(network, after="bottom", reduction=4)
    print("{} attention: IoU artery {:.3f}, vein {:.3f}".format(attention, *train(network)))
