"""The length of a training, and the learning rate by iteration."""

from dataclasses import replace
from typing import Any

from crisscross.config import OptimConfig
from crisscross.config.training import in_iterations
from crisscross.engine.task import Start

# The fraction of the learning rate that the warm-up starts from: the start_factor of MMSegmentation's recipes.
POLY_START = 1e-6
# The same for the schedule `steps`, as Detectron and torchvision train Mask R-CNN.
STEPS_START = 1e-3


def learning_rate(config: OptimConfig, iteration: int, iterations: int) -> float:
    """The published polynomial schedule in closed form, after a linear warm-up of `warmup` W iterations.

        t < W:  lr(t) = lr * (c + (1 - c) * t / (W - 1)), c = 1e-6
        t >= W: lr(t) = eta_min + (lr - eta_min) * (1 - (t - W) / (T - W - 1)) ** power

    for t in 0..T-1: the warm-up ends with the whole rate, the first iteration after it has the whole rate too, and the
    last one exactly eta_min. For W other than 1 that is mmengine's LinearLR(start_factor=1e-6, begin=0, end=W) followed
    by PolyLR(begin=W, end=T); for W = 1 mmengine would go on from c * lr, here the second iteration has the whole rate.

    With `schedule: steps`: lr * gamma ** (how many `steps` are up to t) * (c + (1 - c) * min(t / W, 1)), c = 1e-3.
    """
    warmup = config.warmup
    if config.schedule == "steps":
        rise = min(iteration / warmup, 1.0) if warmup else 1.0
        passed = sum(iteration >= step for step in config.steps)
        return config.lr * config.gamma**passed * (STEPS_START + (1 - STEPS_START) * rise)
    if iteration < warmup:
        return config.lr * (POLY_START + (1 - POLY_START) * iteration / max(warmup - 1, 1))
    left = 1 - min((iteration - warmup) / max(iterations - warmup - 1, 1), 1)
    return config.eta_min + (config.lr - config.eta_min) * left**config.power


def with_iterations(experiment: Any, images: int, start: Start) -> tuple[Any, str]:
    """The experiment with the iterations of its epochs over so many images, and a line on a warm-up that they shorten.

    Raises:
        CrissCrossError: as `in_iterations`.
    """
    keep_warmup = start.resume or "optim.warmup" in start.chosen
    optim, train = in_iterations(experiment.optim, experiment.train, images, keep_warmup)
    line = "" if optim == experiment.optim else f"optim.warmup: {optim.warmup}, a tenth of the iterations"
    return replace(experiment, optim=optim, train=train), line
