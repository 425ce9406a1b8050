"""Images of one split that look like one of another: saved anew, resized, or the next frame of a video."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np

from crisscross.data.check.report import Problem
from crisscross.data.dataset import Pair

SIDE = 16
# Bits of 256 that may differ: saving anew as JPEG changes a few, another image about half of them.
MOST_DIFFERENT = 10
# Gray values apart on average below which an image has nothing to compare.
LEAST_CONTRAST = 4.0
# Comparing more pairs of images takes minutes.
MOST_COMPARED = 400_000_000


def look_of(image: np.ndarray) -> int | None:
    """256 bits: where a tiny copy of an image gets brighter to the right; None for an image without contrast.

    Source: the difference hash of N. Krawetz, "Kind of like that" (2013).
    """
    from PIL import Image

    small = np.asarray(Image.fromarray(image).convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX), np.float32)
    if small.std() < LEAST_CONTRAST:
        return None
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes())


def near_copies(
    splits: Iterable[str],
    members: Sequence[tuple[str, Pair]],
    looks: Sequence[int | None],
    digests: Sequence[str | None],
) -> Iterator[Problem]:
    """One warning for each two splits that share images which look the same; exact copies are told elsewhere."""
    for first, second in combinations(splits, 2):
        exact = {
            split: {digest for digest, (own, _) in zip(digests, members, strict=True) if own == split}
            for split in (first, second)
        }
        one, other = (
            [
                (n, look)
                for n, look in enumerate(looks)
                if look is not None and members[n][0] == split and digests[n] not in exact[beside]
            ]
            for split, beside in ((first, second), (second, first))
        )
        if not one or not other or len(one) * len(other) > MOST_COMPARED:
            continue
        found = []
        table = _bytes([look for _, look in one])
        for n, look in other:
            differing = np.bitwise_count(table ^ _bytes([look])).sum(axis=1)
            best = int(differing.argmin())
            if differing[best] <= MOST_DIFFERENT:
                found.append((members[n][1], members[one[best][0]][1]))
        if found:
            copy, original = found[0]
            text = (
                f"{len(found)} of {len(other)} images in {second!r} look like one in {first!r} ({copy.image.name} like "
                f"{original.image.name}): scores will be too good; move copies and neighboring frames to one split"
            )
            yield Problem("warning", copy.image, text, tuple(pair.image for pair, _ in found[1:]))


def _bytes(looks: Sequence[int]) -> np.ndarray:
    return np.array([np.frombuffer(look.to_bytes(SIDE * SIDE // 8), np.uint64) for look in looks])
