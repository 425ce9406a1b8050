"""What a network attends to, and what its attention changes."""

from crisscross.explanation.attention import LayerAttention
from crisscross.explanation.drawing import figure
from crisscross.explanation.heat import heat_map, mark
from crisscross.explanation.pixel import Explanation, explain

__all__ = ["Explanation", "LayerAttention", "explain", "figure", "heat_map", "mark"]
