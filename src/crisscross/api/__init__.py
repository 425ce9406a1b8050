"""The commands `train`, `evaluate` and `predict` as functions: a command reads its words and calls one of these."""

from crisscross.api.evaluating import evaluate
from crisscross.api.predicting import predict
from crisscross.api.training import Run, train

__all__ = ["Run", "evaluate", "predict", "train"]
