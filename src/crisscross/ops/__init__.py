"""The criss-cross attention operators. Needs torch alone."""

from crisscross.ops.block import Weights
from crisscross.ops.dispatch import BACKENDS, Backend, check_backend, exporting, transforms_active
from crisscross.ops.functions import (
    MEMORY,
    check_reach,
    criss_cross_attention,
    criss_cross_attention_3d,
    criss_cross_block,
)
from crisscross.ops.lines import AXES, Reach, without_autocast
from crisscross.ops.reference import criss_cross_attention_3d_reference, criss_cross_attention_reference

__all__ = [
    "AXES",
    "BACKENDS",
    "MEMORY",
    "Backend",
    "Reach",
    "Weights",
    "check_backend",
    "check_reach",
    "criss_cross_attention",
    "criss_cross_attention_3d",
    "criss_cross_attention_3d_reference",
    "criss_cross_attention_reference",
    "criss_cross_block",
    "exporting",
    "transforms_active",
    "without_autocast",
]
