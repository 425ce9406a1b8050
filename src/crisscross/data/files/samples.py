"""What the numbers in an image file are.

Decoders scale, invert and drop samples, each in its own way. The modules of the formats decide which kinds are accepted
and describe what the decoder made of their samples.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Samples:
    """What the stored numbers are, and what the decoder makes of them.

    - `largest`: the largest number a sample can hold; gray of fewer than 8 bits (9 to 15) is scaled to 8 (16) bits.
    - `inverted`: the decoder gives `largest` - the stored number, because 0 is white.
    - `lossy`: name of a compression that changes numbers; empty where they are kept.
    - `no_alpha`: the fourth band is not transparency, even if the decoder takes it for that.
    - `extra`: bands that are left out.
    - `turn`: EXIF orientation, 1 to 8, of a TIFF, which the decoder applies by itself.
    """

    largest: int = 255
    inverted: bool = False
    lossy: str = ""
    no_alpha: bool = False
    extra: int = 0
    turn: int = 1


def last_row(image: Any) -> Any:
    """The last row of a decoded image, as an image."""
    return image.crop((0, image.height - 1, image.width, image.height))
