"""A small data set, drawn by formula: three classes, every image different. For the tests of `crisscross.data`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("floor", "wall", "door")
HEIGHT, WIDTH = 24, 32


def draw_image(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 RGB [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    return np.stack([7 * x + 11 * index, 9 * y + 5 * index, 3 * x + 2 * y + 17 * index], axis=2).astype(np.uint8)


def draw_labels(index: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 [H, W]: classes 0, 1 and 2 in blocks, one row of 255."""
    y, x = np.mgrid[:height, :width]
    labels = ((x // 5 + y // 4 + index) % 3).astype(np.uint8)
    labels[index % height] = 255
    return labels


def write_folder(root: Path, splits: Mapping[str, int], height: int = HEIGHT, width: int = WIDTH) -> Path:
    """images/, masks/, dataset.yaml and a list for every split; the images are called SPLIT_0, SPLIT_1 ..."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    index = 0
    for split, count in splits.items():
        names = [f"{split}_{number}" for number in range(count)]
        for name in names:
            Image.fromarray(draw_image(index, height, width)).save(root / "images" / f"{name}.png")
            Image.fromarray(draw_labels(index, height, width)).save(root / "masks" / f"{name}.png")
            index += 1
        (root / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(CLASSES)}]\n", encoding="utf-8")
    return root
