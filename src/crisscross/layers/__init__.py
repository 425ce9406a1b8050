"""What has weights and a shape. Needs torch alone."""

from crisscross.layers.attention import CrissCrossAttention, RecurrentCrissCrossAttention
from crisscross.layers.conv import ConvNormAct

__all__ = ["ConvNormAct", "CrissCrossAttention", "RecurrentCrissCrossAttention"]
