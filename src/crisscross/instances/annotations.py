"""Instances in COCO's layout: `annotations/instances_SPLIT2017.json` and the images in `SPLIT2017/`."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from crisscross.data.dataset import check_class_names, existing_folder
from crisscross.data.files.coco_json import entries, read_images, read_tree
from crisscross.data.files.coco_masks import Drop, checked
from crisscross.data.files.folders import either_form
from crisscross.errors import CrissCrossError
from crisscross.instances.config import InstanceDataConfig

FOLDERS = ("{split}2017", "{split}", "images/{split}2017", "images/{split}")
FILES = ("annotations/instances_{split}2017.json", "annotations/instances_{split}.json")
# Boxes that are not wider and higher than this are no training examples, as in torchvision's reference code.
NARROW = 1.0
MOST_CLASSES = 10_000


class InstanceImage(NamedTuple):
    """One image: its number in the annotations, its file, and its size as the annotations have it."""

    number: int
    name: str
    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class InstanceSplit:
    """The images of one split with their annotations, as COCO has them, by the number of the image.

    `file` is the json file; `report` says in short lines what was left out or lies beyond its image.
    """

    name: str
    file: Path
    images: tuple[InstanceImage, ...]
    annotations: Mapping[int, tuple[dict[str, Any], ...]]
    classes: tuple[str, ...]
    categories: tuple[int, ...]
    report: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def learnable(self) -> tuple[InstanceImage, ...]:
        """The images with a training example, see `is_example`."""
        return tuple(image for image in self.images if any(map(is_example, self.annotations[image.number])))

    def check_files(self) -> None:
        """Refuse a split whose images are not all there.

        Raises:
            CrissCrossError: some are missing; the first is named.
        """
        folders = {image.path.parent for image in self.images}
        there = {folder: set(os.listdir(folder)) for folder in folders if folder.is_dir()}
        missing = [p.path for p in self.images if p.path.name not in there.get(p.path.parent, ())]
        if missing:
            raise CrissCrossError(
                f"{missing[0]}: no such file, but {self.file.name} lists it ({len(missing)} of {len(self)} images "
                "are missing); fetch them or take them out of the annotations"
            )

    def as_coco(self) -> dict[str, Any]:
        """The annotations as one dictionary of COCO's."""
        images = [{"id": p.number, "file_name": p.path.name, "height": p.height, "width": p.width} for p in self.images]
        categories = [{"id": n, "name": name} for n, name in zip(self.categories, self.classes, strict=True)]
        annotations = [annotation for found in self.annotations.values() for annotation in found]
        return {"images": images, "annotations": annotations, "categories": categories}


def is_example(annotation: dict[str, Any]) -> bool:
    """Whether an annotation is a training example: no crowd, and a box wider and higher than one pixel."""
    return not annotation["iscrowd"] and min(annotation["bbox"][2:]) > NARROW


def check_categories(wanted: InstanceDataConfig, split: InstanceSplit) -> None:
    """Refuse annotations whose classes are not those of an experiment.

    Raises:
        CrissCrossError: another number or another name; the first is named.
    """
    known = dict(zip(wanted.categories, wanted.classes, strict=True))
    for number, name in zip(split.categories, split.classes, strict=True):
        if known.get(number) != name:
            theirs = repr(known[number]) if number in known else f"not among its {len(known)} classes"
            raise CrissCrossError(
                f"{split.file}: category {number} is {name!r}, in the network {theirs}; use annotations of the "
                "classes in data.classes"
            )


@dataclass
class InstanceData:
    """A folder in COCO's layout; a split is read when it is asked for."""

    root: Path
    name: str = "coco-instances"
    splits: dict[str, InstanceSplit] = field(default_factory=dict)

    def split(self, name: str) -> InstanceSplit:
        """The images and annotations of one split.

        Raises:
            CrissCrossError: it is not there, or its annotations cannot be read.
        """
        if name not in self.splits:
            self.splits[name] = _read_split(self.root, name)
        return self.splits[name]

    def has(self, name: str) -> bool:
        """Whether there are annotations for a split of that name."""
        return bool(name) and _found(self.root, FILES, name) is not None


def open_coco_instances(root: str | os.PathLike[str]) -> InstanceData:
    """Open COCO 2017 or a data set in its layout; nothing is read yet.

    Raises:
        CrissCrossError: no such folder, or no `annotations/instances_*.json` in it.
    """
    root = existing_folder(root)
    if not any((root / "annotations").glob("instances_*.json")):
        raise CrissCrossError(
            f"{root}: no annotations/instances_*.json; instance segmentation needs COCO's layout: "
            "annotations/instances_train2017.json, train2017/, annotations/instances_val2017.json, val2017/"
        )
    return InstanceData(root)


def _found(root: Path, patterns: tuple[str, ...], split: str) -> Path | None:
    paths = (root / pattern.format(split=split) for pattern in patterns)
    return next((path for path in paths if path.exists()), None)


def _read_split(root: Path, split: str) -> InstanceSplit:
    file, folder = _found(root, FILES, split), _found(root, FOLDERS, split)
    if file is None:
        raise CrissCrossError(f"{root}: no split {split!r}: {FILES[0].format(split=split)} is not there")
    if folder is None:
        raise CrissCrossError(f"{root}: no folder {split}2017 with the images of {file.name}")
    tree = read_tree(file)
    categories = {entry["id"]: entry["name"] for entry in entries(file, tree, "categories", id=int, name=str)}
    if not categories:
        raise CrissCrossError(f"{file}: 'categories' is empty; there is nothing to learn")
    check_class_names(categories.values(), f"{file}: 'categories'", most=MOST_CLASSES)
    images = {
        number: InstanceImage(number, Path(name).stem, either_form(folder / name), height, width)
        for number, name, height, width in read_images(file, tree)
    }
    if not images:
        raise CrissCrossError(f"{file}: 'images' is empty")
    annotations, report = _read_annotations(file, tree, images, categories)
    order = sorted(categories)
    return InstanceSplit(
        split, file, tuple(images.values()), annotations, tuple(categories[n] for n in order), tuple(order), report
    )


def _read_annotations(
    file: Path, tree: Any, images: dict[int, InstanceImage], categories: dict[int, str]
) -> tuple[dict[int, tuple[dict[str, Any], ...]], tuple[str, ...]]:
    """Sound annotations by image, and a line for every kind of thing that is not."""
    found: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
    dropped: Counter[str] = Counter()
    for entry in entries(file, tree, "annotations", id=int, image_id=int, category_id=int):
        where = f"{file}: annotation {entry['id']}"
        if entry["image_id"] not in images:
            raise CrissCrossError(f"{where} belongs to image {entry['image_id']}, which 'images' does not list")
        if entry["category_id"] not in categories:
            raise CrissCrossError(f"{where} has category {entry['category_id']}, which 'categories' does not list")
        image = images[entry["image_id"]]
        try:
            sound, beyond = checked(entry, image.height, image.width, where)
        except Drop as reason:
            dropped[f"{reason}: left out"] += 1
            continue
        if beyond:
            dropped["beyond their image: clipped"] += 1
        found[image.number].append(sound)
    report = tuple(f"{count} annotations {what}" for what, count in sorted(dropped.items()))
    return {number: tuple(mine) for number, mine in found.items()}, report
