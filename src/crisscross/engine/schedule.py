"""Learning rate by iteration."""

from crisscross.config import OptimConfig


def learning_rate(config: OptimConfig, iteration: int, iterations: int) -> float:
    """The published polynomial schedule in closed form.

    lr(t) = eta_min + (lr - eta_min) * (1 - t / (T - 1)) ** power for t in 0..T-1, so that the last iteration runs at
    exactly eta_min. During the first `warmup` iterations it is multiplied by (t + 1) / (warmup + 1).
    """
    left = 1 - min(iteration / max(iterations - 1, 1), 1)
    rate = config.eta_min + (config.lr - config.eta_min) * left**config.power
    return rate * min((iteration + 1) / (config.warmup + 1), 1)
