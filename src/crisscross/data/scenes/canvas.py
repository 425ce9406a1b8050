"""The canvas of a drawn street: the camera, the classes, the paints.

World lengths are meters: `side` to the right of the camera, `depth` ahead of it, heights above the ground. Image
lengths are image heights: x from the left edge, y down from the top, so a scene looks the same at every size.

Pixels are made with + - * / and comparisons of uniform random numbers alone. IEEE arithmetic rounds those the same
way everywhere, so a seed gives the same bytes on every machine; sines, powers and normal deviates would not.
"""

from dataclasses import dataclass

import numpy as np

CLASSES: tuple[str, ...] = ("road", "sidewalk", "building", "sky", "tree", "car", "pole", "person")
PALETTE: tuple[tuple[int, int, int], ...] = (
    (122, 88, 150),
    (226, 120, 196),
    (150, 122, 104),
    (112, 176, 222),
    (92, 156, 72),
    (44, 84, 176),
    (240, 196, 64),
    (222, 60, 60),
)
ROAD, SIDEWALK, BUILDING, SKY, TREE, CAR, POLE, PERSON = range(len(CLASSES))

# Walls and vehicles are coated from one table, and posts may look like bark: the color alone names none of them.
COATS = ((188, 176, 152), (162, 88, 70), (138, 140, 144), (206, 206, 204), (112, 132, 156), (172, 146, 96),
         (92, 94, 98))  # fmt: skip
BARKS = ((98, 84, 70), (112, 112, 110), (76, 76, 72), (124, 106, 84))
POSTS = (*BARKS[:2], (34, 36, 40), (206, 208, 206), (224, 224, 220))
LEAVES = ((72, 108, 48), (96, 124, 58), (132, 120, 52), (146, 100, 52), (58, 92, 58))
CLOTHES = (*COATS, (52, 60, 96), (150, 44, 48), (44, 44, 46), (214, 190, 70), (62, 108, 84))
SKINS = ((224, 186, 160), (186, 138, 106), (118, 82, 62))
PLATES = ((196, 44, 40), (40, 84, 168), (226, 226, 222), (232, 190, 50))


def pick(rng: np.random.Generator, colors: tuple[tuple[int, int, int], ...], spread: float = 0.14) -> np.ndarray:
    """One color of a table, every channel scaled by up to `spread` either way: float32 [3] in 0..1."""
    color = np.array(colors[int(rng.random() * len(colors))], np.float32) / 255
    return color * (1 + spread * (2 * rng.random(3, dtype=np.float32) - 1)) * between(rng, 0.8, 1.15)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A uniform random number in low..high."""
    return low + (high - low) * rng.random()


def value_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Random values `cell` pixels apart with straight lines between them: float32 [H, W] in -1..1."""
    rows, columns = (np.arange(n, dtype=np.float32) / np.float32(cell) for n in shape)
    grid = 2 * rng.random((int(rows[-1]) + 2, int(columns[-1]) + 2), dtype=np.float32) - 1
    row, column = rows.astype(np.intp), columns.astype(np.intp)
    grid = grid[row] + (rows - row).astype(np.float32)[:, None] * (grid[row + 1] - grid[row])
    return grid[:, column] + (columns - column).astype(np.float32) * (grid[:, column + 1] - grid[:, column])


