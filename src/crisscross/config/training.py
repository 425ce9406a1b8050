"""How training goes: the optimiser, its schedule, length and rhythm."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crisscross.config.rules import at_least, fraction, positive, require

if TYPE_CHECKING:
    from crisscross.config.instances import InstanceTrainConfig

# Far beyond what any network trains with; the next sizes are no float32 any more.
LARGEST_RATE = 1e6


def check_rate(rate: float) -> None:
    """The rule of a learning rate, of whatever is trained."""
    require(rate > 0, "optim.lr", "above 0", rate)
    require(rate <= LARGEST_RATE, "optim.lr", f"at most {LARGEST_RATE:g}", rate)


def check_rhythm(train: "TrainConfig | InstanceTrainConfig") -> None:
    """The rules of length and rhythm, of whatever is trained."""
    at_least(train, "train", 1, "iterations", "batch", "accumulate", "max_skipped")
    at_least(train, "train", 0, "validate_every", "checkpoint_every", "seed")
    require(train.seed < 2**63, "train.seed", "below 2**63", train.seed)
    even = train.batch % train.accumulate == 0
    require(even, "train.batch", f"a multiple of accumulate ({train.accumulate})", train.batch)


@dataclass(frozen=True)
class OptimConfig:
    """SGD (as published) or AdamW under the polynomial schedule.

    lr(t) = eta_min + (lr - eta_min) * (1 - t / (iterations - 1)) ** power. During the first `warmup` iterations the
    rate rises linearly from a millionth of `lr` to `lr`; the polynomial then has the iterations that are left.

    The backbone trains at `backbone_factor` times that; with `layer_decay` its last stage at that times `layer_decay`,
    the stage before at that times `layer_decay` ** 2, and so on down to its stem. `decay_norms: false` keeps weight
    decay from norms and biases. `clip` is the largest allowed norm of all gradients together (0 = no limit).
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    power: float = 0.9
    eta_min: float = 1e-4
    warmup: int = 0
    backbone_factor: float = 1.0
    layer_decay: float = 1.0
    decay_norms: bool = True
    clip: float = 0.0

    def __post_init__(self) -> None:
        positive(self, "optim", "power", "backbone_factor", "layer_decay")
        at_least(self, "optim", 0, "weight_decay", "eta_min", "warmup", "clip")
        fraction(self, "optim", "momentum", "layer_decay")
        check_rate(self.lr)
        require(self.eta_min <= self.lr, "optim.eta_min", f"at most optim.lr ({self.lr})", self.eta_min)


@dataclass(frozen=True)
class TrainConfig:
    """Length and rhythm of training.

    `batch` is the number of pictures in one optimiser step over all processes; `accumulate` splits it into that
    many forward passes of a smaller one. `validate_every` and `checkpoint_every` count iterations (0 = at the end); a
    validation saves a checkpoint, too.

    `ema` is the decay of an average of the weights that is validated and stored in their place (0 = none; 0.999 looks
    back about 1000 iterations). `batch_norm`: `train` takes the statistics of each process's own pictures, `sync` those
    of all processes on GPUs, `auto` is `sync` on several GPUs and `train` elsewhere, `frozen` uses the stored ones and
    keeps them. `early_stop` ends training after that many validations in a row without a better one (0 = never).
    `max_skipped` is the number of fp16 steps in a row that may be skipped for overflowing gradients. `deterministic`
    asks torch for operators that repeat themselves bit for bit.

    `memory`: `lean` makes activations again in backward instead of keeping them; same result. `winograd` takes a
    quarter of the products of 3 x 3 convolutions on a CPU, with other rounding. See docs/training-speed.md.
    """

    iterations: int = 40000
    batch: int = 8
    accumulate: int = 1
    memory: Literal["fast", "lean"] = "fast"
    winograd: bool = False
    validate_every: int = 4000
    checkpoint_every: int = 1000
    seed: int = 0
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    ema: float = 0.0
    batch_norm: Literal["auto", "train", "sync", "frozen"] = "auto"
    early_stop: int = 0
    max_skipped: int = 20
    deterministic: bool = False

    def __post_init__(self) -> None:
        check_rhythm(self)
        at_least(self, "train", 0, "early_stop")
        require(0 <= self.ema < 1, "train.ema", "at least 0 and below 1", self.ema)
