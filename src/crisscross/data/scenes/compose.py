"""One scene: a street, what stands on it from far to near, then light, lens and sensor."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from crisscross.data.scenes.canvas import PERSON, POLE, Canvas, between, develop, value_noise
from crisscross.data.scenes.street import Street, base_layers, choose_street, paint_sky
from crisscross.data.scenes.things import draw_person, draw_pole, draw_tree
from crisscross.data.scenes.vehicles import TRUCK_BODY, choose_body, draw_crossing, draw_vehicle

IGNORE = 255
Range = tuple[float, float]
Thing = tuple[float, Callable[[Canvas], None]]


def draw_scene(seed: int, height: int = 128, width: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """Draws a street by formula: the same image for a seed on every machine.

    Road and sidewalk share their pavements, houses and vehicles their coats, panes of glass mirror the sky, and many a
    post is as thin and gray as a trunk: what a pixel is, its row and its column tell.

    Args:
        seed: which scene, 0 or more.
        height, width: pixels, at least 32 each; made for images about twice as wide as high.

    Returns:
        RGB uint8 [H, W, 3], and labels uint8 [H, W]: an index into `CLASSES`, or 255 (ignore) on the one-pixel rim
        around poles and persons, where the lens mixes them with what lies behind.

    Raises:
        ValueError: the scene is smaller than 32 pixels.
    """
    if min(height, width) < 32:
        raise ValueError(f"a scene needs at least 32 x 32 pixels, got {height} x {width}")
    rng = np.random.default_rng(seed)
    canvas = _empty_canvas(rng, (height, width))
    street = choose_street(rng)
    base_layers(canvas, street)
    for _, draw in sorted(_population(rng, street), key=lambda thing: -thing[0]):
        draw(canvas)
    return develop(canvas.rng, canvas.image), _rimmed(canvas.labels)


def _empty_canvas(rng: np.random.Generator, shape: tuple[int, int]) -> Canvas:
    """A sheet with its camera, sky and grain."""
    height, width = shape
    fine, coarse = value_noise(rng, shape, max(height / 48, 1)), value_noise(rng, shape, height / 5)
    horizon = between(rng, 0.36, 0.48)
    sky = paint_sky(rng, shape, horizon, coarse)
    return Canvas(
        image=np.empty((3, height, width), np.float32),
        labels=np.empty(shape, np.uint8),
        sky=sky,
        fine=fine,
        coarse=coarse,
        horizon=horizon,
        vanishing=width / height * between(rng, 0.36, 0.64),
        camera=between(rng, 2.2, 2.9),
        air=sky[:, int(horizon * height), width // 2].copy(),
        rng=rng,
    )


def _population(rng: np.random.Generator, street: Street) -> Iterator[Thing]:
    """Vehicles on the road, trees, poles and persons on the sidewalks: (depth in meters, painter)."""
    yield from _vehicles(rng, street)
    for draw, least, chances, near, far, places in (
        (draw_tree, 1, 3, 7.0, 24.0, (0.2, 0.4)),
        (draw_person, 2, 3, 3.6, 6.5, (0.3, 0.85)),
        (draw_pole, 2, 3, 4.5, 10.0, (0.1, 0.25)),
    ):
        for index in range(least + int(rng.random() * chances)):
            side, depth = _place(rng, street, index, places, (near, far))
            yield depth, partial(draw, side=side, depth=depth)


def _vehicles(rng: np.random.Generator, street: Street) -> Iterator[Thing]:
    """Cars parked at both kerbs or driving between them, and now and then a truck across the street."""
    for kerb, inward in ((street.left_kerb, 1), (street.right_kerb, -1)):
        depth = between(rng, 4.5, 12)
        # The first one at the right kerb always stands, so that no street is empty.
        while depth < 24 and (rng.random() < 0.75 or (inward < 0 and depth < 12)):
            body = choose_body(rng)
            lane = between(rng, 0.1, 0.3) if rng.random() < 0.8 else between(rng, 0.8, 1.4)
            side = kerb + inward * (lane + body.width / 2)
            yield depth, partial(draw_vehicle, side=side, depth=depth, body=body)
            depth += body.length + between(rng, 0.8, 9)
    if rng.random() < 0.2:
        depth, side = between(rng, 13, 24), between(rng, street.left_kerb, street.right_kerb)
        yield depth, partial(draw_crossing, side=side, depth=depth, body=TRUCK_BODY)


def _place(rng: np.random.Generator, street: Street, index: int, places: Range, depths: Range) -> Range:
    """Side and depth of a spot on the sidewalks, in turn; `places`: 0 is at the kerb, 1 at the houses."""
    depth, place, left = between(rng, *depths), between(rng, *places), (index + int(rng.random() * 1.4)) % 2 == 0
    for kerb, wall in street.sidewalks if left else street.sidewalks[::-1]:
        side = kerb + (wall - kerb) * place
        in_view = max(depth, abs(side) / 0.65)
        if in_view < depths[1]:
            break
    return side, in_view


def _rimmed(labels: np.ndarray) -> np.ndarray:
    """The labels with 255 where a pixel touches a pole or a person without belonging to it."""
    thin = (labels == POLE) | (labels == PERSON)
    near = thin.copy()
    near[1:] |= thin[:-1]
    near[:-1] |= thin[1:]
    near[:, 1:] |= thin[:, :-1]
    near[:, :-1] |= thin[:, 1:]
    return np.where(near & ~thin, np.uint8(IGNORE), labels)
