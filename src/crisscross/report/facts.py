"""The plain values that a report shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crisscross.metrics import Calibration

# Of a class or network, in 0..1; None where it does not exist.
Score = float | None
# Where a score lies with 95 % confidence, low and high; None where that is not known.
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Curves:
    """The course of a training.

    Attributes:
        iteration: when each training value was recorded.
        loss, lr: the values; None where one was not finite or is not known; `lr` may be empty.
        val_iteration: when the network was validated.
        val_score: the score that decides which weights are the best, or None where nothing could be scored.
        more_scores: further scores of the validations, by what they are called.
        parts: of the loss, by name, of each iteration.
        gates: gamma of each layer of criss-cross attention, by name, at every `iteration`.
    """

    iteration: Sequence[int] = ()
    loss: Sequence[Score] = ()
    lr: Sequence[Score] = ()
    val_iteration: Sequence[int] = ()
    val_score: Sequence[Score] = ()
    more_scores: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    parts: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    gates: Mapping[str, Sequence[Score]] = field(default_factory=dict)

    @classmethod
    def from_log(
        cls, entries: Sequence[Mapping[str, Any]], score: str = "val_miou", more: Sequence[str] = ()
    ) -> "Curves":
        """From the entries of a run's log: those with a `loss`, and those with the `score`, where `more` are, too."""
        steps = [entry for entry in entries if "loss" in entry]
        scored = [entry for entry in entries if score in entry]
        gates = dict.fromkeys(name for entry in steps for name in entry if name.partition("_")[0] == "gate")
        return cls(
            [entry["iteration"] for entry in steps],
            [entry["loss"] for entry in steps],
            [entry.get("lr") for entry in steps],
            [entry["iteration"] for entry in scored],
            [entry[score] for entry in scored],
            {score_name(name): [entry.get(name) for entry in scored] for name in more},
            {name.removeprefix("loss_"): [entry.get(name) for entry in steps] for name in _parts(steps)},
            {name: [entry.get(name) for entry in steps] for name in gates},
        )


def _parts(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for entry in steps for name in entry if name.startswith("loss_")))


def score_name(column: str) -> str:
    """What a score of a log is called: `box AP` for `val_box_ap`."""
    words = column.removeprefix("val_").split("_")
    return " ".join({"ap": "AP", "miou": "mIoU", "iou": "IoU"}.get(word, word) for word in words)


@dataclass(frozen=True, eq=False)
class ImageRow:
    """One image of a report.

    Attributes:
        name: shown above it.
        image: uint8 RGB [H, W, 3].
        truth: integer labels [H, W]; 255 is ignored.
        prediction: integer labels [H, W].
        wrong: fraction of the labeled pixels that are predicted wrong; counted where it is None.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    wrong: Score = None


@dataclass(frozen=True, eq=False)
class ImagePanels:
    """One image of a report as it is shown.

    Attributes:
        name: shown above it.
        panels: caption and image uint8 RGB [H, W, 3] of each.
    """

    name: str
    panels: Sequence[tuple[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Report:
    """Everything on the page. C is the number of classes.

    Attributes:
        title, summary: the heading, and a sentence or two beneath it.
        headline: the few numbers that matter, as (label, text): ("held-out mIoU", "0.84").
        classes, palette: C names and C colors (red, green, blue) in 0..255.
        iou, accuracy: C scores; None for a class that does not occur. `bars` says what they are where they are
            other scores, as `mask AP` and `box AP`.
        iou_intervals, boundary_intervals: of each class, or empty.
        boundary_iou: C scores, or empty.
        class_table: a head and rows with more numbers about the classes, or empty.
        scores_note: how the scores were found.
        confusion: C x C pixel counts, rows truth, columns prediction.
        calibration: how often labels of each probability are right.
        rows: images; `rows_note` says which these are.
        machine: speed, memory and what was computed on, by name.
        curves: loss, learning rate and validation score; `score_title` names the score.
        experiment_yaml, command: how to repeat the run; may be empty.
        versions: software and hardware, by name.
    """

    title: str
    summary: str
    classes: Sequence[str] = ()
    palette: Sequence[Sequence[int]] = ()
    iou: Sequence[Score] = ()
    accuracy: Sequence[Score] = ()
    bars: tuple[str, str] = ("IoU", "accuracy")
    iou_intervals: Sequence[Interval] = ()
    boundary_iou: Sequence[Score] = ()
    boundary_intervals: Sequence[Interval] = ()
    class_table: Sequence[Sequence[str]] = ()
    scores_note: str = ""
    confusion: Sequence[Sequence[int]] = ()
    calibration: Calibration | None = None
    headline: Sequence[tuple[str, str]] = ()
    curves: Curves = field(default_factory=Curves)
    score_title: str = "mIoU"
    rows: Sequence[ImageRow | ImagePanels] = ()
    rows_note: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)
    experiment_yaml: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
