"""Scenes as a plain folder: the layout that people bring their own images in."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from crisscross.data.scenes import canvas, islands
from crisscross.data.scenes.compose import IGNORE, draw_scene
from crisscross.files import write_text

SEEDS_APART = 1_000_000
Palette = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Kind:
    """A kind of scenes: K names and colors, and what draws one of a seed, height and width."""

    classes: tuple[str, ...]
    palette: Palette
    draw: Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]


KINDS = {
    "streets": Kind(canvas.CLASSES, canvas.PALETTE, draw_scene),
    "islands": Kind(islands.CLASSES, islands.PALETTE, islands.draw_islands),
}


def scene_seeds(counts: Mapping[str, int], seed: int = 0) -> dict[str, range]:
    """The scenes of every split: neighboring, disjoint ranges; another `seed` shares none of them.

    Raises:
        ValueError: more than a million scenes, or a negative count.
    """
    if any(count < 0 for count in counts.values()) or sum(counts.values()) > SEEDS_APART:
        raise ValueError(f"counts must be 0 or more and at most {SEEDS_APART} together, got {dict(counts)}")
    start, ranges = seed * SEEDS_APART, {}
    for split, count in counts.items():
        ranges[split] = range(start, start + count)
        start += count
    return ranges


def write_scenes(
    root: str | os.PathLike[str],
    counts: Mapping[str, int],
    seed: int = 0,
    height: int = 128,
    width: int = 256,
    kind: Literal["streets", "islands"] = "streets",
) -> None:
    """Draws a data set: images/NAME.png, masks/NAME.png (palette PNG), SPLIT.txt and dataset.yaml.

    Args:
        root: the folder, made if missing; files of the same names are overwritten.
        counts: scenes a split, such as {"train": 400, "val": 50, "test": 50}.
        seed: which data set; two seeds have no scene in common.
        height, width: pixels.
        kind: what is drawn, see `draw_scene` and `draw_islands`.
    """
    root, drawn = Path(root), KINDS[kind]
    _write_description(root, counts, drawn)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, seeds in scene_seeds(counts, seed).items():
        names = [f"{split}_{index:04d}" for index in range(len(seeds))]
        for name, scene in zip(names, seeds, strict=True):
            _write_pair(root, name, *drawn.draw(scene, height, width), drawn.palette)
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _write_pair(root: Path, name: str, image: np.ndarray, labels: np.ndarray, palette: Palette) -> None:
    from PIL import Image

    Image.fromarray(image).save(root / "images" / f"{name}.png")
    mask = Image.fromarray(labels)
    # A palette makes it mode P; all 256 entries, because with fewer the PNG has no room for the value 255.
    colors = [*palette, *[(0, 0, 0)] * (256 - len(palette))]
    mask.putpalette([channel for color in colors for channel in color])
    mask.save(root / "masks" / f"{name}.png")


def _write_description(root: Path, counts: Mapping[str, int], kind: Kind) -> None:
    import yaml

    description = {
        "classes": list(kind.classes),
        "palette": [list(color) for color in kind.palette],
        "ignore": IGNORE,
        "splits": {split: f"{split}.txt" for split in counts},
    }
    text = yaml.safe_dump(description, sort_keys=False, default_flow_style=None, width=120)
    write_text(root / "dataset.yaml", text)
