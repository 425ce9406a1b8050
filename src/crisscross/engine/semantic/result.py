"""The scores of a split as tables for the terminal, and as JSON values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crisscross.engine.semantic.detail import Detail
from crisscross.engine.semantic.evaluate import Evaluation
from crisscross.engine.task import Result, Rows
from crisscross.metrics import mean
from crisscross.terminal import decimal

GIB = 2**30


@dataclass(frozen=True, repr=False, eq=False)
class SegmentationResult(Result):
    """The scores of a network that labels pixels, on one split.

    Attributes:
        miou: mean of the classes' IoU, 0 to 1; None where no pixel is labeled.
        iou: IoU by class, None for a class that occurs neither in the masks nor in the labels.
        accuracy: by class, the fraction of its pixels that were labeled so; None for a class without pixels.
        pixel_accuracy: fraction of all labeled pixels that were labeled right.
        confusion: int64 [K, K], numbers of pixels: rows are the classes of the masks, columns those of the labels.
        detail: what a page shows beside the scores, None unless it was asked for.
    """

    miou: float | None = None
    iou: Mapping[str, float | None] = field(default_factory=dict)
    accuracy: Mapping[str, float | None] = field(default_factory=dict)
    pixel_accuracy: float | None = None
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    detail: Detail | None = None


def as_result(found: Evaluation, classes: tuple[str, ...], dice: bool = False) -> SegmentationResult:
    """What the trainer and the commands take of an evaluation; `dice` as in `Scoring`."""
    scores = found.scores
    shown = {"mIoU": scores.miou, "pixel accuracy": scores.pixel_accuracy, "mean accuracy": scores.mean_accuracy}
    how = ", multi-scale + flip" if found.tta else ""
    lines = [", ".join(f"{name} {percent(value)}" for name, value in shown.items())]
    lines[0] = f"{found.split}: {lines[0]} (percent; {found.images} images{how})"
    if found.consistency:
        pixels, mean_of_classes, _ = found.consistency
        said = f"temporal consistency {percent(pixels)}, mean over classes {percent(mean_of_classes)}"
        lines.append(f"{said} (percent; docs/video.md)")
    told = facts(found, classes)
    if found.detail:
        lines.append(_more(told))
    logged = {"val_miou": scores.miou, "val_iou": scores.iou}
    parts: list[str | Rows] = [class_table(found, classes, dice), *lines, _cost(found)]
    by_class = told["iou"], told["accuracy"]
    return SegmentationResult(
        scores.miou, logged, parts, told, scores.miou, *by_class, scores.pixel_accuracy, found.counts, found.detail
    )


def percent(value: float | None) -> str:
    """A fraction in percent with two digits after the point, as published tables have it; a dash for None."""
    return decimal(value and 100 * value, 2)


def class_table(found: Evaluation, classes: tuple[str, ...], dice: bool = False) -> Rows:
    """Head, one row for each class, and their means: scores and the fraction of the labeled pixels, in percent."""
    scores, total = found.scores, int(found.counts.sum())
    columns = {"IoU": scores.iou, "accuracy": scores.accuracy}
    if dice:
        columns = {
            "IoU": scores.iou,
            "Dice (F1)": scores.dice,
            "precision": scores.precision,
            "recall": scores.accuracy,
        }
    rows = [["class (percent)", *columns, "pixels"]]
    for index, name in enumerate(classes):
        values = [values[index] for values in columns.values()]
        pixels = int(found.counts[index].sum()) / total if total else 0.0
        absent = scores.iou[index] is None
        rows.append([name, "absent" if absent else percent(values[0]), *map(percent, values[1:]), percent(pixels)])
    return [*rows, ["mean", *(percent(mean(values)) for values in columns.values()), ""]]


def _more(told: Mapping[str, Any]) -> str:
    """What only a detailed evaluation finds, in one line."""
    ends = (told["intervals"] or {}).get("miou")
    within = f"95 % interval of mIoU {percent(ends[0])} to {percent(ends[1])}, " if ends else ""
    boundary, error = percent(told["boundary_miou"]), percent(told["calibration"]["ece"])
    return f"{within}mean boundary IoU {boundary}, calibration error {error} (percent; docs/evaluation.md)"


def _cost(found: Evaluation) -> str:
    """Speed and memory in one line."""
    memory = f"; {found.memory / GIB:.2f} GiB of memory at most ({_memory_kind(found)})" if found.memory else ""
    return (
        f"{decimal(found.fps, 2)} images/s of preprocessing, network and labels{memory}; {found.seconds:.1f} s in all"
    )


def facts(found: Evaluation, classes: tuple[str, ...]) -> dict[str, Any]:
    """An evaluation as JSON values; an absent class is null."""
    scores = found.scores
    return {
        "split": found.split,
        "images": found.images,
        "miou": scores.miou,
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_accuracy": scores.mean_accuracy,
        "iou": dict(zip(classes, scores.iou, strict=True)),
        "accuracy": dict(zip(classes, scores.accuracy, strict=True)),
        "dice": dict(zip(classes, scores.dice, strict=True)),
        "class_precision": dict(zip(classes, scores.precision, strict=True)),
        "temporal_consistency": found.consistency._asdict() if found.consistency else None,
        "confusion": found.counts.tolist(),
        "image_iou": dict(found.image_iou),
        "seconds": round(found.seconds, 2),
        "tta": found.tta,
        "fps": found.fps,
        "memory_bytes": found.memory,
        "memory_kind": _memory_kind(found),
        **(found.detail.facts(classes) if found.detail else {}),
    }


def _memory_kind(found: Evaluation) -> str:
    return "allocated on the GPU" if found.on_gpu else "resident"
