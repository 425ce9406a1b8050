"""Learning rate by iteration."""

from pathlib import Path
from typing import Any

from crisscross.config import OptimConfig
from crisscross.engine.task import AnyExperiment
from crisscross.errors import CrissCrossError

# What the warm-up begins with, of the whole rate: the start_factor of MMSegmentation's recipes.
COLD = 1e-6
# The same of the `steps` schedule, as Detectron and torchvision train Mask R-CNN.
COLD_STEPS = 1e-3
# Stands in checkpoints; runs with a warm-up that do not say so were started under an earlier rule.
WARMUP_RULE = "linear, then polynomial"


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
        return config.lr * config.gamma**passed * (COLD_STEPS + (1 - COLD_STEPS) * rise)
    if iteration < warmup:
        return config.lr * (COLD + (1 - COLD) * iteration / max(warmup - 1, 1))
    left = 1 - min((iteration - warmup) / max(iterations - warmup - 1, 1), 1)
    return config.eta_min + (config.lr - config.eta_min) * left**config.power


def warmup_facts(config: OptimConfig) -> dict[str, Any]:
    """What the checkpoints of a new run say of its warm-up."""
    return {"warmup": WARMUP_RULE} if config.warmup else {}


def check_warmup(folder: Path, experiment: AnyExperiment, iteration: int, facts: dict[str, Any]) -> None:
    """Refuse to continue a run whose first part had a warm-up by an earlier rule.

    Args:
        folder: of the run, for the message.
        experiment: what is resumed.
        iteration: finished iterations; a run that has reached its end goes by no rule any more.
        facts: those of its checkpoint.

    Raises:
        CrissCrossError: it had.
    """
    warmup = experiment.optim.warmup if experiment.optim.schedule == "poly" else 0
    if warmup and iteration < experiment.train.iterations and facts.get("warmup") != WARMUP_RULE:
        raise CrissCrossError(
            f"{folder}: was started under an earlier rule of optim.warmup={warmup} and cannot be continued under this "
            f"one; start it again in another --out, or finish it with the version in {folder / 'run.json'}"
        )
