"""What a network attends to, and what its attention changes."""

from crisscross.explanation.attention import LayerAttention
from crisscross.explanation.drawing import figure
from crisscross.explanation.findings import LayerSurvey, PassSpread, Survey
from crisscross.explanation.heat import heat_map, mark
from crisscross.explanation.pixel import Explanation, explain
from crisscross.explanation.survey import survey_network

__all__ = [
    "Explanation",
    "LayerAttention",
    "LayerSurvey",
    "PassSpread",
    "Survey",
    "explain",
    "figure",
    "heat_map",
    "mark",
    "survey_network",
]
