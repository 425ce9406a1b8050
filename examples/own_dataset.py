"""A data set of your own: a function that says which mask belongs to which image, and what the labels mean.

python examples/own_dataset.py

On the command line, in the folder of this file:
crisscross train ccnet-light --data FOLDER --out RUN --set data.name=own_dataset:open_fields
"""

import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import crisscross
from crisscross.data import DataSet, Pair

CLASSES, PALETTE = ("soil", "crop", "weed"), ((120, 80, 40), (40, 160, 40), (200, 30, 30))


def open_fields(root: str | os.PathLike[str]) -> DataSet:
    """FOLDER/train/plot_1.png with its mask FOLDER/train/plot_1_labels.png; the masks hold 0, 128 and 255."""
    root = Path(root)
    splits = {
        split: tuple(
            Pair(mask.stem.removesuffix("_labels"), mask.with_name(mask.name.replace("_labels", "")), mask)
            for mask in sorted((root / split).glob("*_labels.png"))
        )
        for split in ("train", "val")
    }
    # Stored values -> classes; 254 is no class here, and counts nowhere.
    return DataSet("fields", root, CLASSES, PALETTE, splits, ignore=254, labels={0: 0, 128: 1, 255: 2})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for number, split in enumerate(("train", "train", "val")):
            folder = Path(temporary, split)
            folder.mkdir(exist_ok=True)
            pixels = np.random.default_rng(number).choice(np.array([0, 128, 255], np.uint8), (24, 32))
            Image.fromarray(pixels).convert("RGB").save(folder / f"plot_{number}.png")
            Image.fromarray(pixels).save(folder / f"plot_{number}_labels.png")
        dataset = crisscross.open_dataset("own_dataset:open_fields", temporary)
        print("images", {name: len(pairs) for name, pairs in dataset.splits.items()}, "classes", dataset.classes)
