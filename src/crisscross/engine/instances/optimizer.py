"""Learning rate by iteration and by parameter."""

from typing import Any

import torch
from torch import nn

from crisscross.config.instances import PUBLISHED_BATCH, PUBLISHED_RATE, InstanceExperiment, InstanceOptimConfig
from crisscross.engine.optimizer import FACTOR
from crisscross.models.instances import InstanceSegmenter

# What the warm-up begins with, of the whole rate.
COLD = 1e-3


def learning_rate(config: InstanceOptimConfig, iteration: int) -> float:
    """The rate of an iteration counted from 0: a linear rise, then a factor of `gamma` at every step."""
    passed = sum(iteration >= step for step in config.steps)
    rise = min(iteration / config.warmup, 1.0) if config.warmup else 1.0
    return config.lr * config.gamma**passed * (COLD + (1 - COLD) * rise)


def create_optimizer(config: InstanceOptimConfig, network: InstanceSegmenter) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over everything that learns; the ResNet's own stages at their share of the rate."""
    body = {id(p) for name, p in network.backbone.body.named_parameters() if ".attention." not in name}
    groups: list[dict[str, Any]] = []
    for inside, factor in ((True, config.backbone_factor), (False, 1.0)):
        chosen: list[nn.Parameter] = [p for p in network.parameters() if p.requires_grad and (id(p) in body) == inside]
        groups += [{"params": chosen, FACTOR: factor}] if chosen else []
    if config.name == "adamw":
        return torch.optim.AdamW(groups, config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(groups, config.lr, config.momentum, weight_decay=config.weight_decay)


def scaling_advice(experiment: InstanceExperiment) -> str:
    """A line where the published rate meets another number of images than its own, else ""."""
    optim, batch = experiment.optim, experiment.train.batch
    if optim.name != "sgd" or optim.lr != PUBLISHED_RATE or batch == PUBLISHED_BATCH:
        return ""
    scaled = PUBLISHED_RATE * batch / PUBLISHED_BATCH
    return (
        f"optim.lr={optim.lr:g} is published for {PUBLISHED_BATCH} images a step, train.batch is {batch}: the linear "
        f"rule would give --set optim.lr={scaled:g}; nothing is scaled by itself"
    )
