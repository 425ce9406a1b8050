"""Masks that are mirrored or shifted against their images, told from where images have edges."""

from collections.abc import Sequence

import numpy as np

from crisscross.data.dataset import Pair

SIDE = 96
# Fewer images say too little, more than this add nothing.
FEWEST, MOST = 12, 200
# How far the best place may lie from that of the mask, in pixels of SIDE.
NEAR = 3
# How much better another place must be: standard errors over all images, and times the correlation of the mask's own.
CERTAIN, BETTER = 6.0, 1.5
# A correlation that chance alone reaches.
LEAST = 0.02
MIRRORED = {
    "mirrored left to right": (slice(None), slice(None, None, -1)),
    "upside down": (slice(None, None, -1), slice(None)),
    "turned by half": (slice(None, None, -1), slice(None, None, -1)),
}


def edges(image: np.ndarray, labels: np.ndarray, ignore: int) -> np.ndarray | None:
    """Correlation of the edges of an image with those of its mask at every shift: float32 [4, SIDE, SIDE], for the
    mask as it is and mirrored in three ways; None where there are too few edges.

    Args:
        image: uint8 [H, W, 3].
        labels: uint8 [H, W].
        ignore: the label of pixels whose edges do not count.
    """
    from PIL import Image

    gray = np.asarray(Image.fromarray(image).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    y, x = (np.arange(SIDE) * size // SIDE for size in labels.shape)
    small = labels[np.ix_(y, x)]
    known = small != ignore
    border = np.zeros((SIDE, SIDE), bool)
    border[:, 1:] |= (small[:, 1:] != small[:, :-1]) & known[:, 1:] & known[:, :-1]
    border[1:] |= (small[1:] != small[:-1]) & known[1:] & known[:-1]
    steep = np.hypot(*np.gradient(gray))
    if border.sum() < SIDE // 4 or steep.std() == 0:
        return None
    wanted = np.fft.rfft2((steep - steep.mean()) / steep.std())
    found = []
    for flip in ((slice(None), slice(None)), *MIRRORED.values()):
        mask = border[flip].astype(np.float32)
        mask = (mask - mask.mean()) / mask.std()
        found.append(np.fft.irfft2(wanted * np.conj(np.fft.rfft2(mask)), (SIDE, SIDE)) / SIDE**2)
    return np.array(found, np.float32)


def misaligned(correlations: Sequence[np.ndarray]) -> str:
    """How masks lie against their images if not as they should; empty where they fit, or too little is known.

    Only what most images agree on counts: one shift, or one mirroring, for all of them.
    """
    if len(correlations) < FEWEST:
        return ""
    stacked = np.stack(correlations)
    mean = stacked.mean(axis=0)
    own = _near(mean[0]).max()
    candidates = [(name, number, 0, 0) for number, name in enumerate(MIRRORED, 1)]
    row, column = np.unravel_index(int(mean[0].argmax()), mean[0].shape)
    down, right = (int(place - SIDE * (place > SIDE // 2)) for place in (row, column))
    if max(abs(down), abs(right)) > NEAR:
        text = f"shifted by {-right / SIDE:+.0%} of the width and {-down / SIDE:+.0%} of the height"
        candidates.append((text, 0, down, right))
    found, most = "", BETTER * max(float(own), LEAST)
    for text, number, down, right in candidates:
        there = np.roll(stacked[:, number], (-down, -right), (1, 2))
        gain = _near(there).max(axis=(1, 2)) - _near(stacked[:, 0]).max(axis=(1, 2))
        agreed = float(_near(there.mean(axis=0)).max())
        if agreed > most and gain.mean() > CERTAIN * gain.std() / np.sqrt(len(gain)):
            found, most = text, agreed
    return found


def _near(correlation: np.ndarray) -> np.ndarray:
    """The shifts of at most NEAR pixels, of [..., SIDE, SIDE]."""
    places = np.arange(-NEAR, NEAR + 1)
    return correlation[..., places[:, None], places]


def sampled(pairs: Sequence[Pair]) -> set[Pair]:
    """The pairs whose edges are looked at, spread evenly."""
    step = max(len(pairs) / MOST, 1)
    return {pairs[int(place * step)] for place in range(min(len(pairs), MOST))}
