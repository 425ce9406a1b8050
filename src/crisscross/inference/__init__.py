"""How a whole image is labeled, for any function that gives coarse logits."""

from crisscross.inference.passes import CoarseOf, Pass, run_pass, window_starts
from crisscross.inference.pixels import labels, logits, probabilities
from crisscross.inference.tiles import BLOCK, OVERLAP, Block, blocks

__all__ = [
    "BLOCK",
    "OVERLAP",
    "Block",
    "CoarseOf",
    "Pass",
    "blocks",
    "labels",
    "logits",
    "probabilities",
    "run_pass",
    "window_starts",
]
