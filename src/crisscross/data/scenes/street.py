"""The street itself: sky, ground, two rows of houses and what closes the view at the end."""

from dataclasses import dataclass

import numpy as np

from crisscross.data.scenes.canvas import (
    BUILDING,
    COATS,
    LEAVES,
    ROAD,
    SIDEWALK,
    SKY,
    TREE,
    Canvas,
    Window,
    between,
    pick,
    value_noise,
)


@dataclass(frozen=True)
class Street:
    """Where the kerbs and the house fronts lie, meters right of the camera, and how deep the street is."""

    left_wall: float
    left_kerb: float
    right_kerb: float
    right_wall: float
    end: float

    @property
    def sidewalks(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(kerb, wall) on the left and on the right."""
        return (self.left_kerb, self.left_wall), (self.right_kerb, self.right_wall)


def choose_street(rng: np.random.Generator) -> Street:
    """A street of random widths; the camera stands anywhere from one sidewalk to the other."""
    width, left, right = between(rng, 5.5, 9.0), between(rng, 2.0, 4.0), between(rng, 2.0, 4.0)
    middle = between(rng, -0.5, 0.5) * (width + 1.0)
    kerbs = middle - width / 2, middle + width / 2
    return Street(kerbs[0] - left, *kerbs, kerbs[1] + right, between(rng, 28, 45))


def paint_sky(rng: np.random.Generator, shape: tuple[int, int], horizon: float, coarse: np.ndarray) -> np.ndarray:
    """Clear, cloudy or evening: float32 [3, H, W]. Below the horizon it mirrors itself."""
    moods = (((0.36, 0.56, 0.84), (0.74, 0.83, 0.92)), ((0.62, 0.65, 0.69), (0.80, 0.81, 0.82)),
             ((0.45, 0.50, 0.66), (0.93, 0.76, 0.62)))  # fmt: skip
    high, low = np.array(moods[int(rng.random() * 3)], np.float32)[:, :, None, None]
    y = (np.arange(shape[0], dtype=np.float32) + 0.5) / shape[0]
    fall = np.clip(1 - abs(1 - y / horizon), 0, 1)[:, None]
    sky = high * (1 - fall) + low * fall
    cover = np.clip((coarse + value_noise(rng, shape, shape[0] / 8) * 0.7 - between(rng, -0.3, 0.9)) * 1.6, 0, 0.8)
    return (sky + cover * (np.float32(between(rng, 0.75, 0.96)) - sky)).astype(np.float32)


def paint_ground(canvas: Canvas, street: Street) -> None:
    """Road and sidewalk: pavements drawn from one distribution, told apart by kerb, markings and place alone."""
    rng, height = canvas.rng, canvas.labels.shape[0]
    window = canvas.window(0, canvas.labels.shape[1] / height, canvas.horizon + 0.5 / height, 1)
    depth = canvas.camera / np.maximum(window.y - canvas.horizon, np.float32(0.25 / height))
    side = (window.x - canvas.vanishing) * depth
    road = (side > street.left_kerb) & (side < street.right_kerb)
    everywhere = np.ones_like(road)
    for mask, label in ((everywhere, SIDEWALK), (road, ROAD)):
        window.paint(mask, _pavement(window, rng, side, depth), label, depth)
    stone = np.full(3, between(rng, 0.62, 0.85), np.float32)
    for kerb, outward in ((street.left_kerb, -1), (street.right_kerb, 1)):
        beyond = (side - kerb) * outward
        window.paint((beyond > 0) & (beyond < np.maximum(0.16, 0.012 * depth)), stone, SIDEWALK, depth)
        window.darken((beyond < 0) & (beyond > -0.14), 0.4)
    _mark_lanes(window, street, side, depth)
    near = between(rng, 3, 14)
    window.darken((depth > near) & (depth < near + between(rng, 1, 6)), between(rng, 0, 0.45))


def _pavement(window: Window, rng: np.random.Generator, side: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Asphalt or concrete, with slab joints in half of the cases: [3, h, w]."""
    tone = between(rng, 0.30, 0.62) * (1 + 0.06 * (2 * rng.random(3, dtype=np.float32) - 1))
    shade = 1 + 0.12 * window.of(window.canvas.fine) + 0.08 * window.of(window.canvas.coarse)
    if rng.random() < 0.5:
        pitch = between(rng, 0.7, 1.4)
        joint = np.minimum((side / pitch) % 1, (depth / pitch) % 1) < 0.09
        shade = shade - joint * (0.2 * np.clip(1.4 - depth / 10, 0, 1))
    return tone.astype(np.float32)[:, None, None] * shade


def _mark_lanes(window: Window, street: Street, side: np.ndarray, depth: np.ndarray) -> None:
    """A dashed line in the middle, sometimes solid lines at the edges and a zebra crossing."""
    rng = window.canvas.rng
    paint = np.full((3, 1, 1), between(rng, 0.78, 0.95), np.float32) * (1 + 0.08 * window.of(window.canvas.fine))
    half = np.maximum(0.08, 0.007 * depth)
    middle = (street.left_kerb + street.right_kerb) / 2
    marks = (abs(side - middle) < half) & ((depth / 4 + rng.random()) % 1 < 0.55)
    if rng.random() < 0.4:
        marks |= abs(abs(side - middle) - (street.right_kerb - middle - 0.5)) < half
    if rng.random() < 0.35:
        near = between(rng, 4, 10)
        inside = abs(side - middle) < street.right_kerb - middle - 0.2
        marks |= inside & (depth > near) & (depth < near + 2.5) & (side % 1.0 < 0.5)
    window.paint(marks, paint, ROAD, depth)


def paint_row(canvas: Canvas, wall: float, end: float) -> None:
    """Houses side by side, with a hedge of trees here and there, in the vertical plane `wall` meters to the right."""
    x, right_edge = canvas.vanishing, canvas.labels.shape[1] / canvas.labels.shape[0]
    window = canvas.window(x, right_edge, 0, 1) if wall > 0 else canvas.window(0, x, 0, 1)
    away = (window.x - x) * (1.0 if wall > 0 else -1.0)
    depth = abs(wall) / np.maximum(away, np.float32(1e-4))
    up = canvas.camera - (window.y - canvas.horizon) * depth
    near, light = abs(wall) / right_edge - between(canvas.rng, 0, 6), between(canvas.rng, 0.72, 1.05)
    while near < end:
        far = min(near + between(canvas.rng, 5, 12), end)
        columns = np.flatnonzero((depth[0] >= near) & (depth[0] < far))
        # A lot too far to fill a column is drawn all the same: chance must not depend on the size of the image.
        run = slice(columns[0], columns[-1] + 1) if columns.size else slice(0, 0)
        start = window.columns.start
        part = Window(canvas, window.rows, slice(start + run.start, start + run.stop))
        _paint_lot(part, depth[:, run] - near, up[:, run], depth[:, run], light)
        near = far


def paint_end(canvas: Canvas, street: Street) -> None:
    """What closes the view: a house across, a wood, or nothing but sky."""
    left, right = (canvas.column(wall, street.end) for wall in (street.left_wall, street.right_wall))
    window = canvas.window(left, right, 0, canvas.horizon + canvas.camera / street.end)
    along, up = np.broadcast_arrays(*window.meters(street.left_wall, street.end))
    if canvas.rng.random() < 0.75:
        _paint_lot(window, along, up, np.full_like(along, street.end), between(canvas.rng, 0.75, 1.05))


def _paint_lot(window: Window, along: np.ndarray, up: np.ndarray, depth: np.ndarray, light: float) -> None:
    """One lot of the row; `along` [1, w] and `up` [h, w] in meters."""
    if window.canvas.rng.random() < 0.2:
        _paint_wood(window, up, depth, light)
    else:
        _paint_house(window, along, up, depth, light)


def _paint_wood(window: Window, up: np.ndarray, depth: np.ndarray, light: float) -> None:
    """A mass of leaves with a ragged top."""
    rng = window.canvas.rng
    top = between(rng, 3.8, 6.5) + 1.0 * window.of(window.canvas.coarse) + 0.9 * window.of(window.canvas.fine)
    shade = light * (0.7 + 0.05 * up + 0.4 * window.of(window.canvas.fine))
    depth = np.broadcast_to(depth, up.shape)
    window.paint((up > 0) & (up < top), window.worn(pick(rng, LEAVES), np.clip(shade, 0.2, 1.3)), TREE, depth)


def _paint_house(window: Window, along: np.ndarray, up: np.ndarray, depth: np.ndarray, light: float) -> None:
    """A front with storeys of windows, a plinth and a cornice."""
    rng, depth = window.canvas.rng, np.broadcast_to(depth, up.shape)
    storey, storeys = between(rng, 2.6, 3.2), 1 + int(rng.random() * 3)
    height, pitch = storeys * storey + between(rng, 0.4, 1.2), between(rng, 1.5, 2.6)
    front = (up > 0) & (up < height)
    window.paint(front, window.worn(pick(rng, COATS), light), BUILDING, depth)
    cell, level = (along / pitch) % 1, (up / storey) % 1
    frame, low, high = between(rng, 0.2, 0.28), between(rng, 0.22, 0.36), between(rng, 0.76, 0.88)
    below_roof = front & (up < storeys * storey)
    across = abs(cell - 0.5)
    pane = below_roof & (across < 0.5 - frame) & (level > low) & (level < high)
    window.darken(below_roof & ~pane & (across < 0.54 - frame) & (level > low - 0.04) & (level < high + 0.03), 0.3)
    window.paint(pane, window.glass(between(rng, 0.55, 1.0)), BUILDING, depth)
    window.paint(front & (up > height - 0.45), pick(rng, COATS) * np.float32(0.8 * light), BUILDING, depth)
    window.darken(front & (up < 0.5), 0.25)


def base_layers(canvas: Canvas, street: Street) -> None:
    """Everything that does not stand on the street, back to front."""
    canvas.image[:] = canvas.sky
    canvas.labels[:] = SKY
    paint_ground(canvas, street)
    paint_end(canvas, street)
    for wall in (street.left_wall, street.right_wall):
        paint_row(canvas, wall, street.end)
