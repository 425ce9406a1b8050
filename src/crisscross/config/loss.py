"""The section `loss` of an experiment."""

from dataclasses import dataclass, field
from typing import Literal

from crisscross.config.names import hint
from crisscross.config.rules import MOST_STEPS, MOST_TIMES, MOST_WEIGHT, below_one, between, fraction, require
from crisscross.errors import CrissCrossError


@dataclass(frozen=True)
class Term:
    """A term with a name of its own in `loss.terms`.

    Attributes:
        function: `package.module:function`, which takes a `crisscross.losses.LossInputs`. It is imported where a loss
            is created, as functions of users are.
        reads: what of the network's output: `logits`, or the `embedding`, which the head then has to give. A term of
            the embedding alone trains no classifier.
    """

    function: str
    reads: Literal["logits", "embedding"] = "logits"


# What can stand in `loss.terms`, beside `package.module:function`.
TERMS: dict[str, Term] = {
    "cross_entropy": Term("crisscross.losses.terms:cross_entropy"),
    "ohem": Term("crisscross.losses.terms:ohem"),
    "focal": Term("crisscross.losses.terms:focal"),
    "dice": Term("crisscross.losses.image_losses:dice"),
    "lovasz": Term("crisscross.losses.image_losses:lovasz"),
    "category_consistent": Term("crisscross.losses.terms:category_consistent", reads="embedding"),
}


@dataclass(frozen=True)
class LossTerm:
    """One part of the main loss: a key of `TERMS` or `package.module:function`, and what it is multiplied by."""

    name: str = "cross_entropy"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in TERMS and ":" not in self.name:
            known = hint(self.name, [*TERMS, "package.module:function"])
            raise CrissCrossError(f"loss.terms: unknown term {self.name!r}; {known}")
        where = f"loss.terms: the weight of {self.name}"
        require(self.weight >= 0, where, "at least 0", self.weight)
        require(self.weight <= MOST_WEIGHT, where, f"at most {MOST_WEIGHT}", self.weight)

    @property
    def reads(self) -> str:
        """What it reads of the network's output; see `Term`."""
        return TERMS[self.name].reads if self.name in TERMS else "logits"


@dataclass(frozen=True)
class OhemConfig:
    """Hard pixels are those whose true class gets at most `threshold`, and at least `keep` of one process's batch."""

    threshold: float = 0.7
    keep: int = 100_000

    def __post_init__(self) -> None:
        fraction(self, "loss.ohem", "threshold")
        between(self, "loss.ohem", 0, MOST_STEPS, "keep")
        some = self.threshold > 0 or self.keep > 0
        require(some, "loss.ohem.threshold", "above 0 where loss.ohem.keep is 0, or no pixel counts", self.threshold)


@dataclass(frozen=True)
class ConsistencyConfig:
    """The category-consistent loss: `dimensions` of the embedding, and the two distances."""

    dimensions: int = 16
    delta_v: float = 0.5
    delta_d: float = 1.5

    def __post_init__(self) -> None:
        between(self, "loss.consistency", 1, MOST_TIMES, "dimensions")
        between(self, "loss.consistency", 0, MOST_WEIGHT, "delta_v", "delta_d")
        fits = self.delta_d > self.delta_v
        require(fits, "loss.consistency.delta_d", f"above loss.consistency.delta_v ({self.delta_v})", self.delta_d)


@dataclass(frozen=True)
class LossConfig:
    """The sum of `terms` on the main head, plus `aux_weight` times the cross-entropy of the auxiliary head.

    A network with an edge branch adds the loss of its edges, with weight 1.

    `normalizer`: `all` divides by every pixel, ignored ones included, as the published systems do; `valid` by the
    pixels that count. `class_weights` multiplies each pixel's loss by its class's number (empty: all 1; `auto`: from
    the pixels of the training split, see docs/losses.md). `smoothing` is that of the labels in cross-entropy,
    `focal_gamma` the exponent of `focal`. docs/losses.md has the formulas.
    """

    normalizer: Literal["all", "valid"] = "all"
    aux_weight: float = 0.4
    class_weights: tuple[float, ...] | Literal["auto"] = ()
    terms: tuple[LossTerm, ...] = (LossTerm(),)
    smoothing: float = 0.0
    focal_gamma: float = 2.0
    ohem: OhemConfig = field(default_factory=OhemConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)

    def __post_init__(self) -> None:
        between(self, "loss", 0, MOST_WEIGHT, "aux_weight")
        between(self, "loss", 0, MOST_TIMES, "focal_gamma")
        below_one(self, "loss", "smoothing")
        if self.class_weights != "auto":
            # Each of them: the least of numbers with a NaN among them may be any.
            fit = all(weight >= 0 for weight in self.class_weights)
            require(fit, "loss.class_weights", "at least 0", list(self.class_weights))
            high = max(self.class_weights, default=0)
            require(high <= MOST_WEIGHT, "loss.class_weights", f"at most {MOST_WEIGHT}", list(self.class_weights))
            some = not self.class_weights or high > 0
            require(some, "loss.class_weights", "above 0 for some class", list(self.class_weights))
        names = [term.name for term in self.terms]
        require(len(set(names)) == len(names), "loss.terms", "different terms", names)
        classifies = any(term.weight > 0 and term.reads == "logits" for term in self.terms)
        beside = ", ".join(name for name, term in TERMS.items() if term.reads == "embedding")
        require(classifies, "loss.terms", f"at least one term with a weight above 0 beside {beside}", names)

    @property
    def dimensions(self) -> int:
        """Channels of the embedding that the terms need from the network; 0 where they need none."""
        asked = any(term.weight > 0 and term.reads == "embedding" for term in self.terms)
        return self.consistency.dimensions if asked else 0
