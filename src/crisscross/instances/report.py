"""What a page shows of instance segmentation: average precision by class, and images with their instances."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crisscross.data.palette import default_palette
from crisscross.instances.annotations import InstanceImage, InstanceSplit
from crisscross.instances.draw import draw
from crisscross.instances.network import InstanceSegmenter
from crisscross.instances.result import Instances
from crisscross.instances.samples import read_sized, target_of
from crisscross.report import ImagePanels
from crisscross.terminal import decimal

# Images that are shown.
SHOWN = 4
NOTE = "AP as COCO counts it: the mean over IoU thresholds from 0.5 to 0.95; AP50 and AP75 are those of one threshold."


def report_fields(
    network: InstanceSegmenter, split: InstanceSplit, facts: Mapping[str, Any], score: float
) -> dict[str, Any]:
    """Fields of `crisscross.report.Report`; instances below `score` are not drawn."""
    box, mask = facts["box"], facts["mask"]
    names = [name for name, value in mask["classes"].items() if value is not None]
    palette = dict(zip(network.classes, default_palette(network.classes), strict=True))
    values = {"mask": mask["classes"], "box": box["classes"]}
    headline = [(f"{kind} {name}", decimal(facts[kind][name], 3)) for kind in values for name in ("AP", "AP50", "AP75")]
    rows = [[name, *(decimal(values[kind][name], 3) for kind in values)] for name in names]
    chosen = examples_of(split)
    return {
        "headline": headline,
        "scores_note": NOTE,
        "bars": ("mask AP", "box AP"),
        "classes": names,
        "palette": [palette[name] for name in names],
        "iou": [mask["classes"][name] for name in names],
        "accuracy": [box["classes"][name] for name in names],
        "class_table": [["class", "mask AP", "box AP"], *rows] if rows else (),
        "rows": [_panels(network, split, image, score) for image in chosen],
        "rows_note": f"{len(chosen)} of {len(split)} images, spread evenly; instances that score at least {score:g}.",
    }


def examples_of(split: InstanceSplit) -> list[InstanceImage]:
    """`SHOWN` images, spread evenly over those with instances; over all where none has any."""
    images = split.learnable or split.images
    count = min(SHOWN, len(images))
    return [images[number * len(images) // count] for number in range(count)]


def _panels(network: InstanceSegmenter, split: InstanceSplit, image: InstanceImage, score: float) -> ImagePanels:
    pixels, found = read_sized(image), network.predict(image.path).above(score)
    panels = {
        "image": pixels,
        "truth": np.asarray(draw(pixels, _truth(network, split, image), scores=False)),
        f"prediction, {len(found.scores)} found": np.asarray(draw(pixels, found)),
    }
    return ImagePanels(image.name, [*panels.items()])


def _truth(network: InstanceSegmenter, split: InstanceSplit, image: InstanceImage) -> Instances:
    target = target_of(split, image, {number: place for place, number in enumerate(split.categories)})
    boxes, labels, masks = (target[key].numpy() for key in ("boxes", "labels", "masks"))
    return Instances(boxes, np.ones(len(labels), np.float32), labels, masks.astype(bool), split.classes)
