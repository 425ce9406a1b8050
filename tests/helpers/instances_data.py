"""A small data set in COCO's layout, drawn by formula: ellipses and bars on a slope of gray."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from crisscross.config import override
from crisscross.instances.config import InstanceExperiment

HEIGHT, WIDTH = 64, 96
# Not contiguous, as COCO's.
CATEGORIES = ({"id": 3, "name": "disc"}, {"id": 17, "name": "bar"})
TINY = (
    *("model.backbone=resnet18", "model.pretrained=none", "model.channels=16", "model.box_features=32"),
    *("model.mask_layers=1", "model.trainable_layers=2", "model.anchors=[16, 16, 32, 32, 64]"),
    *("preprocess.short=64", "preprocess.long=96", "proposals.train=40", "proposals.test=20", "proposals.anchors=32"),
    *("proposals.boxes=16", "optim.warmup=2", "optim.steps=[100]", "optim.lr=0.01", "train.batch=2"),
    *("train.iterations=4", "train.validate_every=0", "train.checkpoint_every=0", "inference.detections=10"),
)


def disc(x: float, y: float, radius: float, corners: int = 24) -> list[float]:
    """A polygon around (x, y)."""
    angles = np.arange(corners) * 2 * np.pi / corners
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).ravel().round(2).tolist()


def bar(left: float, top: float, width: float, height: float) -> list[float]:
    right, bottom = left + width, top + height
    return [left, top, right, top, right, bottom, left, bottom]


def run_lengths(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths of a mask [H, W]: column by column, zeros first."""
    counts, value, run = [], 0, 0
    for pixel in mask.ravel(order="F").astype(int).tolist():
        if pixel != value:
            counts.append(run)
            value, run = pixel, 0
        run += 1
    return [*counts, run]


def annotation(number: int, image: int, category: int, shape: object, box: list[float], **more: object) -> dict:
    area = more.pop("area", box[2] * box[3])
    return {
        **{"id": number, "image_id": image, "category_id": category, "segmentation": shape, "bbox": box},
        **{"area": area, "iscrowd": 0, **more},
    }


def tree_of(count: int = 4) -> dict:
    """Annotations: a disc and a bar in every image but the last, which has none."""
    images, annotations = [], []
    for number in range(count):
        images.append({"id": 100 + number, "file_name": f"p{number}.png", "height": HEIGHT, "width": WIDTH})
        if number == count - 1:
            continue
        x, y = 24.0 + 6 * number, 30.0
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[8 + number : 24 + number, 60:84] = True
        rle = {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)}
        annotations.append(annotation(10 * number, 100 + number, 3, [disc(x, y, 14)], [x - 14, y - 14, 28, 28]))
        annotations.append(annotation(10 * number + 1, 100 + number, 17, rle, [60, 8 + number, 24, 16]))
    return {"images": images, "annotations": annotations, "categories": [dict(category) for category in CATEGORIES]}


def write_coco(root: Path, tree: dict | None = None, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """The data set on disk."""
    tree = tree_of() if tree is None else tree
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split in splits:
        (root / f"{split}2017").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(tree))
        for number, image in enumerate(tree["images"]):
            pixels = np.stack([40 + x, 60 + y, np.full_like(x, 80)], -1).astype(np.uint8)
            pixels[(x - 24 - 6 * number) ** 2 + (y - 30) ** 2 <= 196] = (230, 60, 40)
            pixels[8 + number : 24 + number, 60:84] = (40, 200, 90)
            Image.fromarray(pixels).save(root / f"{split}2017" / image["file_name"])
    return root


def with_classes(experiment, classes=("disc", "bar"), categories=(3, 17)):
    return replace(experiment, data=replace(experiment.data, classes=classes, categories=categories))


def tiny(*words):
    return with_classes(override(InstanceExperiment(), [*TINY, *words]))