def develop(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A painted image, float32 [3, H, W], in uneven light, through a soft lens, on a noisy sensor: uint8 [H, W, 3]."""
    shape = image.shape[1], image.shape[2]
    light = between(rng, 0.68, 1.1) * (1 + 0.18 * value_noise(rng, shape, shape[0] / 2))
    cast = 1 + 0.12 * (2 * rng.random(3, dtype=np.float32) - 1)
    image = image * light * cast[:, None, None]
    image[:, 1:-1] = 0.7 * image[:, 1:-1] + 0.15 * (image[:, :-2] + image[:, 2:])
    image[..., 1:-1] = 0.7 * image[..., 1:-1] + 0.15 * (image[..., :-2] + image[..., 2:])
    image += (rng.random(image.shape, dtype=np.float32) - np.float32(0.5)) * between(rng, 0.02, 0.06)
    pixels = (np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))


@dataclass
class Canvas:
    """A scene while it is painted, back to front.

    Attributes:
        image: float32 RGB [3, H, W], about 0..1; planes, because numpy is quick on those.
        labels: uint8 [H, W].
        sky: float32 RGB [3, H, W], the bare sky; panes of glass mirror it.
        fine, coarse: value noise [H, W] in -1..1, the texture of everything.
        horizon, vanishing: y and x of the vanishing point, in image heights.
        camera: height of the camera, meters.
        air: float32 [3], the color into which far things fade.
    """

    image: np.ndarray
    labels: np.ndarray
    sky: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray
    horizon: float
    vanishing: float
    camera: float
    air: np.ndarray
    rng: np.random.Generator

    def column(self, side: float, depth: float) -> float:
        """x of a point of the world."""
        return self.vanishing + side / depth

    def window(self, left: float, right: float, top: float, bottom: float) -> "Window":
        """The part of the image between these x and y; empty where it lies outside."""
        height, width = self.labels.shape
        rows, columns = _clip(top * height, bottom * height, height), _clip(left * height, right * height, width)
        return Window(self, rows, columns)

    def standing(self, side: float, depth: float, half_width: float, height: float) -> "Window":
        """The part that holds an upright thing of this half width and height (meters) whose foot is there."""
        x, foot = self.column(side, depth), self.horizon + self.camera / depth
        return self.window(x - half_width / depth, x + half_width / depth, foot - height / depth, foot)


def _clip(first: float, last: float, size: int) -> slice:
    """The whole pixels from first to last that lie in 0..size; empty where none does."""
    start = min(max(0, int(first)), size)
    return slice(start, min(max(start, int(last) + 1), size))


@dataclass
class Window:
    """A rectangle of the canvas to paint in: x is float32 [1, w], y is float32 [h, 1]."""

    canvas: Canvas
    rows: slice
    columns: slice

    def __post_init__(self) -> None:
        height, width = self.canvas.labels.shape
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) / height)[None, self.columns]
        self.y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[self.rows, None]

    def of(self, plane: np.ndarray) -> np.ndarray:
        """This rectangle of a plane [..., H, W] as large as the canvas."""
        return plane[..., self.rows, self.columns]

    def meters(self, side: float, depth: float) -> tuple[np.ndarray, np.ndarray]:
        """At this depth: meters to the right of `side` [1, w], and meters above the ground [h, 1]."""
        canvas = self.canvas
        return (self.x - canvas.vanishing) * depth - side, canvas.camera - (self.y - canvas.horizon) * depth

    def paint(self, mask: np.ndarray, color: np.ndarray, label: int | None, depth: float | np.ndarray) -> None:
        """Paints the mask [h, w] in a color [3] or [3, h, w], faded with depth; label None keeps the label."""
        air = self.canvas.air[:, None, None]
        color = color[:, None, None] if color.ndim == 1 else color
        tint = air + (1 - depth / (depth + 90.0)) * (color - air)
        np.copyto(self.of(self.canvas.image), tint, where=mask)
        if label is not None:
            np.copyto(self.of(self.canvas.labels), np.uint8(label), where=mask)

    def worn(self, color: np.ndarray, shade: np.ndarray | float = 1.0) -> np.ndarray:
        """A coat of paint with dirt and light on it: [3, h, w]. Walls and vehicles wear alike."""
        dirt = 1 + 0.10 * self.of(self.canvas.coarse) + 0.07 * self.of(self.canvas.fine)
        return color[:, None, None] * (dirt * shade)

    def glass(self, strength: float) -> np.ndarray:
        """What a pane shows: the sky behind the painter, mirrored left to right: [3, h, w]."""
        return self.of(self.canvas.sky[..., ::-1]) * strength

    def darken(self, mask: np.ndarray, amount: float) -> None:
        """A cast shadow: the labels stay."""
        region = self.of(self.canvas.image)
        np.multiply(region, 1 - amount, out=region, where=mask)
