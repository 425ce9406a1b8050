"""How training goes: the optimiser, its schedule, length and rhythm."""

from dataclasses import dataclass
from typing import Literal

from crisscross.config.rules import at_least, fraction, positive, require


@dataclass(frozen=True)
class OptimConfig:
    """SGD (as published) or AdamW under the polynomial schedule.

    lr(t) = eta_min + (lr - eta_min) * (1 - t / (iterations - 1)) ** power, after `warmup` iterations of linear rise.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    power: float = 0.9
    eta_min: float = 1e-4
    warmup: int = 0

    def __post_init__(self) -> None:
        positive(self, "optim", "lr", "power")
        at_least(self, "optim", 0, "weight_decay", "eta_min", "warmup")
        fraction(self, "optim", "momentum")
        require(self.eta_min <= self.lr, "optim.eta_min", f"at most optim.lr ({self.lr})", self.eta_min)


@dataclass(frozen=True)
class TrainConfig:
    """Length and rhythm of training.

    `batch` is the number of pictures in one optimiser step over all processes; `accumulate` splits it into that
    many forward passes of a smaller one. `validate_every` and `checkpoint_every` count iterations (0 = at the end).

    `memory`: `lean` makes activations again in backward instead of keeping them, `least` also the outputs of widening
    1 x 1 convolutions; same result. `winograd` takes a quarter of the products of 3 x 3 convolutions on a CPU, with
    other rounding. See docs/training-speed.md.
    """

    iterations: int = 40000
    batch: int = 8
    accumulate: int = 1
    memory: Literal["fast", "lean", "least"] = "fast"
    winograd: bool = False
    validate_every: int = 4000
    checkpoint_every: int = 1000
    seed: int = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    def __post_init__(self) -> None:
        at_least(self, "train", 1, "iterations", "batch", "accumulate")
        at_least(self, "train", 0, "validate_every", "checkpoint_every", "seed")
        require(self.seed < 2**63, "train.seed", "below 2**63", self.seed)
        require(
            self.batch % self.accumulate == 0,
            "train.batch",
            f"a multiple of accumulate ({self.accumulate})",
            self.batch,
        )
