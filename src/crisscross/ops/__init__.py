"""How criss-cross attention is computed. Imports torch and nothing of ours."""

from crisscross.ops.dispatch import BACKENDS, criss_cross_attention
from crisscross.ops.reference import criss_cross_attention_reference

__all__ = ["BACKENDS", "criss_cross_attention", "criss_cross_attention_reference"]
