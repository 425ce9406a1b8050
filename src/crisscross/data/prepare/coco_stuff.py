"""COCO's annotations of things and stuff -> maps of COCO-Stuff, where the ready ones were not downloaded."""

import json
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.coco_stuff import LABELS, MASKS, SPLITS, UNLABELLED
from crisscross.data.layout import needed_file
from crisscross.data.prepare.work import Job, Plan, needed_package, write_mask
from crisscross.errors import CrissCrossError
from crisscross.files import output_path

# The stuff files give the place of all things this number; where no thing is painted over it, nothing is known.
OTHER = 183

Annotation = dict[str, Any]


def coco_stuff_jobs(root: Path, out: Path) -> Plan:
    """A map for every picture of `annotations/{stuff,instances}_{train,val}2017.json`.

    Raises:
        CrissCrossError: a file or the package pycocotools is missing, or a file is no COCO JSON.
    """
    needed_package("pycocotools.mask", "decoding the annotations of COCO")
    folder = root / "annotations"
    present = [split for split in SPLITS.values() if (folder / f"stuff_{split}.json").is_file()]
    if not present:
        fix = "unpack stuff_annotations_trainval2017.zip and annotations_trainval2017.zip of COCO there"
        needed_file(folder / "stuff_val2017.json", fix)
    return Plan([job for split in present for job in _split_jobs(root, out, split)])


def _split_jobs(root: Path, out: Path, split: str) -> list[Job]:
    folder = root / "annotations"
    stuff = _read(folder / f"stuff_{split}.json")
    things = _read(needed_file(folder / f"instances_{split}.json", "unpack annotations_trainval2017.zip of COCO"))
    layers: dict[int, list[list[Annotation]]] = defaultdict(lambda: [[], []])
    for layer, content in enumerate((stuff, things)):
        for annotation in content["annotations"]:
            layers[annotation["image_id"]][layer].append(annotation)
    jobs = []
    for image in stuff["images"]:
        target = output_path(out, f"{MASKS}/{split}/{Path(image['file_name']).stem}.png")
        below, above = layers[image["id"]]
        jobs.append(Job(target, partial(paint, (image["height"], image["width"]), below + above)))
    return jobs


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        assert isinstance(content["images"], list) and isinstance(content["annotations"], list)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise CrissCrossError(f"{path}: not a COCO annotation file; unpack it again") from error
    return content


def paint(size: tuple[int, int], annotations: list[Annotation], target: Path) -> int:
    """Write the map of one picture: annotations in their order, later ones over earlier ones, crowds included.

    Raises:
        CrissCrossError: an annotation that cannot be decoded.
    """
    labels = np.full(size, UNLABELLED, np.uint8)
    for annotation in annotations:
        number = annotation["category_id"]
        if number != OTHER and number - 1 not in LABELS:
            raise CrissCrossError(f"{target.name}: annotation {annotation['id']} has the unknown category {number}")
        covered = region(annotation["segmentation"], size)
        if covered is None or covered.shape != size:
            raise CrissCrossError(f"{target.name}: annotation {annotation['id']} cannot be decoded")
        labels[covered] = UNLABELLED if number == OTHER else number - 1
    write_mask(target, labels)
    return 0


def region(segmentation: Any, size: tuple[int, int]) -> np.ndarray | None:
    """bool [H, W] of polygons, of run lengths or of COCO's compressed run lengths; None where it is none of them."""
    from pycocotools import mask

    try:
        if isinstance(segmentation, list):
            # Fewer than three corners are no area; four numbers would be taken for a box.
            polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
            if not polygons:
                return np.zeros(size, bool)
            packed = mask.merge(mask.frPyObjects(polygons, *size))
        elif isinstance(segmentation["counts"], list):
            packed = mask.frPyObjects(segmentation, *size)
        else:
            packed = segmentation
        return np.asarray(mask.decode(packed)).astype(bool)
    except Exception:
        # Damaged run lengths make pycocotools fail in many ways.
        return None
