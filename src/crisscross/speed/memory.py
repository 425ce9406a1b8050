"""What a training step keeps for its backward pass, and what it makes again."""

from torch import nn

from crisscross.config import TrainConfig
from crisscross.errors import CrissCrossError
from crisscross.models.segmenter import Segmenter
from crisscross.speed.lean import make_lean
from crisscross.speed.recompute import recompute_backbone, recompute_in_backward
from crisscross.speed.winograd_train import train_by_winograd


def settle_memory(segmenter: Segmenter, train: TrainConfig, recompute: bool) -> str:
    """Let the network's training steps keep what `train.memory`, `train.winograd` and `--recompute` ask for.

    Returns:
        One line to show of what cannot be had with this network, or "".

    Raises:
        CrissCrossError: both `--recompute` and lean steps are asked for: each would make again what the other keeps.
    """
    if recompute and train.memory != "fast":
        raise CrissCrossError(f"--recompute and train.memory={train.memory} exclude each other: leave one out")
    if recompute:
        save_memory(segmenter)
    if train.memory != "fast":
        make_lean(segmenter)
    if train.winograd:
        train_by_winograd(segmenter)
    synchronized = sum(isinstance(module, nn.SyncBatchNorm) for module in segmenter.modules())
    if train.memory == "fast" or not synchronized:
        return ""
    return (
        f"train.memory={train.memory} is without effect on {synchronized} synchronized batch norms; "
        "set train.batch_norm=train to save their memory, too"
    )


def save_memory(segmenter: Segmenter) -> list[nn.Module]:
    """Let the backbone's blocks and both heads be computed again in the backward pass; returns what keeps its input."""
    heads = [head for head in (segmenter.head, segmenter.aux_head) if head is not None]
    for head in heads:
        recompute_in_backward(head)
    return [*recompute_backbone(segmenter.backbone.net), *heads]
