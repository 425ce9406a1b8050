"""The key adapter for MMSegmentation's CCNet checkpoints (0.x and 1.x)."""

from collections.abc import Mapping

from torch import Tensor

from crisscross.config import DataConfig, Experiment, ModelConfig
from crisscross.data.palette import default_palette

# Their prefix -> ours, longest first where one begins another.
STEM = {
    "stem.0.": "conv1.0.",
    "stem.1.": "conv1.1.",
    "stem.3.": "conv1.3.",
    "stem.4.": "conv1.4.",
    "stem.6.": "conv1.6.",
}
STEM |= {"stem.7.": "bn1."}
HEAD = {
    "convs.0.conv.": "reduce.conv.",
    "convs.0.bn.": "reduce.norm.",
    "cca.query_conv.": "attend.attention.query.",
    "cca.key_conv.": "attend.attention.key.",
    "cca.value_conv.": "attend.attention.value.",
    "cca.gamma.scale": "attend.attention.gamma",
    "convs.1.conv.": "refine.conv.",
    "convs.1.bn.": "refine.norm.",
    "conv_cat.conv.": "fuse.conv.",
    "conv_cat.bn.": "fuse.norm.",
    "conv_seg.": "classify.",
}
# Where each part of their network goes in ours, and how its names change.
PARTS = {"backbone.": ("backbone.net.", STEM), "decode_head.": ("head.", HEAD), "auxiliary_head.": ("aux_head.", HEAD)}
# Blocks in layer 3 -> the timm network of that depth.
BACKBONES = {6: "resnet50c", 23: "resnet101c"}


def recognises(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is MMSegmentation's CCNet."""
    needed = ("decode_head.cca.query_conv.weight", "decode_head.conv_seg.weight", "backbone.stem.0.weight")
    return all(key in tensors for key in needed) and any(key.startswith("backbone.layer3.") for key in tensors)


def rename(key: str) -> str:
    """Our name of one of their tensors; unknown names are kept."""
    for part, (ours, table) in PARTS.items():
        if key.startswith(part):
            rest = key.removeprefix(part)
            for theirs, new in table.items():
                if rest.startswith(theirs):
                    return ours + new + rest.removeprefix(theirs)
            return ours + rest
    return key


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Experiment]:
    """Their state dict in our names, and the experiment that its shapes tell.

    The shapes do not tell recurrence (2 as published) and `align_corners` (true in the 769 x 769 configurations only):
    override them where they differ. Class names are numbers until the caller gives better ones.
    """
    blocks = 1 + max(int(key.split(".")[2]) for key in tensors if key.startswith("backbone.layer3."))
    query, seg = tensors["decode_head.cca.query_conv.weight"], tensors["decode_head.conv_seg.weight"]
    aux = tensors.get("auxiliary_head.conv_seg.weight")
    model = ModelConfig(
        backbone=BACKBONES.get(blocks, f"resnet with {blocks} blocks in layer 3"),
        channels=query.shape[1],
        reduction=query.shape[1] // query.shape[0],
        aux_channels=0 if aux is None else aux.shape[1],
    )
    classes = tuple(f"class {index}" for index in range(seg.shape[0]))
    data = DataConfig(classes=classes, palette=default_palette(len(classes)))
    return {rename(key): value for key, value in tensors.items()}, Experiment("mmseg ccnet", model, data)
