"""The layers that networks are made of. Needs torch alone."""

from crisscross.layers.attention import (
    CrissCrossAttention,
    CrissCrossAttention3d,
    RecurrentCrissCrossAttention,
    RecurrentCrissCrossAttention3d,
    attention_layers,
    relative_position_bias,
)
from crisscross.layers.conv import ConvNormAct
from crisscross.layers.norm import AbsoluteBatchNorm2d

__all__ = [
    "AbsoluteBatchNorm2d",
    "ConvNormAct",
    "CrissCrossAttention",
    "CrissCrossAttention3d",
    "RecurrentCrissCrossAttention",
    "RecurrentCrissCrossAttention3d",
    "attention_layers",
    "relative_position_bias",
]
