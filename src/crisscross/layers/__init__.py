"""What has weights and a shape. Needs torch alone."""

from crisscross.layers.attention import CrissCrossAttention, RecurrentCrissCrossAttention, relative_position_bias
from crisscross.layers.conv import ConvNormAct
from crisscross.layers.norm import AbsoluteBatchNorm2d
from crisscross.layers.volume import CrissCrossAttention3d, RecurrentCrissCrossAttention3d

__all__ = [
    "AbsoluteBatchNorm2d",
    "ConvNormAct",
    "CrissCrossAttention",
    "CrissCrossAttention3d",
    "RecurrentCrissCrossAttention",
    "RecurrentCrissCrossAttention3d",
    "relative_position_bias",
]
