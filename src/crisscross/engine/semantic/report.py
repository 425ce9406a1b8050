"""What a page shows of semantic segmentation: scores of classes, and the images labeled worst and best."""

from collections.abc import Mapping, Sequence
from typing import Any

from crisscross.data import DataSet
from crisscross.data.files.reading import read_pair
from crisscross.engine.semantic.detail import Detail
from crisscross.engine.semantic.result import SegmentationResult
from crisscross.inference import Predictor, predictor_of
from crisscross.models import Segmenter
from crisscross.report import ImageRow
from crisscross.report.images import shrink_image
from crisscross.terminal import decimal

# Images at either end, of a validation.
SHOWN = 3
RESEMBLING = "Images of one video resemble each other: then the intervals are narrower than they should be."


def report_fields(
    network: Segmenter | Predictor, data: DataSet, split: str, result: SegmentationResult
) -> dict[str, Any]:
    """Fields of `crisscross.report.Report`; more of them where the evaluation was detailed."""
    facts = result.facts
    fields = {
        "classes": network.classes,
        "palette": network.palette,
        "iou": [*facts["iou"].values()],
        "accuracy": [*facts["accuracy"].values()],
        "confusion": facts["confusion"],
    }
    if result.detail is None:
        return fields | _predicted_again(network, data, split, facts)
    return fields | _scores(facts) | _ranked(result.detail, data, split)


def _predicted_again(
    network: Segmenter | Predictor, data: DataSet, split: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    scored = sorted((iou, name) for name, iou in facts["image_iou"].items() if iou is not None)
    ends = {"worst": scored[:SHOWN], "best": scored[: -SHOWN - 1 : -1]} if len(scored) > 2 * SHOWN else {"": scored}
    pair_of = {pair.name: pair for pair in data.split(split)}
    predictor, rows = predictor_of(network), []
    for end, chosen in ends.items():
        for iou, name in chosen:
            image, mask = read_pair(pair_of[name], data)
            title = f"{end}: {name}" if end else name
            rows.append(ImageRow(f"{title}, mIoU {iou:.3f}", image, mask, predictor.predict(image).labels))
    return {"rows": rows, "rows_note": _note("validation images", len(ends) > 1, len(rows), len(scored))}


def _ranked(detail: Detail, data: DataSet, split: str) -> dict[str, Any]:
    """The images that were kept in small: worst first, and of the other end best first."""
    count, kept = sum(bool(overlap.any()) for overlap in detail.overlaps), detail.ranked
    half, chosen = len(kept) // 2, count > len(kept)
    ends = {"worst": kept[:half], "best": kept[::-1][:half]} if chosen else {"": kept}
    pair_of = {pair.name: pair for pair in data.split(split)}
    rows = []
    for end, images in ends.items():
        for one in images:
            image = shrink_image(read_pair(pair_of[one.name], data)[0])
            title = f"{end}: {one.name}" if end else one.name
            rows.append(ImageRow(f"{title}, mIoU {one.iou:.3f}", image, one.truth, one.labels, one.wrong))
    note = _note("images", chosen, len(rows), count)
    return {"rows": rows, "rows_note": note, "calibration": detail.calibration}


def _note(what: str, chosen: bool, shown: int, all_of_them: int) -> str:
    if chosen:
        return f"The {what} with the lowest and the highest mIoU of their own, {shown} of {all_of_them}."
    return f"All {what}, from the lowest mIoU of their own to the highest."


def _scores(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of a detailed evaluation with their intervals."""
    intervals, drawn = facts["intervals"] or {}, facts["bootstrap"]
    classes = [*facts["iou"]]
    titles = {"miou": "mIoU", "boundary_miou": "mean boundary IoU", "pixel_accuracy": "pixel accuracy"}
    titles |= {"mean_accuracy": "mean accuracy", "ece": "calibration error (ECE)"}
    values = {**facts, "ece": facts["calibration"]["ece"]}
    headline = []
    for name, title in titles.items():
        ends = _range(intervals.get(name))
        headline.append((f"{title}\n{ends}" if ends else title, decimal(values[name], 3)))
    if facts["temporal_consistency"]:
        headline.append(("temporal consistency", decimal(facts["temporal_consistency"]["pixels"], 3)))
    note = (
        f"Ranges are 95 % intervals over the images: of {drawn['resamples']} sets of as many images, drawn from these "
        f"with replacement, 95 % score within them (percentile bootstrap, seed {drawn['seed']}). {RESEMBLING}"
    )
    return {
        "headline": headline,
        "scores_note": note if intervals else "One image alone gives no intervals.",
        "iou_intervals": [intervals["iou"][name] for name in classes] if intervals else (),
        "boundary_iou": [*facts["boundary_iou"].values()],
        "boundary_intervals": [intervals["boundary_iou"][name] for name in classes] if intervals else (),
        "class_table": _class_table(facts, intervals.get("iou", {})),
    }


def _class_table(facts: Mapping[str, Any], intervals: Mapping[str, Any]) -> list[list[str]]:
    columns = {"accuracy": "accuracy", "class_precision": "precision", "boundary_iou": "boundary IoU"}
    pixels = [sum(row) for row in facts["confusion"]]
    rows = [["class", "IoU", "95 % interval", *columns.values(), "pixels"]]
    for (name, iou), own in zip(facts["iou"].items(), pixels, strict=True):
        scores = [decimal(facts[key][name], 3) for key in columns]
        shown = "absent" if iou is None else f"{iou:.3f}"
        rows.append([name, shown, _range(intervals.get(name)), *scores, f"{own / max(sum(pixels), 1):.2%}"])
    return rows


def _range(ends: Sequence[float] | None) -> str:
    # The spaces do not break.
    return f"{ends[0]:.3f}\u00a0to\u00a0{ends[1]:.3f}" if ends else ""
