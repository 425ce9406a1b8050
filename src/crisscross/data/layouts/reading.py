"""One way to read a folder: what `dataset.yaml` would say, and the masks to draw first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Drawn masks lie below this folder, each where its image lies below the root.
DRAWN = "crisscross-masks"
# What makes the masks to draw, by their path below the folder of drawn masks.
Drawings = dict[str, Callable[[], np.ndarray]]
# What damaged files from outside can make the code below raise, where no closer look named the file.
DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, OSError)


@dataclass(frozen=True)
class Reading:
    """How a folder is read.

    Attributes:
        kind: name of the format, for messages.
        description: the content of `dataset.yaml`.
        notes: what was assumed, one line each.
        draw: index masks by their path below the folder of drawn masks; empty where the data set has masks.
        names_file: the file in which a person listed the classes, so that each is meant to occur; empty where a
            labeling tool lists them, or the masks tell them.
    """

    kind: str
    description: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    draw: Drawings = field(default_factory=dict)
    names_file: str = ""


def drawn_folders(images: Mapping[str, str]) -> dict[str, Any]:
    """The keys `images` and `masks` of a description with drawn masks, from the folder of images of each split."""
    drawn = {split: DRAWN if folder in ("", ".") else f"{DRAWN}/{folder}" for split, folder in images.items()}
    return folder_keys(images, drawn)


def folder_keys(images: Mapping[str, str], masks: Mapping[str, str]) -> dict[str, Any]:
    """The keys `images` and `masks` of a description from the folders of each split: a single folder where no split is
    named."""

    def said(folders: Mapping[str, str]) -> Any:
        named = {split: folder or "." for split, folder in folders.items()}
        return named[""] if set(named) == {""} else named

    return {"images": said(images), "masks": said(masks)}
