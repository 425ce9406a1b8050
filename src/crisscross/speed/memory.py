"""What a training step keeps for its backward pass: `train.memory` in a network."""

from torch import nn

from crisscross.config import TrainConfig
from crisscross.layers import CrissCrossAttention
from crisscross.models.segmenter import Segmenter
from crisscross.speed.lean import make_lean
from crisscross.speed.recompute import recompute_backbone, recompute_in_backward
from crisscross.speed.winograd_layers import train_by_winograd


def apply_memory(segmenter: Segmenter, train: TrainConfig) -> str:
    """Let the network's training steps keep what `train.memory` says, and use Winograd if `train.winograd` says so.

    | `train.memory` | backbone and heads | attention |
    |---|---|---|
    | `fast` | what PyTorch keeps | `fast` |
    | `lean` | without the results of batch norms, activations and residual sums (`make_lean`) | `lean` |
    | `recompute` | the inputs of blocks and heads, which run twice (`recompute_segmenter`) | `fast` |

    Returns:
        One line to show if this network has parts that the setting does not reach, or "".
    """
    for module in segmenter.modules():
        if isinstance(module, CrissCrossAttention):
            module.memory = "lean" if train.memory == "lean" else "fast"
    if train.memory == "recompute":
        recompute_segmenter(segmenter)
    if train.memory == "lean":
        make_lean(segmenter)
    if train.winograd:
        train_by_winograd(segmenter)
    synchronized = sum(isinstance(module, nn.SyncBatchNorm) for module in segmenter.modules())
    if train.memory != "lean" or not synchronized:
        return ""
    return (
        f"train.memory=lean has no effect on {synchronized} synchronized batch norms; "
        "set train.batch_norm=train to save their memory, too"
    )


def recompute_segmenter(segmenter: Segmenter) -> list[nn.Module]:
    """Let the backbone's blocks and the heads run again in the backward pass; returns them: they keep their inputs."""
    heads = [head for head in (segmenter.head, segmenter.aux_head) if head is not None]
    for head in heads:
        recompute_in_backward(head)
    return [*recompute_backbone(segmenter.backbone.net), *heads]
