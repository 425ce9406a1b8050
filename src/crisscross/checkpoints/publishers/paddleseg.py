"""The key adapter for PaddleSeg's CCNet: a ResNet-D, biases in two places, a leaky ReLU around the attention."""

from collections.abc import Mapping

from torch import Tensor

from crisscross.checkpoints.publishers.renaming import Names, describe, our_tensors
from crisscross.config import Experiment, ModelConfig, PreprocessConfig

TITLE = "PaddleSeg"
# Blocks in the third stage -> timm's ResNet-D of that depth.
BACKBONES = {6: "resnet50d", 23: "resnet101d"}
STAGES, BLOCKS = 4, max(BACKBONES)
# Parts of their residual block -> of timm's, whose shortcut has its average first.
BLOCK_PARTS = {f"conv{number}._conv.": f"conv{number + 1}." for number in range(3)}
BLOCK_PARTS |= {f"conv{number}._batch_norm.": f"bn{number + 1}." for number in range(3)}
BLOCK_PARTS |= {"short._conv.": "downsample.1.", "short._batch_norm.": "downsample.2."}
NAMES = Names(
    {
        "first": "backbone.conv1_1._conv.",
        "first norm": "backbone.conv1_1._batch_norm.",
        "second": "backbone.conv1_2._conv.",
        "second norm": "backbone.conv1_2._batch_norm.",
        "third": "backbone.conv1_3._conv.",
        "third norm": "backbone.conv1_3._batch_norm.",
        "reduce": "head.conva._conv.",
        "reduce norm": "head.conva._batch_norm.",
        "query": "head.cca.q_conv.",
        "key": "head.cca.k_conv.",
        "value": "head.cca.v_conv.",
        "gamma": "head.cca.gamma",
        "refine": "head.convb._conv.",
        "refine norm": "head.convb._batch_norm.",
        "fuse": "head.out.conv_bn_relu._conv.",
        "fuse norm": "head.out.conv_bn_relu._batch_norm.",
        "classify": "head.out.conv.",
        "aux": "aux_head.conv_bn_relu._conv.",
        "aux norm": "aux_head.conv_bn_relu._batch_norm.",
        "aux classify": "aux_head.conv.",
    },
    {
        f"backbone.bb_{stage}_{block}.{theirs}": f"backbone.net.layer{stage + 1}.{block}.{ours}"
        for stage in range(STAGES)
        for block in range(BLOCKS)
        for theirs, ours in BLOCK_PARTS.items()
    },
    {"_mean": "running_mean", "_variance": "running_var"},
)
EXPERIMENT = Experiment(
    "paddleseg ccnet",
    ModelConfig(variant="paddleseg"),
    # Their default of (x / 255 - 0.5) / 0.5, on red, green and blue.
    preprocess=PreprocessConfig(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
)


def recognizes(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is PaddleSeg's CCNet, or the greater part of one."""
    return "head.cca.q_conv.weight" in tensors or any(key.startswith("head.conva._conv.") for key in tensors)


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Experiment]:
    """Their state dict in our names, and the experiment that its shapes tell.

    The shapes do not tell the recurrence: 2 in their configuration.

    Raises:
        CrissCrossError: a tensor that tells the configuration is missing.
    """
    return our_tensors(tensors, NAMES), describe(tensors, NAMES, "backbone.bb_2_", BACKBONES, EXPERIMENT)
