"""How far a score would move with other images of the same kind: the percentile bootstrap over images.

B. Efron, R. Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13.
"""

import numpy as np

RESAMPLES, SEED, LEVEL = 1000, 0, 0.95
# Resamples that are drawn at once: memory does not grow with their number.
CHUNK = 100


def resampled(counts: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Counts of sets of N images drawn with replacement from N images, as float64 [resamples, ...].

    Args:
        counts: of each image [N, ...], in whole numbers whose sums stay below 2**53, where float64 is exact, or any
            numbers that add up over images.
        resamples: number of sets.
        seed: the same seed and N draw the same images, whatever the counts are of.
    """
    number = len(counts)
    flat = counts.reshape(number, -1).astype(np.float64)
    generator, parts = np.random.default_rng(seed), []
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        # How often each image is drawn.
        parts.append(generator.multinomial(number, np.full(number, 1 / number), size) @ flat)
    return np.concatenate(parts).reshape(resamples, *counts.shape[1:])


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """The percentiles that hold the middle `level` of values [resamples]; those that are NaN are left out.

    None where all are NaN, as the IoU of a class that is in no image.
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
