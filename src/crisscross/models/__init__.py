"""Whole systems: pictures in, labels out."""

from crisscross.models.segmenter import Logits, Prediction, Segmenter

__all__ = ["Logits", "Prediction", "Segmenter"]
