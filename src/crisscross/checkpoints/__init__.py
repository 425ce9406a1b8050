"""Weights in and out."""

from crisscross.checkpoints.loading import build, load
from crisscross.checkpoints.native import save

__all__ = ["build", "load", "save"]
