"""COCO's annotations of things and stuff -> maps of COCO-Stuff, where the ready ones were not downloaded."""

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.files.coco_json import entries, read_images, read_tree
from crisscross.data.files.coco_masks import Drop, check_shape, checked_shape, decode
from crisscross.data.files.folders import needed_file
from crisscross.data.prepare.work import Job, Plan, write_mask
from crisscross.data.sets.coco_stuff import LABELS, MASKS, SPLITS, UNLABELLED
from crisscross.errors import CrissCrossError, import_extra
from crisscross.files import output_path

# The stuff files give the place of all things this number; where no thing is painted over it, nothing is known.
OTHER = 183

Annotation = dict[str, Any]


def coco_stuff_jobs(root: Path, out: Path) -> Plan:
    """A map for every image of `annotations/{stuff,instances}_{train,val}2017.json`.

    Raises:
        CrissCrossError: a file or the package pycocotools is missing, or a file is no COCO JSON.
    """
    import_extra("pycocotools.mask", "reading annotations of COCO", "prepare")
    folder = root / "annotations"
    present = [split for split in SPLITS.values() if (folder / f"stuff_{split}.json").is_file()]
    if not present:
        fix = "unpack stuff_annotations_trainval2017.zip and annotations_trainval2017.zip of COCO there"
        needed_file(folder / "stuff_val2017.json", fix)
    return Plan([job for split in present for job in _split_jobs(root, out, split)])


def _split_jobs(root: Path, out: Path, split: str) -> list[Job]:
    folder = root / "annotations"
    stuff = folder / f"stuff_{split}.json"
    things = needed_file(folder / f"instances_{split}.json", "unpack annotations_trainval2017.zip of COCO")
    trees = {file: read_tree(file) for file in (stuff, things)}
    layers: dict[int, list[list[Annotation]]] = defaultdict(lambda: [[], []])
    for layer, (file, tree) in enumerate(trees.items()):
        for annotation in entries(file, tree, "annotations", id=int, image_id=int, category_id=int):
            layers[annotation["image_id"]][layer].append(annotation)
    jobs: dict[Path, Job] = {}
    for image in read_images(stuff, trees[stuff]):
        target = output_path(out, f"{MASKS}/{split}/{Path(image.file_name).stem}.png")
        if target in jobs:
            raise CrissCrossError(f"{stuff}: two images would have the map {target.name}; file names must be unique")
        below, above = layers[image.number]
        jobs[target] = Job(target, partial(paint, (image.height, image.width), below + above))
    return list(jobs.values())


def paint(size: tuple[int, int], annotations: list[Annotation], target: Path) -> int:
    """Write the map of one image: annotations in their order, later ones over earlier ones, crowds included.

    Raises:
        CrissCrossError: an annotation that cannot be decoded.
    """
    labels = np.full(size, UNLABELLED, np.uint8)
    for annotation in annotations:
        number, where = annotation["category_id"], f"{target.name}: annotation {annotation['id']}"
        if number != OTHER and number - 1 not in LABELS:
            raise CrissCrossError(f"{where} has the unknown category {number}")
        try:
            shape, _ = checked_shape(annotation.get("segmentation"), *size, where)
        except Drop:
            continue
        check_shape(shape, where)
        labels[decode(shape, *size) > 0] = UNLABELLED if number == OTHER else number - 1
    write_mask(target, labels)
    return 0
