"""What a run's page shows of semantic segmentation: scores of classes, and the images labeled worst and best."""

from collections.abc import Mapping
from typing import Any

from crisscross.data import DataSet
from crisscross.data.files.reading import read_pair
from crisscross.inference import predictor_of
from crisscross.models import Segmenter
from crisscross.report import ImageRow

# Images at either end.
SHOWN = 3


def report_fields(network: Segmenter, data: DataSet, split: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `crisscross.report.Report`; `facts` are those of the split's evaluation."""
    scored = sorted((iou, name) for name, iou in facts["image_iou"].items() if iou is not None)
    ends = {"worst": scored[:SHOWN], "best": scored[: -SHOWN - 1 : -1]} if len(scored) > 2 * SHOWN else {"": scored}
    pair_of = {pair.name: pair for pair in data.split(split)}
    predictor, rows = predictor_of(network), []
    for end, chosen in ends.items():
        for iou, name in chosen:
            image, mask = read_pair(pair_of[name], data)
            title = f"{end}: {name}" if end else name
            rows.append(ImageRow(f"{title}, mIoU {iou:.3f}", image, mask, predictor.predict(image).labels))
    return {
        "classes": network.classes,
        "palette": network.palette,
        "iou": [*facts["iou"].values()],
        "accuracy": [*facts["accuracy"].values()],
        "confusion": facts["confusion"],
        "rows": rows,
        "rows_note": (
            f"The validation images with the lowest and the highest mIoU of their own, {len(rows)} of {len(scored)}."
            if len(ends) > 1
            else "All validation images, from the lowest mIoU of their own to the highest."
        ),
    }
