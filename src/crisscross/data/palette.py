"""Colors of classes: by the rule of Pascal VOC, or from a compact text; and names where there are none."""

from collections.abc import Iterable

from crisscross.data.layouts.vocabulary import BACKGROUNDS

Palette = tuple[tuple[int, int, int], ...]


def voc_palette(count: int) -> Palette:
    """The first `count` RGB colors (0..255) of the bit-spreading rule of the Pascal VOC development kit, black first.

    Bits 0, 1, 2 of a number go to the highest bit of red, green, blue, bits 3, 4, 5 to the next one, and so on.
    """
    colors = []
    for index in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colors.append((channels[0], channels[1], channels[2]))
    return tuple(colors)


def default_palette(names: Iterable[object]) -> Palette:
    """Colors for classes that come without any: Pascal VOC's, of which a class called background gets the black."""
    texts = [str(name) for name in names]
    background = next((name for name in texts if name.strip("_").lower() in BACKGROUNDS), None)
    colors = iter(voc_palette(len(texts) + 1)[1:])
    return tuple((0, 0, 0) if name == background else next(colors) for name in texts)


def default_names(classes: int) -> tuple[str, ...]:
    """Names for classes that come without any: class 0, class 1, ..."""
    return tuple(f"class {number}" for number in range(classes))


def hex_palette(text: str) -> Palette:
    """RGB colors of blank-separated six-digit hexadecimal numbers: `ff8000 000000` is orange and black."""
    return tuple((number >> 16, number >> 8 & 255, number & 255) for number in (int(word, 16) for word in text.split()))


def class_names(text: str) -> tuple[str, ...]:
    """The names in a text that separates them by commas."""
    return tuple(" ".join(name.split()) for name in text.split(","))
