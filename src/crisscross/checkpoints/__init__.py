"""Reading and writing weights."""

from crisscross.checkpoints.hub.repositories import from_pretrained, push_to_hub, save_pretrained
from crisscross.checkpoints.loading import build, load
from crisscross.checkpoints.native import save

__all__ = ["build", "from_pretrained", "load", "push_to_hub", "save", "save_pretrained"]
