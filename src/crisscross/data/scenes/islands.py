"""Islands on a sea, seen from above: whose they are, the sail of the one ship says, which is never near them.

Image lengths are image heights, as in the streets: x from the left edge, y down from the top.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from crisscross.data.scenes.canvas import between, develop, pick, value_noise

COUNTRIES = ("red", "gold", "violet")
KINDS = ("ship", "land", "town")
CLASSES: tuple[str, ...] = ("sea", "forest", *(f"{name} {kind}" for name in COUNTRIES for kind in KINDS))
PALETTE: tuple[tuple[int, int, int], ...] = (
    (70, 132, 180),
    (40, 96, 68),
    (84, 16, 24),
    (232, 116, 104),
    (176, 28, 44),
    (112, 78, 0),
    (246, 212, 112),
    (196, 138, 12),
    (54, 22, 94),
    (190, 152, 234),
    (108, 48, 178),
)
SEA, FOREST, SHIP = range(3)
SAILS = ((214, 40, 48), (248, 196, 40), (140, 68, 204))

WATER, SHALLOW, SAND = (44, 104, 142), (96, 176, 184), (226, 208, 164)
MEADOWS = ((136, 164, 84), (154, 168, 92), (120, 156, 84))
WOODS = ((50, 92, 62), (42, 82, 62), (62, 98, 60))
ROOFS = ((92, 96, 106), (120, 116, 112), (74, 80, 92))
PAVING, HULL, FOAM = (208, 202, 190), (84, 58, 44), (222, 236, 238)

# How far a coast reaches beyond the radius at most, and how far islands stay away from the ship's rows and columns.
RAGGED, LANE = 1.3, 0.05
# The ship's half width and half height.
SHIP_HALF = 0.13
# Islands that belong to somebody are at least so far to the ship's left or right: 108 of 128 pixels.
FAR = 0.7


@dataclass(frozen=True)
class Place:
    """A disc: its center and its radius."""

    x: float
    y: float
    radius: float


def draw_islands(seed: int, height: int = 128, width: int = 256, country: int | None = None):
    rng = np.random.default_rng(seed)
    chosen = int(rng.random() * len(COUNTRIES))
    country = chosen if country is None else country
    shape = height, width
    sheet = Sheet(rng, shape)
    ship = _ship_place(rng, width / height)
    owned, wild = _places(rng, ship, width / height)
    _draw_forest(sheet, wild)
    _draw_land(sheet, owned, SHIP + 3 * country + 1)
    _draw_ship(sheet, ship, SAILS[country], SHIP + 3 * country)
    return develop(rng, sheet.image), sheet.labels


class Sheet:
    def __init__(self, rng, shape):
        height, width = shape
        self.rng = rng
        self.fine = value_noise(rng, shape, max(height / 48, 1))
        self.middle = value_noise(rng, shape, height / 14)
        self.coarse = value_noise(rng, shape, height / 5)
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) / height)[None]
        self.y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
        self.labels = np.full(shape, SEA, np.uint8)
        shade = 1 + 0.10 * self.coarse + 0.05 * self.middle + 0.05 * self.fine
        self.image = color(WATER)[:, None, None] * shade

    def paint(self, mask, tint, label=None):
        tint = tint[:, None, None] if tint.ndim == 1 else tint
        np.copyto(self.image, tint, where=mask)
        if label is not None:
            np.copyto(self.labels, np.uint8(label), where=mask)


def color(rgb):
    return np.array(rgb, np.float32) / 255


def _ship_place(rng, aspect):
    x = between(rng, 0.12, 0.4)
    x = aspect - x if rng.random() < 0.5 else x
    return Place(x, between(rng, 0.12, 0.88), SHIP_HALF)


def _places(rng, ship, aspect):
    owned, wild = [], []
    for _ in range(120):
        place = Place(between(rng, 0, aspect), between(rng, -0.1, 1.1), between(rng, 0.11, 0.22))
        away = abs(place.x - ship.x) - RAGGED * place.radius, abs(place.y - ship.y) - RAGGED * place.radius
        apart = all((place.x - o.x) ** 2 + (place.y - o.y) ** 2 > 0.2 ** 2 for o in owned)
        if len(owned) < 9 and min(away) > SHIP_HALF + LANE and away[0] > FAR and apart:
            owned.append(place)
    for _ in range(30):
        place = Place(between(rng, 0, aspect), between(rng, 0, 1), between(rng, 0.09, 0.17))
        if len(wild) < 5 and not any(_touch(place, other) for other in [*wild, *owned, Place(ship.x, ship.y, 0.12)]):
            wild.append(place)
    return owned, wild


def _touch(one, other):
    reach = RAGGED * (one.radius + other.radius)
    dx, dy = one.x - other.x, one.y - other.y
    return dx * dx + dy * dy < reach * reach


def _ground(sheet, places, tint, label):
    """Squared distance from center in radii, with ragged coast: land below 1."""
    away = np.full(sheet.labels.shape, np.inf, np.float32)
    for place in places:
        dx, dy = sheet.x - place.x, sheet.y - place.y
        np.minimum(away, (dx * dx + dy * dy) / (place.radius * place.radius), out=away)
    away /= 1 + 0.45 * sheet.coarse + 0.22 * sheet.middle
    np.copyto(sheet.image, 0.45 * sheet.image + 0.55 * color(SHALLOW)[:, None, None], where=away < 1.5)
    np.copyto(sheet.image, 0.5 * sheet.image + 0.5 * color(SHALLOW)[:, None, None], where=away < 1.22)
    sheet.paint(away < 1, color(SAND)[:, None, None] * (1 + 0.06 * sheet.fine), label)
    sheet.paint(away < 0.8, tint[:, None, None] * (1 + 0.10 * sheet.middle + 0.08 * sheet.fine), label)
    return away


def _draw_forest(sheet, places):
    away = _ground(sheet, places, pick(sheet.rng, WOODS), FOREST)
    crowns = (sheet.fine > 0.1) & (away < 0.78)
    sheet.paint(crowns, pick(sheet.rng, WOODS) * np.float32(1.25))


def _draw_land(sheet, places, label):
    rng = sheet.rng
    away = _ground(sheet, places, pick(rng, MEADOWS), label)
    for place in places:
        pitch, slope = between(rng, 0.04, 0.06), between(rng, -1, 1)
        x, y = place.x + between(rng, -0.6, 0.6) * place.radius, place.y + between(rng, -0.6, 0.6) * place.radius
        half = place.radius * between(rng, 0.3, 0.5)
        u, v = sheet.x - x + slope * (sheet.y - y), sheet.y - y - slope * (sheet.x - x)
        field = (abs(u) < half) & (abs(v) < half) & (away < 0.72)
        tint = pick(rng, ((196, 184, 104), (168, 172, 88), (112, 146, 76)))
        sheet.paint(field, tint[:, None, None] * (1 - 0.14 * ((u / pitch) % 1 < 0.5)))
    for number, place in enumerate(places):
        if number % 2 == 0:
            _draw_town(sheet, place, away, label + 1)


def _draw_town(sheet, place, away, label):
    rng = sheet.rng
    half = max(0.7 * place.radius, 0.1)
    dx, dy = sheet.x - place.x, sheet.y - place.y
    town = (dx * dx + dy * dy < half * half * (1 + 0.3 * sheet.middle)) & (away < 0.9)
    sheet.paint(town, color(PAVING)[:, None, None] * (1 + 0.05 * sheet.fine), label)
    pitch = 0.055
    cells = (dx / pitch + 100).astype(int) % 32, (dy / pitch + 100).astype(int) % 32
    across, down = (dx / pitch) % 1, (dy / pitch) % 1
    shades = (0.8 + 0.4 * rng.random((32, 32), dtype=np.float32))[cells[1], cells[0]]
    kept = (rng.random((32, 32)) < 0.85)[cells[1], cells[0]]
    house = town & kept & (across > 0.16) & (across < 0.84) & (down > 0.2) & (down < 0.8)
    tint = color(ROOFS[int(rng.random() * 3)])[:, None, None]
    sheet.paint(house, tint * shades)
    sheet.paint(house & (down > 0.5), tint * shades * np.float32(0.75))


def _draw_ship(sheet, ship, sail, label):
    dx, dy = sheet.x - ship.x, sheet.y - ship.y
    h = SHIP_HALF
    wake = (abs(dy - 0.62 * h) < 0.12 * h) & (abs(dx) < 1.25 * h) & (sheet.fine > -0.3)
    sheet.paint(wake, color(FOAM))
    hull = (dy > 0.3 * h) & (dy < 0.75 * h) & (abs(dx) < 0.95 * h - 0.6 * (dy - 0.3 * h))
    sheet.paint(hull, color(HULL), label)
    mast = (abs(dx) < 0.07 * h) & (dy > -1.0 * h) & (dy < 0.3 * h)
    sheet.paint(mast, color(HULL), label)
    cloth = (dy > -0.85 * h) & (dy < 0.15 * h) & (abs(dx) < 0.72 * h + 0.15 * dy)
    sheet.paint(cloth, color(sail)[:, None, None] * (1 - 0.12 * ((dx / h * 2.4) % 1 < 0.3)), label)
