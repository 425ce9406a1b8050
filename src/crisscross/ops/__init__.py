"""How criss-cross attention is computed. Imports torch and nothing of ours."""

from crisscross.ops.block import Weights
from crisscross.ops.dispatch import BACKENDS, MEMORY, check_reach, criss_cross_attention, criss_cross_block
from crisscross.ops.reference import criss_cross_attention_reference

__all__ = [
    "BACKENDS",
    "MEMORY",
    "Weights",
    "check_reach",
    "criss_cross_attention",
    "criss_cross_attention_reference",
    "criss_cross_block",
]
