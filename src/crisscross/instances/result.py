"""What a network for instance segmentation finds in an image."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Instances:
    """The instances found in one image, best first.

    `boxes` float32 [N, 4] (left, top, right, bottom in pixels of the image), `scores` float32 [N] in 0..1, `labels`
    int64 [N] (index into `classes`), `masks` bool [N, H, W].
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    classes: tuple[str, ...]

    def above(self, score: float) -> "Instances":
        """Those with a score of at least `score`."""
        keep = self.scores >= score
        return Instances(self.boxes[keep], self.scores[keep], self.labels[keep], self.masks[keep], self.classes)
