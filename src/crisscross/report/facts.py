"""What a report says: plain values, checked once, so that the page can only be wrong in its looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Score = float | None


@dataclass(frozen=True)
class Curves:
    """How the training went.

    Attributes:
        iteration: when each training value was recorded.
        loss, lr: the values; None where one was not finite or is not known; `lr` may be empty.
        val_iteration: when the network was scored.
        val_miou: mean IoU in 0..1, or None where no class could be scored.
    """

    iteration: Sequence[int] = ()
    loss: Sequence[Score] = ()
    lr: Sequence[Score] = ()
    val_iteration: Sequence[int] = ()
    val_miou: Sequence[Score] = ()

    @classmethod
    def from_log(cls, entries: Sequence[Mapping[str, Any]]) -> "Curves":
        """From the entries of a run's log: those with a `loss`, and those with a `val_miou`."""
        steps = [entry for entry in entries if "loss" in entry]
        scored = [entry for entry in entries if "val_miou" in entry]
        return cls(
            [entry["iteration"] for entry in steps],
            [entry["loss"] for entry in steps],
            [entry.get("lr") for entry in steps],
            [entry["iteration"] for entry in scored],
            [entry["val_miou"] for entry in scored],
        )

    def __post_init__(self) -> None:
        _same_length("curves.loss", self.loss, len(self.iteration))
        if len(self.lr):
            _same_length("curves.lr", self.lr, len(self.iteration))
        _same_length("curves.val_miou", self.val_miou, len(self.val_iteration))


@dataclass(frozen=True, eq=False)
class ImageRow:
    """One image of the report.

    Attributes:
        name: shown beneath it.
        image: uint8 RGB [H, W, 3].
        truth: integer labels [H, W]; 255 is ignored.
        prediction: integer labels [H, W].
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        if self.image.shape != (*size, 3) or self.truth.shape != size or self.prediction.shape != size:
            shapes = self.image.shape, self.truth.shape, self.prediction.shape
            raise ValueError(f"image {self.name!r}: image, truth and prediction differ in size: {shapes}")


@dataclass(frozen=True)
class BaselineRow:
    """One network of the comparison: IoU in 0..1, `seconds` of training (None: not measured)."""

    name: str
    miou: Score
    iou: Sequence[Score]
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Report:
    """Everything on the page. C is the number of classes.

    Attributes:
        title, summary: the heading, and a sentence or two beneath it.
        headline: the few numbers that matter, as (label, text): ("held-out mIoU", "0.84").
        classes, palette: C names and C colors (red, green, blue) in 0..255.
        iou, accuracy: C scores in 0..1; None for a class that does not occur.
        confusion: C x C pixel counts, rows truth, columns prediction.
        rows: images with truth and prediction.
        curves: loss, learning rate and validation score.
        baseline: networks compared with one another; may be empty.
        experiment_yaml, command: how to repeat the run; may be empty.
        versions: software and hardware, by name.

    Raises:
        ValueError: a table does not have C entries, or a score lies outside 0..1.
    """

    title: str
    summary: str
    classes: Sequence[str]
    palette: Sequence[Sequence[int]]
    iou: Sequence[Score]
    accuracy: Sequence[Score]
    confusion: Sequence[Sequence[int]]
    headline: Sequence[tuple[str, str]] = ()
    curves: Curves = field(default_factory=Curves)
    rows: Sequence[ImageRow] = ()
    baseline: Sequence[BaselineRow] = ()
    experiment_yaml: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.classes)
        for name in ("palette", "iou", "accuracy", "confusion"):
            _same_length(name, getattr(self, name), count)
        for row in self.confusion:
            _same_length("a row of confusion", row, count)
        for network in self.baseline:
            _same_length(f"iou of baseline {network.name!r}", network.iou, count)
        for name in ("iou", "accuracy"):
            for score in getattr(self, name):
                if score is not None and not 0 <= score <= 1:
                    raise ValueError(f"{name} must hold scores in 0..1 or None, got {score}")


def _same_length(name: str, values: Sequence, expected: int) -> None:
    if len(values) != expected:
        raise ValueError(f"{name} must have {expected} entries, got {len(values)}")
