"""Looks through a data set of instances before training does: every image's head, every mask."""

from collections.abc import Callable

from crisscross.data.coco_instances import InstanceSplit
from crisscross.data.files.coco_masks import decode
from crisscross.data.files.reading import read_header
from crisscross.errors import CrissCrossError


def check_split(split: InstanceSplit, done: Callable[[int], object] = lambda count: None) -> list[str]:
    """A line for everything that training or scoring would stumble over; `done` is told the images looked at."""
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
