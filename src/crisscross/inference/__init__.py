"""How images and videos are labeled, for any function that gives coarse logits, in NumPy or in torch."""

from crisscross.inference.card import Card
from crisscross.inference.prediction import Prediction
from crisscross.inference.predictor import Predictor, predictor_of
from crisscross.inference.stages import Stages
from crisscross.inference.tiles import BLOCK, OVERLAP

__all__ = ["BLOCK", "OVERLAP", "Card", "Prediction", "Predictor", "Stages", "predictor_of"]
