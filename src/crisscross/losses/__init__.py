"""What training minimizes; docs/losses.md has the formulas and their sources."""

from crisscross.losses.consistency import Consistency, category_consistency
from crisscross.losses.edges import edge_labels
from crisscross.losses.inputs import LossInputs
from crisscross.losses.pixel_losses import cross_entropy
from crisscross.losses.training import Losses, TrainingLoss, create_loss

__all__ = [
    "Consistency",
    "LossInputs",
    "Losses",
    "TrainingLoss",
    "category_consistency",
    "create_loss",
    "cross_entropy",
    "edge_labels",
]
