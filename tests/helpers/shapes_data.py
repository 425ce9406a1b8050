"""A small data set that a network learns in seconds, and an experiment for it. For the tests of training."""

from pathlib import Path

import numpy as np
from PIL import Image

from crisscross.config import Experiment, from_dict, override

EXPERIMENT = {
    "name": "tiny",
    "model": {"backbone": "test_resnet", "output_stride": 8, "head": {"channels": 16}, "aux_head": {"channels": 8}},
    "augment": {"crop": [48, 48], "ratio": [0.8, 1.25]},
    "optim": {"lr": 0.05},
    "train": {"iterations": 6, "batch": 4, "validate_every": 0, "checkpoint_every": 0},
}


def experiment(*changes: str) -> Experiment:
    return override(from_dict(Experiment, EXPERIMENT), changes)


def write_shapes(root: Path, train: int = 9, val: int = 3) -> Path:
    """Images 80 x 64: a bright disc and a dark square on noise; the classes ground, disc, square."""
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[0:64, 0:80]
    names = [f"p{index:02}" for index in range(train + val)]
    for name in names:
        mask = np.zeros((64, 80), np.uint8)
        cy, cx = rng.integers(16, 48), rng.integers(40, 64)
        mask[(yy - cy) ** 2 + (xx - cx) ** 2 < 240] = 1
        mask[10:40, 4:30] = 2
        mask[0] = 255
        image = np.choose(mask.clip(0, 2), [110, 220, 20])[..., None] + rng.normal(0, 12, (64, 80, 3))
        for kind, array in (("images", image.clip(0, 255).astype(np.uint8)), ("masks", mask)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / kind / f"{name}.png")
    (root / "train.txt").write_text("\n".join(names[:train]))
    (root / "val.txt").write_text("\n".join(names[train:]))
    (root / "dataset.yaml").write_text("classes: [ground, disc, square]\n")
    return root
