"""Windows of consecutive items: the clips of a video that together label each of its frames once."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice, repeat
from typing import TypeVar

from crisscross.errors import CrissCrossError

Item = TypeVar("Item")


def places_of(length: int, label: str) -> tuple[int, ...]:
    """Which frames of a clip are labeled: of an even number of frames the middle is the later of the two."""
    return {"middle": (length // 2,), "last": (length - 1,)}.get(label, tuple(range(length)))


def windows(items: Iterable[Item], length: int, label: str) -> Iterator[tuple[tuple[Item, ...], tuple[int, ...]]]:
    """Clips that label each item of a sequence once, in order: (the clip's items, places of those that it labels).

    With `middle` and `last` there is one clip for each item; what a clip lacks before the first or after the last
    item is filled by repeating that item. With `every` one clip follows the other, and the last one begins earlier
    where less than a whole clip is left: it labels only what none has labeled. At most `length` items are held.
    Clips of one item are the items.

    Raises:
        CrissCrossError: there are fewer items than a clip has.
    """
    if length == 1:
        yield from (((item,), (0,)) for item in items)
        return
    stream = iter(items)
    first = list(islice(stream, length))
    if len(first) < length:
        raise CrissCrossError(
            f"{count_of_frames(len(first))}, but the network takes clips of {length}; "
            f"take a longer video, or a network with model.frames of at most {max(len(first), 1)}"
        )
    if label == "every":
        yield from _one_after_the_other(first, stream, length)
        return
    (place,) = places_of(length, label)
    # Frames are pulled from the stream only when a clip needs them.
    padded = chain(repeat(first[0], place), first, _then_repeat(stream, first[-1], length - 1 - place))
    window: deque[Item] = deque(islice(padded, length - 1), length)
    for item in padded:
        window.append(item)
        yield tuple(window), (place,)


def _then_repeat(stream: Iterator[Item], last: Item, times: int) -> Iterator[Item]:
    for item in stream:
        last = item
        yield item
    yield from repeat(last, times)


def _one_after_the_other(
    first: list[Item], stream: Iterator[Item], length: int
) -> Iterator[tuple[tuple[Item, ...], tuple[int, ...]]]:
    window = first
    yield tuple(window), tuple(range(length))
    while fresh := list(islice(stream, length)):
        window = (window + fresh)[-length:]
        yield tuple(window), tuple(range(length - len(fresh), length))


def count_of_frames(count: int) -> str:
    """A number of frames in words, for messages."""
    return "1 frame" if count == 1 else f"{count} frames"
