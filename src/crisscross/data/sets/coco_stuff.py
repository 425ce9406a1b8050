"""COCO-Stuff 164k: 80 things and 91 kinds of stuff; masks hold the COCO number of a class minus 1."""

import os
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.color import write_mask
from crisscross.data.dataset import DataSet, existing_folder
from crisscross.data.files.coco_json import entries, read_images, read_tree
from crisscross.data.files.coco_masks import Drop, check_shape, checked_shape, decode, import_coco
from crisscross.data.files.folders import absent, images_in, needed_file, needed_folder, pairs_of
from crisscross.data.palette import class_names, default_palette
from crisscross.data.sets.record import BuiltIn, Plan
from crisscross.errors import CrissCrossError
from crisscross.files import output_path

THINGS = class_names(
    """
    person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
    parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
    handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
    surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
    broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
    laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase,
    scissors, teddy bear, hair drier, toothbrush
    """
)
STUFF = class_names(
    """
    banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other,
    ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence,
    floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other,
    grass, gravel, ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin,
    net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road,
    rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw,
    structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other,
    wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood
    """
)
CLASSES = (*THINGS, *STUFF)
PALETTE = default_palette(CLASSES)
# Of COCO's numbers 1..182 these eleven things were never labeled; stored values are one less.
NEVER_LABELED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
STORED = tuple(number - 1 for number in range(1, 183) if number not in NEVER_LABELED)
UNLABELED = 255
# The stuff files give the pixels of all things this number; where no thing is painted over it, they stay unlabeled.
OTHER = 183
LABELS = {stored: number for number, stored in enumerate(STORED)} | {UNLABELED: 255}
SPLITS = {"train": "train2017", "val": "val2017"}
MASKS = "stuffthingmaps"


def is_coco_stuff(root: Path) -> bool:
    """Whether a folder has this layout, with maps or with the annotations of stuff that they are made of.

    Annotations of objects alone are another data set, in COCO's format.
    """
    annotations = [root / "annotations" / f"{kind}{split}" for split in SPLITS.values() for kind in ("", "stuff_")]
    maps = (root / MASKS).is_dir() or any(
        path.is_dir() or path.with_name(f"{path.name}.json").is_file() for path in annotations
    )
    return maps and _images(root) is not None


def open_coco_stuff(root: str | os.PathLike[str]) -> DataSet:
    """Open COCO-Stuff 164k (Caesar et al. 2018): train 118,287, val 5,000 images.

    Images lie in `images/train2017` (or `train2017`), masks in `stuffthingmaps/train2017` or, as the publishers
    unpack them, in `annotations/train2017`; `val2017` likewise.

    Raises:
        CrissCrossError: a missing folder.
    """
    root = existing_folder(root)
    images = _images(root)
    if images is None:
        images = needed_folder(root / "images" / "val2017", "unpack COCO's val2017.zip and train2017.zip in images/")
    fix = f"unpack stuffthingmaps_trainval2017.zip there, or type `crisscross data prepare coco-stuff {root}`"
    others = not (root / MASKS).is_dir() and any((root / "annotations" / name).is_dir() for name in SPLITS.values())
    inside = "annotations" if others else MASKS
    splits = {
        split: pairs_of(images_in(images / folder), needed_folder(root / inside / folder, fix))
        for split, folder in SPLITS.items()
        if (images / folder).is_dir()
    }
    note = absent(images, {split: (folder,) for split, folder in SPLITS.items()})
    return DataSet("coco-stuff", root, CLASSES, PALETTE, splits, note=note, labels=LABELS)


def _images(root: Path) -> Path | None:
    """The folder that holds the images of the splits, or None."""
    for folder in (root / "images", root):
        if any((folder / split).is_dir() for split in SPLITS.values()):
            return folder
    return None


def coco_stuff_plan(root: Path, out: Path) -> Plan:
    """A map for every image of `annotations/{stuff,instances}_{train,val}2017.json`.

    Raises:
        CrissCrossError: a file or the package pycocotools is missing, or a file is not COCO JSON.
    """
    import_coco()
    folder = root / "annotations"
    present = [split for split in SPLITS.values() if (folder / f"stuff_{split}.json").is_file()]
    if not present:
        fix = "unpack stuff_annotations_trainval2017.zip and annotations_trainval2017.zip of COCO there"
        needed_file(folder / "stuff_val2017.json", fix)
    return Plan({target: job for split in present for target, job in _split_jobs(root, out, split).items()})


def _split_jobs(root: Path, out: Path, split: str) -> dict[Path, Callable[[Path], int]]:
    folder = root / "annotations"
    stuff = folder / f"stuff_{split}.json"
    things = needed_file(folder / f"instances_{split}.json", "unpack annotations_trainval2017.zip of COCO")
    trees = {file: read_tree(file) for file in (stuff, things)}
    layers: dict[int, list[list[dict[str, Any]]]] = defaultdict(lambda: [[], []])
    for layer, (file, tree) in enumerate(trees.items()):
        for annotation in entries(file, tree, "annotations", id=int, image_id=int, category_id=int):
            layers[annotation["image_id"]][layer].append(annotation)
    jobs: dict[Path, Callable[[Path], int]] = {}
    for image in read_images(stuff, trees[stuff]):
        target = output_path(out, f"{MASKS}/{split}/{Path(image.file_name).stem}.png")
        if target in jobs:
            raise CrissCrossError(f"{stuff}: two images would have the map {target.name}; file names must be unique")
        below, above = layers[image.number]
        jobs[target] = partial(paint, (image.height, image.width), below + above)
    return jobs


def paint(size: tuple[int, int], annotations: list[dict[str, Any]], target: Path) -> int:
    """Write the map of one image: annotations in their order, later ones over earlier ones, crowds included.

    Raises:
        CrissCrossError: an annotation that cannot be decoded.
    """
    labels = np.full(size, UNLABELED, np.uint8)
    for annotation in annotations:
        number, where = annotation["category_id"], f"{target.name}: annotation {annotation['id']}"
        if number != OTHER and number - 1 not in LABELS:
            raise CrissCrossError(f"{where} has the unknown category {number}")
        try:
            shape, _ = checked_shape(annotation.get("segmentation"), *size, where)
        except Drop:
            continue
        check_shape(shape, where)
        labels[decode(shape, *size) > 0] = UNLABELED if number == OTHER else number - 1
    write_mask(target, labels)
    return 0


COCO_STUFF = BuiltIn(
    *(open_coco_stuff, is_coco_stuff, CLASSES, PALETTE),
    published={"train": 118287, "val": 5000},
    prepare=coco_stuff_plan,
    when="without stuffthingmaps/",
)
