"""Two drawn videos of a moving square, as a data set whose names tell video and frame; and drawn frames for files."""

from pathlib import Path

import numpy as np
from PIL import Image

# In the folder's lists: video -> frame numbers. `a` has a gap after 60, `c` is for validation.
TRAIN = {"a_": (0, 30, 60, 150, 180, 210), "b_f": (7, 9, 11)}
VAL = {"c_": (100, 110, 120, 130)}


def draw_frame(index: int, height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 [H, W, 3] of a bright square on slanted ground, 4 pixels further right in each frame, and its
    labels: 0 ground, 1 square."""
    y, x = np.mgrid[:height, :width]
    inside = (abs(y - height // 2) < 8) & (abs(x - 12 - 4 * (index % 10)) < 8)
    ground = np.stack([40 + x, 60 + y, 90 - y], axis=2)
    image = np.where(inside[..., None], [220, 200, 40], ground).astype(np.uint8)
    return image, inside.astype(np.uint8)


def write_videos(root: Path) -> Path:
    """images/, masks/, train.txt, val.txt and dataset.yaml with `video: true`."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for split, videos in (("train", TRAIN), ("val", VAL)):
        names = [f"{video}{number:03}" for video, numbers in videos.items() for number in numbers]
        for index, name in enumerate(names):
            image, mask = draw_frame(index)
            Image.fromarray(image).save(root / "images" / f"{name}.png")
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
        (root / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (root / "dataset.yaml").write_text("classes: [ground, square]\nvideo: true\n", encoding="utf-8")
    return root
