"""What training minimises."""

from dataclasses import dataclass
from typing import Literal

from crisscross.config.rules import at_least, require


@dataclass(frozen=True)
class LossConfig:
    """Cross-entropy of the main logits plus `aux_weight` times that of the auxiliary logits.

    `normaliser`: `all` divides by every pixel, ignored ones included, as the published systems do; `valid` by the
    pixels that count. `class_weights` multiplies each pixel's loss by its class's number (empty: all 1).
    """

    normaliser: Literal["all", "valid"] = "all"
    aux_weight: float = 0.4
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        at_least(self, "loss", 0, "aux_weight")
        require(min(self.class_weights, default=0) >= 0, "loss.class_weights", "at least 0", list(self.class_weights))
