"""The scores of a split as tables for the terminal, and as JSON values."""

from typing import Any

from crisscross.engine.semantic.evaluate import Evaluation
from crisscross.engine.task import Result, Rows
from crisscross.terminal import decimal

GIB = 2**30
NOTES = (
    "mIoU in percent; memory: the most at one moment, in one process; fps: images / seconds of preprocessing, "
    "network and labels,",
    "one image at a time, without reading files and counting",
)


def as_result(found: Evaluation, classes: tuple[str, ...]) -> Result:
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
    return Result(scores.miou, logged, parts, facts(found, classes))


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
