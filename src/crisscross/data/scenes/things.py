"""Upright things of a drawn street: trees, poles, persons. Each is `draw(canvas, side, depth)`, in meters."""

import numpy as np

from crisscross.data.scenes.canvas import (
    BARKS,
    CLOTHES,
    LEAVES,
    PERSON,
    PLATES,
    POLE,
    POSTS,
    SKINS,
    TREE,
    Canvas,
    between,
    pick,
)


def draw_tree(canvas: Canvas, side: float, depth: float) -> None:
    """A trunk as thin as a post and a ragged crown of overlapping discs."""
    rng, height = canvas.rng, between(canvas.rng, 4.0, 7.5)
    radius, thickness = between(rng, 1.1, 1.9), between(rng, 0.10, 0.17)
    window = canvas.standing(side, depth, 2 * radius, height + radius)
    right, up = window.meters(side, depth)
    trunk = (abs(right) < thickness) & (up > 0) & (up < height - radius)
    window.paint(trunk, window.worn(pick(rng, BARKS)), TREE, depth)
    crown = np.zeros(trunk.shape, bool)
    edge = 1 + 0.45 * window.of(canvas.fine)
    for _ in range(6):
        x, y = between(rng, -0.8, 0.8) * radius, height - radius * between(rng, 0.1, 1.5)
        reach = radius * between(rng, 0.5, 0.8)
        crown |= (right - x) * (right - x) + (up - y) * (up - y) < reach * reach * edge
    light = 0.85 + 0.1 * (up - height + radius) / radius + 0.4 * window.of(canvas.fine)
    window.paint(crown, window.worn(pick(rng, LEAVES), light), TREE, depth)


def draw_pole(canvas: Canvas, side: float, depth: float) -> None:
    """A street lamp, a traffic sign or a traffic light; never thinner than 1/25 of the image height."""
    rng, kind, toward_road = canvas.rng, canvas.rng.random(), -1.0 if side > 0 else 1.0
    height = between(rng, 4.5, 7.0) if kind < 0.4 else between(rng, 2.9, 3.6)
    window = canvas.standing(side, depth, 2.2, height)
    right, up = window.meters(side, depth)
    half, color = max(0.12, 0.02 * depth), window.worn(pick(rng, POSTS))
    window.paint((abs(right) < half) & (up > 0), color, POLE, depth)
    if kind < 0.4:
        arm = (toward_road * right > 0) & (toward_road * right < 1.3) & (up > height - 2 * half)
        head = (abs(toward_road * right - 1.4) < 0.45) & (up > height - 3 * half)
        window.paint(arm | head, color, POLE, depth)
    elif kind < 0.75:
        radius = max(0.38, 0.035 * depth)
        away = np.maximum(abs(right), abs(up - height + radius)) if kind < 0.5 else None
        away = away * away if away is not None else right * right + (up - height + radius) * (up - height + radius)
        window.paint(away < radius * radius, pick(rng, PLATES), POLE, depth)
        window.paint(away < 0.4 * radius * radius, pick(rng, PLATES), POLE, depth)
    else:
        box, lit = max(0.22, 0.022 * depth), int(rng.random() * 3)
        window.paint((abs(right) < box) & (up > height - 5 * box), np.full(3, 0.1, np.float32), POLE, depth)
        lamp = up - height + box * (0.9 + 1.6 * lit)
        colors = np.array([[0.95, 0.15, 0.1], [1.0, 0.7, 0.1], [0.15, 0.85, 0.4]], np.float32)
        window.paint(right * right + lamp * lamp < 0.5 * box * box, colors[lit], POLE, depth)


def draw_person(canvas: Canvas, side: float, depth: float) -> None:
    """Head, coat and two striding legs."""
    rng, height = canvas.rng, between(canvas.rng, 1.6, 1.9)
    window = canvas.standing(side, depth, 0.6, height)
    right, up = window.meters(side, depth)
    stride, hem = between(rng, 0.02, 0.22), between(rng, 0.7, 0.95)
    spread = 0.1 + stride * np.maximum(hem - up, 0)
    legs = (up > 0) & (up < hem) & (abs(abs(right) - spread) < 0.12)
    window.paint(legs, pick(rng, CLOTHES), PERSON, depth)
    coat = (up >= hem) & (up < height - 0.24) & (abs(right) < 0.27 - 0.08 * (up - hem))
    window.paint(coat, window.worn(pick(rng, CLOTHES)), PERSON, depth)
    crown = up - height + 0.14
    window.paint(right * right + crown * crown < 0.145 * 0.145, pick(rng, SKINS), PERSON, depth)
    window.paint((right * right + crown * crown < 0.145 * 0.145) & (crown > 0.03), pick(rng, BARKS), PERSON, depth)
