"""timm's ResNets with the details of other publishers, see `crisscross.config.variants`."""

from typing import Any

from torch import nn

from crisscross.config.variants import VARIANTS, Variant
from crisscross.errors import CrissCrossError
from crisscross.layers import AbsoluteBatchNorm2d


def apply_variant(net: Any, backbone: str, variant: Variant) -> None:
    """Change a network, in place, as `variant` says; its weights stay those of its tensors.

    Raises:
        CrissCrossError: the variant is not MMSegmentation's, and the network no ResNet that it has a meaning for;
            `backbone` is named.
    """
    if variant == VARIANTS["mmseg"]:
        return
    stages = _stages(net)
    norms: dict[str, Any] = {key: module for key, module in net.named_modules() if type(module) is nn.BatchNorm2d}
    if not stages or not norms or not isinstance(getattr(net, "maxpool", None), nn.MaxPool2d):
        raise CrissCrossError(
            f"model.variant describes a timm ResNet of plain blocks and batch norms, and backbone {backbone} is none: "
            "set model.variant=mmseg"
        )
    if not variant.contract_dilation:
        _dilate_first_blocks(stages)
    if not variant.pool_shortcut:
        _unpool_shortcuts(stages)
    net.maxpool.ceil_mode = variant.ceil_pool
    if variant.norm == "absolute":
        for key, old in norms.items():
            new = AbsoluteBatchNorm2d(old.num_features, old.eps, old.momentum or 0.1)
            new.load_state_dict(old.state_dict())
            net.set_submodule(key, new)


def _stages(net: nn.Module) -> list[list[Any]]:
    """The blocks of each stage of a timm ResNet of plain blocks; none of another network."""
    from timm.models.resnet import BasicBlock, Bottleneck

    stages = [list(child.children()) for key, child in net.named_children() if key.startswith("layer")]
    return stages if all(type(block) in (BasicBlock, Bottleneck) for stage in stages for block in stage) else []


def _dilate_first_blocks(stages: list[list[Any]]) -> None:
    """The stage's full dilation for its first block too, where timm takes that of the stage before."""
    dilation = 1
    for number, stage in enumerate(stages):
        convolutions = [child for child in stage[0].children() if isinstance(child, nn.Conv2d)]
        # From the second stage on, one that does not stride dilates instead.
        if number and all(conv.stride == (1, 1) for conv in convolutions):
            dilation *= 2
        for conv in convolutions:
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (dilation, dilation)


def _unpool_shortcuts(stages: list[list[Any]]) -> None:
    """No average in the shortcuts of dilated stages of a ResNet-D; other ResNets have none."""
    shortcuts = [block.downsample for stage in stages for block in stage if isinstance(block.downsample, nn.Sequential)]
    for shortcut in shortcuts:
        if isinstance(shortcut[0], nn.AvgPool2d) and shortcut[0].stride in (1, (1, 1)):
            shortcut[0] = nn.Identity()
