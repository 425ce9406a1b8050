"""Attention weights as colors over an image, and the mark of a pixel."""

import numpy as np

# From nothing to the largest weight; it grows lighter all the way.
HEAT = np.array([(40, 10, 90), (140, 25, 130), (225, 60, 75), (255, 150, 40), (255, 250, 160)], np.float32)
# How bright the image is below the weights.
LIT, DARK = 0.72, 0.36
# A color that neither the scale nor most photographs have.
MARK = (0, 255, 190)


def heat_colors(share: np.ndarray) -> np.ndarray:
    """The colors of the scale, float32 [..., 3] in 0..255, for values in 0..1."""
    place = np.clip(share, 0, 1) * (len(HEAT) - 1)
    low = np.minimum(place.astype(int), len(HEAT) - 2)
    return HEAT[low] + (HEAT[low + 1] - HEAT[low]) * (place - low)[..., None]


def heat_map(
    image: np.ndarray, weights: np.ndarray, top: float | None = None, lit: np.ndarray | None = None
) -> np.ndarray:
    """Weights as colors over the image in gray: uint8 [H, W, 3].

    Colors follow the square root of the weight: what is spread out stays visible.

    Args:
        image: uint8 [H, W, 3].
        weights: [H, W], 0 or more, as `Explanation.on_image` gives them.
        top: the weight at the end of the scale; by default the largest.
        lit: bool [H, W]; the image is darker elsewhere.
    """
    end = max(float(weights.max()) if top is None else top, 1e-12)
    share = np.sqrt(np.minimum(weights / end, 1))[..., None]
    bright = LIT if lit is None else np.where(lit, LIT, DARK)[..., None]
    gray = image.astype(np.float32).mean(-1, keepdims=True)
    # A night scene would show nothing.
    gray = np.minimum(gray * (255 / max(float(np.percentile(gray, 99)), 50.0)), 255) * bright
    opacity = np.minimum(1, 1.6 * share)
    return np.clip(np.rint(gray * (1 - opacity) + heat_colors(share[..., 0]) * opacity), 0, 255).astype(np.uint8)


def mark(image: np.ndarray, at: tuple[float, float], radius: int = 8) -> np.ndarray:
    """A copy of the image uint8 [H, W, 3] with a ring and a cross around the pixel (x, y), which stays visible."""
    from PIL import Image, ImageDraw

    # Drawn four times as large and made smaller, it has smooth edges.
    fine = 4
    side = 4 * radius + 8
    ring, middle = Image.new("RGBA", (fine * side, fine * side), (*MARK, 0)), fine * side / 2
    pen = ImageDraw.Draw(ring)
    for color, wide in (((0, 0, 0, 255), fine), ((*MARK, 255), 0)):
        outer, width = fine * radius + wide, 2 * fine + 2 * wide
        pen.ellipse((middle - outer, middle - outer, middle + outer, middle + outer), outline=color, width=width)
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            ends = fine * radius, 2 * fine * radius + wide
            start, end = ((middle + dx * length, middle + dy * length) for length in ends)
            pen.line((start, end), fill=color, width=width)
    canvas = Image.fromarray(np.ascontiguousarray(image))
    small = ring.resize((side, side), Image.Resampling.BOX)
    canvas.paste(small, (round(at[0] - side / 2), round(at[1] - side / 2)), small)
    return np.asarray(canvas)
