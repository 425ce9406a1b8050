"""From feature maps to class logits, as published (mmsegmentation's CCHead and FCNHead)."""

import torch
from torch import Tensor, nn

from crisscross.layers import ConvNormAct, RecurrentCrissCrossAttention

# Activations around the attention and everywhere else, where a name stands for two.
ACTIVATIONS_OF = {"leaky_attention": ("leaky_relu", "relu")}


def activations(name: str) -> tuple[str, str]:
    """The activations around the attention and everywhere else, of a name of `ModelConfig.activation`."""
    return ACTIVATIONS_OF.get(name, (name, name))


def classifier(channels: int, classes: int) -> nn.Conv2d:
    """A 1 x 1 convolution to `classes`, initialized as the published classifiers are."""
    layer = nn.Conv2d(channels, classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class CrissCrossContext(nn.Module):
    """Reduce, attend R times with shared weights, refine, join the untouched features: CCNet up to its classifier.

    Args:
        in_channels: channels of the backbone's last feature map.
        channels: width of the result (512 as published).
        recurrence: R; 0 leaves the attention out and keeps everything else.
        reduction: divides `channels` for query and key.
        activation: `relu` or `leaky_relu` for the whole head; `leaky_attention` is leaky in the two convolutions around
            the attention and ReLU after the join, as in PaddleSeg.
        norm: `batch` or `absolute`, see `ConvNormAct`.
        fuse_bias: whether the 3 x 3 convolution after the join has a bias.

    Maps [B, in_channels, h, w] to features [B, channels, h, w].
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        recurrence: int,
        reduction: int,
        activation: str = "relu",
        norm: str = "batch",
        fuse_bias: bool = False,
    ) -> None:
        super().__init__()
        around, after = activations(activation)
        self.reduce = ConvNormAct(in_channels, channels, norm=norm, activation=around)
        self.attend: nn.Module = nn.Identity()
        if recurrence:
            self.attend = RecurrentCrissCrossAttention(channels, recurrence, reduction)
        self.refine = ConvNormAct(channels, channels, norm=norm, activation=around)
        self.fuse = ConvNormAct(in_channels + channels, channels, norm=norm, activation=after, bias=fuse_bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] -> features [B, channels, h, w]."""
        return self.joined(x, self.attended(x))

    def attended(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] -> what comes out of the attention, [B, channels, h, w]."""
        return self.attend(self.reduce(x))

    def joined(self, x: Tensor, attended: Tensor) -> Tensor:
        """Features [B, channels, h, w] of untouched ones and of what the attention made of them."""
        # The untouched features come first: the published weights depend on this order.
        return self.fuse(torch.cat([x, self.refine(attended)], dim=1))


class CrissCrossHead(CrissCrossContext):
    """The CCNet head: `CrissCrossContext` and a classifier; [B, in_channels, h, w] -> logits [B, K, h, w].

    Args:
        in_channels: channels of the backbone's last feature map.
        classes: number of classes K.
        channels: width of the head (512 as published).
        recurrence: R; 0 leaves the attention out and keeps everything else.
        reduction: divides `channels` for query and key.
        dropout: share of channels dropped before the classifier.
        activation: see there.
        norm: see there.
        fuse_bias: see there.
        embedding: channels of `embed`, which the category-consistent loss reads in training; 0 = there is none.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        channels: int,
        recurrence: int,
        reduction: int,
        dropout: float,
        activation: str = "relu",
        norm: str = "batch",
        fuse_bias: bool = False,
        embedding: int = 0,
    ) -> None:
        super().__init__(in_channels, channels, recurrence, reduction, activation, norm, fuse_bias)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = classifier(channels, classes)
        self.embed = nn.Conv2d(channels, embedding, 1) if embedding else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, h, w] -> logits [B, K, h, w]."""
        return self.logits(x, self.attended(x))

    def logits(self, x: Tensor, attended: Tensor) -> Tensor:
        """Logits [B, K, h, w] of features and what the attention made of them."""
        return self.classify(self.dropout(self.joined(x, attended)))


class AuxiliaryHead(nn.Module):
    """The FCN head on the last feature map but one, used in training only: [B, in, h, w] -> logits [B, K, h, w].

    `activation` and `norm` are as in `CrissCrossHead`; `bias` is that of the 3 x 3 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        channels: int,
        dropout: float,
        activation: str = "relu",
        norm: str = "batch",
        bias: bool = False,
    ) -> None:
        super().__init__()
        after = activations(activation)[1]
        self.reduce = ConvNormAct(in_channels, channels, norm=norm, activation=after, bias=bias)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = classifier(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, h, w] -> logits [B, K, h, w]."""
        return self.classify(self.dropout(self.reduce(x)))
