"""Check a data set of instances before training: the header of every image, and every mask."""

from collections.abc import Callable

from crisscross.data.files.coco_masks import decode
from crisscross.data.files.reading import read_header
from crisscross.errors import CrissCrossError
from crisscross.instances.annotations import InstanceData, InstanceSplit
from crisscross.progress import Progress


def check_split(split: InstanceSplit, done: Callable[[int], object] = lambda count: None) -> list[str]:
    """One line for each problem of a split; `done` is called with the number of images that were checked."""
    problems = []
    for count, image in enumerate(split.images, 1):
        try:
            width, height = read_header(image.path)
            if (width, height) != (image.width, image.height):
                said = f"{image.width} x {image.height}"
                problems.append(f"{image.path}: is {width} x {height}, the annotations say {said}")
        except CrissCrossError as error:
            problems.append(str(error))
        for annotation in split.annotations[image.number]:
            where = f"{split.file}: annotation {annotation['id']}"
            try:
                if not decode(annotation["segmentation"], image.height, image.width).any():
                    problems.append(f"{where} covers no pixel of its image")
            except CrissCrossError as error:
                problems.append(f"{where}: {error}")
        done(count)
    return problems


def check_data(data: InstanceData) -> tuple[list[str], list[str]]:
    """Lines about the training and validation images of a data set, and its problems."""
    lines, problems = [], []
    for name in filter(data.has, ("train", "val")):
        split = data.split(name)
        with Progress(f"reading {name}", len(split)) as progress:
            problems += check_split(split, progress.update)
        entries = [entry for found in split.annotations.values() for entry in found]
        crowds = sum(entry["iscrowd"] for entry in entries)
        lines.append(
            f"{name}: {len(split)} images, {len(split.learnable)} with something to learn from; "
            f"{len(entries) - crowds} instances of {len(split.classes)} classes, {crowds} crowds"
        )
        lines += [f"{name}: {line}" for line in split.report]
    return lines, problems
