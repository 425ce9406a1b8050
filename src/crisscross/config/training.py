"""The sections `optim` and `train` of an experiment."""

from dataclasses import dataclass, replace
from typing import Literal

from crisscross.config.rules import (
    MOST_STEPS,
    MOST_TIMES,
    above_zero,
    below_one,
    between,
    require,
)

# Far beyond what any network trains with, and still a float32.
LARGEST_RATE = 1e6
# Images of one step.
LARGEST_BATCH = 65_536


def check_length(optim: "OptimConfig", train: "TrainConfig") -> None:
    """Require that the warm-up is shorter than the training.

    How many iterations `train.epochs` are is known when the data set is: `in_iterations` requires it then.
    """
    if not train.epochs:
        _check_warmup(optim, train)


def in_iterations(
    optim: "OptimConfig", train: "TrainConfig", images: int, keep_warmup: bool = True
) -> tuple["OptimConfig", "TrainConfig"]:
    """Both with the `iterations` that `train.epochs` over so many images take, rounded up; as they are without epochs.

    Without `keep_warmup` the warm-up ends after a tenth of the training, if it would be longer.

    Raises:
        CrissCrossError: that is too many, or fewer than the warm-up has.
    """
    if not train.epochs:
        return optim, train
    train = replace(train, iterations=-(-train.epochs * images // train.batch))
    if not keep_warmup and optim.warmup > train.iterations // 10:
        optim = replace(optim, warmup=train.iterations // 10)
    _check_warmup(optim, train)
    return optim, train


def _check_warmup(optim: "OptimConfig", train: "TrainConfig") -> None:
    rule = f"below train.iterations ({train.iterations}), or the learning rate never reaches its full value"
    require(optim.warmup < train.iterations, "optim.warmup", rule, optim.warmup)


@dataclass(frozen=True)
class OptimConfig:
    """SGD (as published) or AdamW, and the schedule of the learning rate.

    `schedule: poly`: lr(t) = eta_min + (lr - eta_min) * (1 - t / (iterations - 1)) ** power. During the first `warmup`
    iterations the rate rises linearly from a millionth of `lr` to `lr`; the polynomial then has the remaining
    iterations. `schedule: steps`: `lr` times `gamma` for every one of the iterations in `steps` that has passed, with a
    linear warm-up from a thousandth of it. Nothing scales `lr` by the batch.

    The backbone trains at `backbone_factor` times that; with `layer_decay` its last stage at that times `layer_decay`,
    the stage before at that times `layer_decay` ** 2, and so on down to its stem. The gates of criss-cross attention,
    which start at 0, train at `gate_factor` times `lr`. `decay_norms: false` keeps weight decay from norms and biases.
    `clip` is the largest allowed norm of all gradients together (0 = no limit).
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    power: float = 0.9
    eta_min: float = 1e-4
    warmup: int = 0
    backbone_factor: float = 1.0
    gate_factor: float = 1.0
    layer_decay: float = 1.0
    decay_norms: bool = True
    clip: float = 0.0
    schedule: Literal["poly", "steps"] = "poly"
    steps: tuple[int, ...] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        require(self.lr > 0, "optim.lr", "above 0", self.lr)
        require(self.lr <= LARGEST_RATE, "optim.lr", f"at most {LARGEST_RATE:g}", self.lr)
        below_one(self, "optim", "momentum")
        between(self, "optim", 0, MOST_TIMES, "weight_decay")
        between(self, "optim", 0, MOST_STEPS, "warmup", "clip")
        above_zero(self, "optim", MOST_TIMES, "backbone_factor", "gate_factor", "power")
        above_zero(self, "optim", 1, "gamma")
        rising = list(self.steps) == sorted(set(self.steps)) and min(self.steps, default=1) >= 1
        require(rising, "optim.steps", "rising iterations from 1", list(self.steps))
        require(max(self.steps, default=1) <= MOST_STEPS, "optim.steps", f"at most {MOST_STEPS}", list(self.steps))
        above_zero(self, "optim", 1, "layer_decay")
        require(self.eta_min >= 0, "optim.eta_min", "at least 0", self.eta_min)
        fits = self.eta_min <= self.lr or self.schedule != "poly"
        require(fits, "optim.eta_min", f"at most optim.lr ({self.lr})", self.eta_min)


@dataclass(frozen=True)
class TrainConfig:
    """Length and rhythm of training.

    `iterations` is the number of optimizer steps. `epochs` above 0 takes its place: the training then lasts until as
    many samples were drawn as that many passes over the training images have, and `iterations` follows from the data.

    `batch` is the number of images in one optimizer step over all processes; `accumulate` splits it into that
    many forward passes of a smaller one. `validate_every` and `checkpoint_every` count iterations (0 = at the end); a
    validation saves a checkpoint, too.

    `ema` is the decay of an average of the weights that is validated and stored in their place (0 = none; 0.999 looks
    back about 1000 iterations). `batch_norm`: `auto` takes the statistics of all processes together on several
    GPUs, and of each process's own images elsewhere; `train` always takes the latter; `frozen` uses the stored ones
    and keeps them. `early_stop` ends training after that many validations in a row without a better one (0 = never).
    `deterministic` asks torch for operators that repeat themselves bit for bit.

    `memory` is what a step keeps for its backward pass: `fast` everything; `lean` no results of elementwise operations,
    which are computed again; `recompute` the inputs of blocks alone, which run twice. `winograd` takes a quarter of the
    products of 3 x 3 convolutions on a CPU, with other rounding. See docs/training-speed.md.
    """

    iterations: int = 40000
    epochs: int = 0
    batch: int = 8
    accumulate: int = 1
    memory: Literal["fast", "lean", "recompute"] = "fast"
    winograd: bool = False
    validate_every: int = 4000
    checkpoint_every: int = 1000
    seed: int = 0
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    ema: float = 0.0
    batch_norm: Literal["auto", "train", "frozen"] = "auto"
    early_stop: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        between(self, "train", 1, MOST_STEPS, "iterations")
        between(self, "train", 0, MOST_STEPS, "epochs")
        between(self, "train", 1, LARGEST_BATCH, "batch", "accumulate")
        between(self, "train", 0, MOST_STEPS, "validate_every", "checkpoint_every", "early_stop")
        require(self.seed >= 0, "train.seed", "at least 0", self.seed)
        require(self.seed < 2**63, "train.seed", "below 2**63", self.seed)
        even = self.batch % self.accumulate == 0
        require(even, "train.batch", f"a multiple of train.accumulate ({self.accumulate})", self.batch)
        below_one(self, "train", "ema")
        again = not self.early_stop or self.validate_every > 0
        require(
            again,
            "train.validate_every",
            "above 0 with train.early_stop, which counts validations",
            self.validate_every,
        )
