"""The scores of a split as tables for the terminal, and as JSON values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crisscross.engine.semantic.evaluate import Evaluation
from crisscross.engine.task import Result, Rows
from crisscross.terminal import decimal

GIB = 2**30
NOTES = (
    "mIoU in percent; memory: the most at one moment, in one process; fps: images / seconds of preprocessing, "
    "network and labels,",
    "one image at a time, without reading files and counting",
)


@dataclass(frozen=True, repr=False, eq=False)
class SegmentationResult(Result):
    """The scores of a network that labels pixels, on one split.

    Attributes:
        miou: mean of the classes' IoU, 0 to 1; None where no pixel is labeled.
        iou: IoU by class, None for a class that occurs neither in the masks nor in the labels.
        accuracy: by class, the fraction of its pixels that were labeled so; None for a class without pixels.
        pixel_accuracy: fraction of all labeled pixels that were labeled right.
        confusion: int64 [K, K], numbers of pixels: rows are the classes of the masks, columns those of the labels.
    """

    miou: float | None = None
    iou: Mapping[str, float | None] = field(default_factory=dict)
    accuracy: Mapping[str, float | None] = field(default_factory=dict)
    pixel_accuracy: float | None = None
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int64))


def as_result(found: Evaluation, classes: tuple[str, ...]) -> SegmentationResult:
    """What the trainer and the commands take of an evaluation."""
    scores = found.scores
    shown = {"mIoU": scores.miou, "pixel accuracy": scores.pixel_accuracy, "mean accuracy": scores.mean_accuracy}
    lines = ["  ".join(f"{name} {decimal(value, 4)}" for name, value in shown.items())]
    lines[0] += f"  ({found.split}: {found.images} images, {found.seconds:.1f} s)"
    if found.consistency:
        pixels, mean, _ = found.consistency
        lines.append(f"temporal consistency {pixels:.4f}  mean over classes {mean:.4f}  (docs/video.md)")
    logged = {"val_miou": scores.miou, "val_iou": scores.iou}
    parts: list[str | Rows] = [class_table(found, classes), *lines, "", published_row(found), *NOTES]
    told = facts(found, classes)
    by_class = told["iou"], told["accuracy"]
    return SegmentationResult(
        scores.miou, logged, parts, told, scores.miou, *by_class, scores.pixel_accuracy, found.counts
    )


def class_table(found: Evaluation, classes: tuple[str, ...]) -> Rows:
    """Head and one row for each class: scores, and its fraction of the labeled pixels."""
    total, rows = int(found.counts.sum()), [["class", "IoU", "accuracy", "fraction"]]
    for index, name in enumerate(classes):
        iou, accuracy = found.scores.iou[index], found.scores.accuracy[index]
        fraction = int(found.counts[index].sum()) / total if total else 0.0
        seen = "" if accuracy is None else f"{fraction:.2%}"
        rows.append([name, "absent" if iou is None else f"{iou:.4f}", decimal(accuracy, 4), seen])
    return rows


def published_row(found: Evaluation) -> Rows:
    """Head and one row with the columns of the published tables; what was not measured is "-"."""
    miou = decimal(found.scores.miou and 100 * found.scores.miou, 2)
    memory = decimal(found.memory and found.memory / GIB, 2)
    single, tta = ("-", miou) if found.tta else (miou, "-")
    head = ["", "mIoU", "mIoU (ms+flip)", f"memory, GiB {_memory_kind(found)}", "fps"]
    return [head, [found.split, single, tta, memory, decimal(found.fps, 2)]]


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
        "temporal_consistency": found.consistency._asdict() if found.consistency else None,
        "confusion": found.counts.tolist(),
        "seconds": round(found.seconds, 2),
        "tta": found.tta,
        "fps": found.fps,
        "memory_bytes": found.memory,
        "memory_kind": _memory_kind(found),
    }


def _memory_kind(found: Evaluation) -> str:
    return "allocated on the GPU" if found.on_gpu else "resident"
