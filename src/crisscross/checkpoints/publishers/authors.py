"""The key adapter for the authors' own repository (speedinghzl/CCNet)."""

from collections.abc import Mapping

from torch import Tensor

from crisscross.checkpoints.publishers.renaming import Names, describe, our_tensors, their_tensors
from crisscross.config import Experiment, InferenceConfig, ModelConfig, PreprocessConfig

TITLE = "the authors' repository"
NAMES = Names(
    {
        "first": "conv1.",
        "first norm": "bn1.",
        "second": "conv2.",
        "second norm": "bn2.",
        "third": "conv3.",
        "third norm": "bn3.",
        "reduce": "head.conva.0.",
        "reduce norm": "head.conva.1.",
        "query": "head.cca.query_conv.",
        "key": "head.cca.key_conv.",
        "value": "head.cca.value_conv.",
        "gamma": "head.cca.gamma",
        "refine": "head.convb.0.",
        "refine norm": "head.convb.1.",
        "fuse": "head.bottleneck.0.",
        "fuse norm": "head.bottleneck.1.",
        "classify": "head.bottleneck.3.",
        "aux": "dsn.0.",
        "aux norm": "dsn.1.",
        "aux classify": "dsn.3.",
    },
    {f"layer{stage}.": f"backbone.net.layer{stage}." for stage in range(1, 5)},
)
# Blocks in layer 3 -> the timm network of that depth with a stem of 64, 64 and 128 channels.
BACKBONES = {6: "resnet50s", 23: "resnet101s"}
EXPERIMENT = Experiment(
    "authors ccnet",
    ModelConfig(align_corners=True, variant="authors"),
    # Minus the mean color, blue first, and no division.
    preprocess=PreprocessConfig(
        mean=(104.00698793, 116.66876762, 122.67891434),
        std=(1.0, 1.0, 1.0),
        order="bgr",
    ),
    inference=InferenceConfig(mode="slide", window=(769, 769), stride=(513, 513)),
)


def recognizes(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is the authors' CCNet, or the greater part of one."""
    return "head.cca.query_conv.weight" in tensors or any(key.startswith("head.conva.0.") for key in tensors)


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Experiment]:
    """Their state dict in our names, and the experiment that its shapes tell.

    The shapes do not tell the recurrence: 2 in the released models.

    Raises:
        CrissCrossError: a tensor that tells the configuration is missing.
    """
    return our_tensors(tensors, NAMES), describe(tensors, NAMES, "layer3.", BACKBONES, EXPERIMENT)


def back(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict in their names: gamma of shape [1], and no counters of batches."""
    return their_tensors(tensors, NAMES, gamma=(1,), counters=False)
