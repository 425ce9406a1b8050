"""The key adapter for MMSegmentation's CCNet: 0.x, 1.x and its fork onedl-mmsegmentation, which share their names."""

from collections.abc import Mapping

from torch import Tensor

from crisscross.checkpoints.publishers.renaming import Names, describe, our_tensors, their_tensors
from crisscross.config import Experiment

TITLE = "MMSegmentation"
NAMES = Names(
    {
        "first": "backbone.stem.0.",
        "first norm": "backbone.stem.1.",
        "second": "backbone.stem.3.",
        "second norm": "backbone.stem.4.",
        "third": "backbone.stem.6.",
        "third norm": "backbone.stem.7.",
        "reduce": "decode_head.convs.0.conv.",
        "reduce norm": "decode_head.convs.0.bn.",
        "query": "decode_head.cca.query_conv.",
        "key": "decode_head.cca.key_conv.",
        "value": "decode_head.cca.value_conv.",
        "gamma": "decode_head.cca.gamma.scale",
        "refine": "decode_head.convs.1.conv.",
        "refine norm": "decode_head.convs.1.bn.",
        "fuse": "decode_head.conv_cat.conv.",
        "fuse norm": "decode_head.conv_cat.bn.",
        "classify": "decode_head.conv_seg.",
        "aux": "auxiliary_head.convs.0.conv.",
        "aux norm": "auxiliary_head.convs.0.bn.",
        "aux classify": "auxiliary_head.conv_seg.",
    },
    {"backbone.": "backbone.net.", "decode_head.": "head.", "auxiliary_head.": "aux_head."},
)
# Blocks in layer 3 -> the timm network of that depth.
BACKBONES = {6: "resnet50c", 23: "resnet101c"}
EXPERIMENT = Experiment("mmseg ccnet")
# Buffers of the input's normalization, and MMCV 0.x's copies of weights averaged over time.
IGNORED = ("data_preprocessor.", "ema_")


def recognizes(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is MMSegmentation's CCNet, or the greater part of one."""
    return any(key.startswith("decode_head.cca.") for key in tensors)


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Experiment]:
    """Their state dict in our names, and the experiment that its shapes tell.

    The shapes do not tell recurrence (2 as published) and `align_corners` (true in the 769 x 769 configurations only):
    the file's metadata may; override them where they differ. Class names are numbers until somebody gives better ones.

    Raises:
        CrissCrossError: a tensor that tells the configuration is missing.
    """
    kept = {key: value for key, value in tensors.items() if not key.startswith(IGNORED)}
    return our_tensors(kept, NAMES), describe(kept, NAMES, "backbone.layer3.", BACKBONES, EXPERIMENT)


def back(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict in their names."""
    return their_tensors(tensors, NAMES, gamma=(), counters=True)
