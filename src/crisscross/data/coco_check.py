"""Looks through a data set of instances before training does: every picture's head, every mask."""

from collections.abc import Callable

from crisscross.data.coco_instances import InstanceSplit
from crisscross.data.files.coco_masks import decode
from crisscross.data.files.reading import read_header
from crisscross.errors import CrissCrossError


def check_split(split: InstanceSplit, done: Callable[[int], object] = lambda count: None) -> list[str]:
    """A line for everything that training or scoring would stumble over; `done` is told the pictures looked at."""
    problems = []
    for count, picture in enumerate(split.pictures, 1):
        try:
            width, height = read_header(picture.path)
            if (width, height) != (picture.width, picture.height):
                said = f"{picture.width} x {picture.height}"
                problems.append(f"{picture.path}: is {width} x {height}, the annotations say {said}")
        except CrissCrossError as error:
            problems.append(str(error))
        for annotation in split.annotations[picture.number]:
            where = f"{split.file}: annotation {annotation['id']}"
            try:
                if not decode(annotation["segmentation"], picture.height, picture.width).any():
                    problems.append(f"{where} covers no pixel of its picture")
            except CrissCrossError as error:
                problems.append(f"{where}: {error}")
        done(count)
    return problems
