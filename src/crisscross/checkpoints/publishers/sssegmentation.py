"""The key adapter for SSSegmentation's CCNet (SegmentationBLWX/sssegmentation)."""

from collections.abc import Mapping

from torch import Tensor

from crisscross.checkpoints.publishers.mmseg import BACKBONES
from crisscross.checkpoints.publishers.renaming import Names, describe, our_tensors
from crisscross.config import Experiment

TITLE = "SSSegmentation"
NAMES = Names(
    {
        "first": "backbone_net.stem.0.",
        "first norm": "backbone_net.stem.1.",
        "second": "backbone_net.stem.3.",
        "second norm": "backbone_net.stem.4.",
        "third": "backbone_net.stem.6.",
        "third norm": "backbone_net.stem.7.",
        "reduce": "conv_before_cca.0.",
        "reduce norm": "conv_before_cca.1.",
        "query": "cca.query_conv.",
        "key": "cca.key_conv.",
        "value": "cca.value_conv.",
        "gamma": "cca.gamma.scale",
        "refine": "conv_after_cca.0.",
        "refine norm": "conv_after_cca.1.",
        "fuse": "decoder.0.",
        "fuse norm": "decoder.1.",
        "classify": "decoder.4.",
        "aux": "auxiliary_decoder.0.",
        "aux norm": "auxiliary_decoder.1.",
        "aux classify": "auxiliary_decoder.4.",
    },
    {"backbone_net.": "backbone.net."},
)
EXPERIMENT = Experiment("sssegmentation ccnet")


def recognizes(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is SSSegmentation's CCNet, or the greater part of one."""
    return any(key.startswith(("conv_before_cca.", "conv_after_cca.")) for key in tensors)


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Experiment]:
    """Their state dict in our names, and the experiment that its shapes tell.

    The shapes do not tell recurrence (2 in their configurations) and the output stride: 8, or 16 in the `os16` ones.

    Raises:
        CrissCrossError: a tensor that tells the configuration is missing.
    """
    return our_tensors(tensors, NAMES), describe(tensors, NAMES, "backbone_net.layer3.", BACKBONES, EXPERIMENT)
