"""What has weights and a shape. Needs torch alone."""

from crisscross.layers.attention import CrissCrossAttention, RecurrentCrissCrossAttention, relative_position_bias
from crisscross.layers.conv import ConvNormAct

__all__ = ["ConvNormAct", "CrissCrossAttention", "RecurrentCrissCrossAttention", "relative_position_bias"]
