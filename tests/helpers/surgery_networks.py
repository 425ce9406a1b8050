"""For the tests of surgery: small networks of other libraries with random weights, and attention by definition."""

import torch
from torch import nn
from truth import loop

from crisscross.surgery import inserted_attention


def literally(inserted, x):
    """The expected output of inserted attention for [B, C, H, W]: projections as sums, then the definition, R times."""
    layer = inserted.attention
    for _ in range(inserted.recurrence):
        q, k, v = (
            torch.einsum("dc,bchw->bdhw", part.weight.flatten(1), x) + part.bias[:, None, None]
            for part in (layer.query, layer.key, layer.value)
        )
        x = x + layer.gamma * loop(q, k, v, torch.zeros_like(v), layer.axis)[0]
    return x


def open_gates(network, value=0.7):
    """Let every inserted attention have a say, in float64 a say that depends on the logits."""
    for inserted in inserted_attention(network).values():
        nn.init.constant_(inserted.attention.gamma, value)
    return network


def draw_norms(network):
    """Norms in evaluation mode that are not the identity: a missing or a doubled one then shows."""
    chance = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=chance)
            module.running_var.uniform_(0.5, 2, generator=chance)
    return network.double().eval()


def residual_network():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return draw_norms(resnet18(num_classes=5))


class Block(nn.Module):
    """Gives what `kind` asks for."""

    def __init__(self, channels, kind):
        super().__init__()
        self.conv, self.kind = nn.Conv2d(channels, channels, 3, padding=1), kind

    def forward(self, x, other=None):
        y = self.conv(x).tanh()
        if other is not None:
            y = y + other
        return {"tensor": y, "tuple": (y, x), "list": [x, y], "dict": {"low": x, "high": y}, "single": (y, None)}[
            self.kind
        ]


# Of what a block gives, the part that the network goes on with.
TAKE = {"tuple": 0, "list": 1, "dict": "high", "single": 0}


class Nested(nn.Module):
    """Parts in a list, in a dict and as attributes; each kind of block passes on its own value."""

    KINDS = ("tensor", "tuple", "list", "dict", "single")

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.parts = nn.ModuleDict({kind: nn.ModuleList([Block(8, kind), Block(8, kind)]) for kind in self.KINDS})
        self.act, self.unused = nn.ReLU(), nn.Conv2d(8, 8, 1)

    def forward(self, x, only=None):
        x = self.stem(x)
        for kind in self.KINDS:
            if only in (None, kind):
                for number, block in enumerate(self.parts[kind]):
                    y = block(x=x) if number else block(x, 0 * x)
                    x = self.act(y if kind == "tensor" else y[TAKE[kind]])
        return x
