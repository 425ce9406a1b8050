"""A network that is a fixed linear filter bank, in NumPy and in torch: both give the very same coarse logits.

Pixels normalized by `PREPROCESS` are multiples of 1 / 64 and filter weights whole numbers, so every sum is exact in
float32 in whatever order it is made. Importing this module imports no torch.
"""

import numpy as np

from crisscross.config import InferenceConfig, PreprocessConfig
from crisscross.inference import Card

CLASSES, SIDE, STRIDE = 5, 9, 8
WEIGHT = np.random.default_rng(3).integers(-8, 9, (CLASSES, 3, SIDE, SIDE)).astype(np.float32)
PREPROCESS = {"mean": (128.0, 112.0, 96.0), "std": (64.0, 64.0, 64.0)}
PLACES = {"middle": [1], "last": [2], "every": [0, 1, 2]}
# Frames of a clip count unlike: a clip in another order has other logits.
SHIFTS = np.array([[1, 2, 4], [4, 1, 2], [2, 4, 1]], np.float32)
SLIDE = {"mode": "slide", "window": (41, 57), "stride": (26, 33)}
CARDS = {
    "whole": {},
    "slide": {**SLIDE, "align_corners": True, "scale": (100, 70)},
    "padded": {"scale": (100, 70), "pad_to": (80, 112)},
    **{label: {"frames": 3, "label": label} for label in PLACES},
    "slide clips": {**SLIDE, "frames": 3, "align_corners": True},
}


def image_of(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 [H, W, 3]: blocks of color under noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 200, (height // 16 + 1, width // 16 + 1, 3)).repeat(16, 0).repeat(16, 1)
    return (blocks[:height, :width] + rng.integers(0, 50, (height, width, 3))).astype(np.uint8)


def card(mode="whole", window=(41, 57), stride=(26, 33), scale=None, pad_to=None, **rest) -> Card:
    """A card of the filter bank: keys as in `CARDS`."""
    inference = InferenceConfig(mode, window, stride, ratios=(0.5, 1.5), pad_to=pad_to)
    names, colors = tuple("abcde"), ((0, 0, 0),) * CLASSES
    preprocess = PreprocessConfig(**PREPROCESS, scale=scale)
    return Card(names, colors, preprocess, inference, flip_pairs=((0, 3), (1, 2)), **rest)


def logits(x: np.ndarray) -> np.ndarray:
    """Coarse logits [B, K, h, w] of normalized images [B, 3, H, W] at stride 8."""
    padded = np.pad(x, [(0, 0), (0, 0), (SIDE // 2, SIDE // 2), (SIDE // 2, SIDE // 2)])
    patches = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), (2, 3))[:, :, ::STRIDE, ::STRIDE]
    return np.einsum("bchwij,kcij->bkhw", patches, WEIGHT, optimize=True)


def clip_logits(label: str):
    """The same for a clip of 3 frames: each labeled frame has a weighted sum over the clip."""

    def logits_of(x: np.ndarray) -> np.ndarray:
        return np.einsum("lt,tkhw->lkhw", SHIFTS[PLACES[label]], logits(x))

    return logits_of


def every_mode(predictor_of) -> dict[str, np.ndarray]:
    """Labels by mode; `predictor_of(card)` gives the predictor."""
    found = {}
    for name, settings in CARDS.items():
        predictor = predictor_of(card(**settings))
        frames = [image_of(75, 101, seed) for seed in range(4)]
        for tta in (False, True):
            found[f"{name} video tta={tta}"] = np.stack(list(predictor.label_frames(frames, tta)))
            found[f"{name} image tta={tta}"] = predictor.predict(image_of(1, 90, 7), tta=tta).labels
        found[f"{name} tiles"] = predictor.predict_big(image_of(150, 210, 8), 96, 32)
        found[f"{name} probabilities"] = predictor.predict(frames[0], probabilities=True, tta=True).probabilities
    return found
