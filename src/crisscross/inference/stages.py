"""A function for coarse logits in two parts, and the check of what it returns."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from crisscross.errors import CrissCrossError
from crisscross.inference import arrays
from crisscross.inference.arrays import Array
from crisscross.inference.card import Card


class Stages(NamedTuple):
    """A function for coarse logits in two parts, so that a frame which is part of several clips is encoded once.

    Attributes:
        encode: normalized image [1, 3, H, W] -> anything.
        decode: what `encode` made of each frame of a clip, and the places of some frames in it -> coarse logits
            [len(places), K, h, w].
    """

    encode: Callable[[Array], Any]
    decode: Callable[[Sequence[Any], Sequence[int]], Array]


def check_logits(found: Any, count: int, classes: int) -> None:
    """Refuse what is not coarse logits [count, classes, h, w], as one array or as a list of maps [classes, h, w].

    Raises:
        CrissCrossError: something else; it is described.
    """
    maps = list(found) if isinstance(found, list | tuple) or getattr(found, "ndim", 0) == 4 else []
    shapes = [tuple(getattr(one, "shape", ())) for one in maps]
    if len(maps) != count or any(len(shape) != 3 or shape[0] != classes for shape in shapes):
        one = maps[0] if maps and isinstance(found, list | tuple) else found
        kind = f"{'' if one is found else 'a list of '}{type(one).__name__} {list(getattr(one, 'shape', ()))}"
        raise CrissCrossError(
            f"the function of a predictor must return logits [{count}, {classes}, h, w], for the {classes} classes of "
            f"its card, got {kind.removesuffix(' []')}"
        )


def stages_of(logits_of: Callable[[Array], Array], card: Card) -> Stages:
    """A function for whole clips: of single images it is called when an image comes, of clips when one is complete."""
    if card.frames == 1:
        return Stages(logits_of, lambda clip, places: clip[0])
    order = {place: number for number, place in enumerate(card.places)}

    def decode(clip: Sequence[Array], places: Sequence[int]) -> Array:
        logits = logits_of(arrays.join(clip, 0))
        if getattr(logits, "ndim", 0) != 4 or len(logits) != len(order):
            check_logits(logits, len(order), len(card.classes))
        return [logits[order[place]] for place in places]

    return Stages(lambda x: x, decode)
