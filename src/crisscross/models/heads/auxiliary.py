"""The auxiliary head (MMSegmentation's FCNHead), which training alone uses."""

from torch import Tensor, nn

from crisscross.config.heads import AuxHeadConfig
from crisscross.config.variants import Variant
from crisscross.layers import ConvNormAct
from crisscross.models.heads.contract import classifier


class AuxiliaryHead(nn.Module):
    """One 3 x 3 convolution and a classifier on the last feature map but one: [B, in, h, w] -> logits [B, K, h, w]."""

    classifiers = ("classify",)

    def __init__(self, config: AuxHeadConfig, in_channels: int, classes: int, variant: Variant) -> None:
        super().__init__()
        self.reduce = ConvNormAct(
            in_channels, config.channels, norm=variant.norm, activation=variant.after, bias=variant.aux_bias
        )
        self.dropout = nn.Dropout2d(config.dropout)
        self.classify = classifier(config.channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, h, w] -> logits [B, K, h, w]."""
        return self.classify(self.dropout(self.reduce(x)))
