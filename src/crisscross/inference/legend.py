"""Names and colors of classes below an image."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crisscross.data.color import Color
from crisscross.terminal import plain

# Height of the letters in pixels: at least this, and this fraction of the side of a square as large as the image.
SMALLEST, OF_IMAGE = 13, 1 / 40
LONGEST_NAME = 40
PAPER, INK = (255, 255, 255), (0, 0, 0)


def with_legend(image: Any, entries: Sequence[tuple[str, Color]], letters: int | None = None) -> Any:
    """A PIL image with a legend below it: for each text a square of its color, in as many columns as fit.

    Nothing of the image is covered. The result is higher, and wider only where the image is narrower than one entry.
    `letters` is the height of the letters in pixels, which otherwise follows from the size of the image.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not entries:
        return image
    size = letters or max(SMALLEST, round(math.sqrt(image.width * image.height) * OF_IMAGE))
    font, gap = ImageFont.load_default(size), max(4, size // 2)
    texts = [_short(plain(text)) for text, _ in entries]
    wide = max(math.ceil(font.getlength(text)) for text in texts) + size + 3 * gap
    columns = min(max((image.width - gap) // wide, 1), len(entries))
    rows, high = -(-len(entries) // columns), round(1.5 * size)
    canvas = Image.new("RGB", (max(image.width, wide + gap), image.height + rows * high + 2 * gap), PAPER)
    canvas.paste(image, (0, 0))
    pen = ImageDraw.Draw(canvas)
    for number, (text, (_, color)) in enumerate(zip(texts, entries, strict=True)):
        # Down the columns, as a list is read.
        x, y = gap + number // rows * wide, image.height + gap + number % rows * high
        pen.rectangle([x, y, x + size - 1, y + size - 1], fill=tuple(map(int, color)), outline=INK)
        pen.text((x + size + gap, y + size // 2), text, fill=INK, font=font, anchor="lm")
    return canvas


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 3]}..."


def percent(fraction: float) -> str:
    """A fraction (0..1) in whole percent; `<1%` for what is less than a half, but not nothing."""
    rounded = int(np.rint(100 * fraction))
    return "<1%" if fraction > 0 and not rounded else f"{rounded}%"
