"""What a training step keeps for its backward pass: `train.memory` in a network."""

from torch import nn

from crisscross.config import TrainConfig
from crisscross.errors import CrissCrossError
from crisscross.layers import CrissCrossAttention
from crisscross.speed.lean import make_lean
from crisscross.speed.recompute import recompute_backbone, recompute_in_backward
from crisscross.speed.winograd_layers import train_by_winograd


def apply_memory(network: nn.Module, train: TrainConfig) -> str:
    """Let the network's training steps keep what `train.memory` says, and use Winograd if `train.winograd` says so.

    | `train.memory` | backbone and heads | attention |
    |---|---|---|
    | `fast` | what PyTorch keeps | `fast` |
    | `lean` | without the results of batch norms, activations and residual sums (`make_lean`) | `lean` |
    | `recompute` | the inputs of blocks and heads, which run twice (`recompute_network`) | `fast` |

    Returns:
        One line to show if a setting does not reach this network, or parts of it, or "".

    Raises:
        CrissCrossError: `recompute` is not available for this network.
    """
    for module in network.modules():
        if isinstance(module, CrissCrossAttention):
            module.memory = "lean" if train.memory == "lean" else "fast"
    if train.memory == "recompute":
        recompute_network(network)
    if train.memory == "lean":
        make_lean(network)
    lines = []
    if train.winograd and not train_by_winograd(network):
        lines.append("train.winograd has no effect: no convolution of this network gains by it")
    synchronized = sum(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
    if train.memory == "lean" and synchronized:
        lines.append(
            f"train.memory=lean has no effect on {synchronized} synchronized batch norms; "
            "set train.batch_norm=train to save their memory, too"
        )
    return "; ".join(lines)


def recompute_network(network: nn.Module) -> list[nn.Module]:
    """Let the backbone's blocks and the heads run again in the backward pass; returns them: they keep their inputs.

    Raises:
        CrissCrossError: the network is not made of `backbone.net` and heads.
    """
    net = getattr(getattr(network, "backbone", None), "net", None)
    if not isinstance(net, nn.Module):
        what = f"train.memory=recompute is not available for a {type(network).__name__}"
        raise CrissCrossError(f"{what}; set train.memory=lean or train.memory=fast")
    heads = [child for name, child in network.named_children() if name != "backbone"]
    for head in heads:
        recompute_in_backward(head)
    return [*recompute_backbone(net), *heads]
