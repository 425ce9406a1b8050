"""The optimizer, and which learning rate and weight decay each parameter gets."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from crisscross.config import OptimConfig
from crisscross.layers import AbsoluteBatchNorm2d, attention_layers

# Key of a parameter group: its learning rate is the schedule's times this.
FACTOR = "factor"
NORMS = (nn.modules.batchnorm._NormBase, AbsoluteBatchNorm2d, nn.LayerNorm, nn.GroupNorm)


Stages = Sequence[Sequence[nn.Parameter]]


def create_optimizer(config: OptimConfig, network: nn.Module, stages: Stages = ()) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over all parameters that are not frozen; by default one rate and decay for all.

    `stages` are the backbone's parameters from stem to last stage.
    """
    groups = parameter_groups(config, network, stages)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, config.lr, config.momentum, weight_decay=config.weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its part of the schedule's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)


def parameter_groups(config: OptimConfig, network: nn.Module, stages: Stages = ()) -> list[dict[str, Any]]:
    """One group for every pair of learning-rate factor and weight decay that occurs, in the order of first use."""
    factors = {
        parameter: config.backbone_factor * config.layer_decay ** (len(stages) - place)
        for place, stage in enumerate(stages)
        for parameter in stage
    }
    for layer in attention_layers(network).values():
        factors[layer.gamma] = factors.get(layer.gamma, 1.0) * config.gate_factor
    bare = set() if config.decay_norms else _without_decay(network)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            factor, decays = factors.get(parameter, 1.0), parameter not in bare
            group = groups.setdefault((factor, decays), {"params": [], FACTOR: factor})
            group["params"].append(parameter)
            if not decays:
                group["weight_decay"] = 0.0
    return list(groups.values())


def backbone_stages(net: nn.Module) -> list[list[nn.Parameter]]:
    """All parameters of a backbone by its children, from stem to last stage.

    Those of a child that is a norm alone belong to the child before it, those that the backbone holds itself (position
    tables, tokens) to the stem: they come in with the image.
    """
    stages: list[list[nn.Parameter]] = []
    for child in net.children():
        if not (own := list(child.parameters())):
            continue
        if stages and isinstance(child, NORMS):
            stages[-1] += own
        else:
            stages.append(own)
    stages = stages or [[]]
    stages[0] += net.parameters(recurse=False)
    return stages


def _without_decay(network: nn.Module) -> set[nn.Parameter]:
    """Everything in norms, and every other parameter of one dimension or none: biases, scales, gates."""
    in_norms = {p for module in network.modules() if isinstance(module, NORMS) for p in module.parameters()}
    return in_norms | {parameter for parameter in network.parameters() if parameter.dim() <= 1}
