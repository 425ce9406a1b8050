"""Vehicles of a drawn street: boxes with an end and a side, in the coats that the houses wear too."""

from dataclasses import dataclass

import numpy as np

from crisscross.data.scenes.canvas import CAR, COATS, Canvas, Window, between, pick

TYRE = np.full(3, 0.09, np.float32)
TAIL_LAMPS = np.array([0.72, 0.1, 0.08], np.float32)
HEAD_LAMPS = np.array([0.93, 0.91, 0.8], np.float32)


@dataclass(frozen=True)
class Body:
    """Length, width and height in meters, and whether it is a box van rather than a car."""

    length: float
    width: float
    height: float
    box: bool


CAR_BODY, VAN_BODY, TRUCK_BODY = Body(4.2, 1.8, 1.5, False), Body(5.0, 2.0, 2.2, True), Body(6.5, 2.4, 3.0, True)


def choose_body(rng: np.random.Generator) -> Body:
    """A car mostly, else a van or a truck."""
    chance = rng.random()
    return CAR_BODY if chance < 0.65 else VAN_BODY if chance < 0.85 else TRUCK_BODY


def draw_vehicle(canvas: Canvas, side: float, depth: float, body: Body) -> None:
    """A vehicle that points along the street: its near end at this depth, and the side that the camera sees."""
    color, half = pick(canvas.rng, COATS), body.width / 2
    far = depth + body.length
    ground = canvas.standing(side, depth, half + 0.25, 0.5)
    right, up = ground.meters(side, depth)
    ground.darken((abs(right) < half + 0.1) & (up < 0.25), 0.55)
    inner = side - half if side > 0 else side + half
    if inner * side > 0:
        _draw_flank(canvas, inner, depth, far, color, body)
    _draw_end(canvas, side, depth, color, body)


def draw_crossing(canvas: Canvas, side: float, depth: float, body: Body) -> None:
    """A vehicle that crosses the street, seen from its side."""
    half, leftward = body.length / 2, canvas.rng.random() < 0.5
    window = canvas.standing(side, depth, half + 0.2, body.height)
    right, up = window.meters(side, depth)
    window.darken((abs(right) < half) & (up < 0.2), 0.5)
    along = 0.5 + right / body.length
    _paint_side(window, 1 - along if leftward else along, up / body.height, depth, pick(canvas.rng, COATS), body, 1.0)


def _draw_flank(canvas: Canvas, plane: float, near: float, far: float, color: np.ndarray, body: Body) -> None:
    """The long side, in the vertical plane `plane` meters right of the camera, from depth `near` to `far`."""
    left, right = sorted((canvas.column(plane, near), canvas.column(plane, far)))
    top = min(canvas.horizon + (canvas.camera - body.height) / depth for depth in (near, far))
    window = canvas.window(left, right, top, canvas.horizon + canvas.camera / near)
    away = window.x - canvas.vanishing
    depth = plane / np.where(away == 0, np.float32(1e-6), away)
    depth = np.clip(depth, near, far).astype(np.float32)
    up = canvas.camera - (window.y - canvas.horizon) * depth
    window.darken((up > -0.2) & (up < 0.2), 0.5)
    _paint_side(window, (depth - near) / (far - near), up / body.height, depth, color, body, 0.8)


def _paint_side(
    window: Window,
    along: np.ndarray,
    up: np.ndarray,
    depth: np.ndarray | float,
    color: np.ndarray,
    body: Body,
    light: float,
) -> None:
    """The side view: `along` 0 (tail) to 1 (nose), `up` 0 (ground) to 1 (roof)."""
    inside = (along > 0) & (along < 1) & (up > 0.13)
    slope = np.clip(np.minimum((along - 0.06) / 0.14, (0.78 - along) / 0.2), 0, 1)
    roof = 0.99 if body.box else 0.58 + 0.41 * slope
    shell = inside & (up < roof)
    window.paint(shell, window.worn(color, light * (0.72 + 0.32 * np.clip(up, 0, 1))), CAR, depth)
    if body.box:
        pane = shell & (up > 0.55) & (up < 0.88) & (along > 0.78) & (along < 0.95)
    else:
        pane = shell & (up > 0.62) & (up < roof - 0.07) & (abs(along - 0.43) > 0.02) & (slope > 0.3)
    window.paint(pane, window.glass(0.75), CAR, depth)
    stretch = body.length / body.height
    for hub in (0.19, 0.81):
        across = (along - hub) * stretch
        wheel = across * across + (up - 0.19) * (up - 0.19) < (0.32 / body.height) * (0.32 / body.height)
        window.paint(wheel & (up > 0) & (along > 0) & (along < 1), TYRE, CAR, depth)


def _draw_end(canvas: Canvas, side: float, depth: float, color: np.ndarray, body: Body) -> None:
    """The near end, square to the camera: shell, pane, lamps, plate and tyres."""
    rng, half = canvas.rng, body.width / 2
    window = canvas.standing(side, depth, half, body.height)
    right, up = window.meters(side, depth)
    across, up = abs(right) / half, up / body.height
    taper = 1.0 if body.box else 1 - 0.62 * np.clip(up - 0.58, 0, 1)
    shell = (across < taper) & (up > 0.14) & (up < 1)
    window.paint(shell, window.worn(color, 0.7 + 0.35 * np.clip(up, 0, 1)), CAR, depth)
    tyres = (up > 0) & (up < 0.2) & (across > 0.6) & (across < 0.95)
    window.paint(tyres, TYRE, CAR, depth)
    if not body.box or rng.random() < 0.35:
        window.paint(shell & (up > 0.62) & (up < 0.92) & (across < taper - 0.14), window.glass(0.7), CAR, depth)
    elif body.box:
        window.darken(shell & (across < 0.03), 0.35)
    lamps = HEAD_LAMPS if rng.random() < 0.4 else TAIL_LAMPS
    low, high = (0.2, 0.32) if body.box else (0.4, 0.53)
    window.paint(shell & (up > low) & (up < high) & (across > 0.7) & (across < 0.94), lamps, CAR, depth)
    window.paint(shell & (up > 0.24) & (up < 0.32) & (across < 0.26), HEAD_LAMPS * between(rng, 0.7, 1), CAR, depth)
