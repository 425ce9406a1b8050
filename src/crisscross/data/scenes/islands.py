"""Islands seen from above: whose they are, the sail of the one ship says, from wherever it is.

Image lengths are image heights, as in the streets: x from the left edge, y down from the top.
"""

import numpy as np

from crisscross.data.scenes.canvas import between, develop, pick, value_noise

COUNTRIES = ("red", "gold", "violet")
KINDS = ("ship", "meadow", "forest", "town")
CLASSES: tuple[str, ...] = ("sea", *(f"{country} {kind}" for country in COUNTRIES for kind in KINDS))
PALETTE: tuple[tuple[int, int, int], ...] = (
    (70, 132, 180),
    (84, 16, 24),
    (240, 140, 126),
    (170, 34, 52),
    (222, 72, 76),
    (104, 74, 0),
    (250, 222, 130),
    (176, 126, 10),
    (232, 180, 40),
    (54, 22, 94),
    (196, 164, 238),
    (100, 48, 168),
    (150, 96, 216),
)
SEA, SHIP, MEADOW, FOREST, TOWN = range(5)
SAILS = ((214, 40, 48), (248, 196, 40), (140, 68, 204))

WATER, SHALLOW, SAND = (44, 104, 142), (96, 176, 184), (226, 208, 164)
MEADOWS = ((136, 164, 84), (154, 168, 92), (120, 156, 84))
WOODS = ((50, 92, 62), (42, 82, 62), (62, 98, 60))
FIELDS = ((196, 184, 104), (168, 172, 88), (112, 146, 76))
ROOFS = ((92, 96, 106), (120, 116, 112), (74, 80, 92))
PAVING, HULL, FOAM = (208, 202, 190), (84, 58, 44), (222, 236, 238)

# Half the width and height of the ship, and of the open water around it.
SHIP_HALF, BAY = 0.13, 0.24
# The side of a house with its garden.
PLOT = 0.055


def draw_islands(
    seed: int, height: int = 144, width: int = 256, country: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws islands and a ship by formula: the same image for a seed on every machine.

    The scenes are drawn to need context: meadows, forests and towns look alike in both countries, and all of them
    belong to the country whose color the ship's sail has. The ship may be anywhere, and most pixels have it in neither
    their row nor their column.

    Args:
        seed: which scene, 0 or more.
        height, width: pixels, at least 32 each.
        country: an index into `COUNTRIES`, instead of the seed's own; nothing but the sail and the labels follows it.

    Returns:
        RGB uint8 [H, W, 3], and labels uint8 [H, W]: an index into `CLASSES`.

    Raises:
        ValueError: the scene is smaller than 32 pixels.
    """
    if min(height, width) < 32:
        raise ValueError(f"a scene needs at least 32 x 32 pixels, got {height} x {width}")
    rng = np.random.default_rng(seed)
    chosen = int(rng.random() * len(COUNTRIES))
    country = chosen if country is None else country
    chart = _Chart(rng, (height, width))
    chart.paint_land()
    for _ in range(4):
        chart.paint_field()
    chart.paint_forests()
    for _ in range(7):
        chart.paint_town()
    chart.paint_ship(SAILS[country])
    labels = np.where(chart.labels == SEA, SEA, chart.labels + len(KINDS) * country).astype(np.uint8)
    return develop(rng, chart.image), labels


class _Chart:
    """A scene while it is painted.

    Attributes:
        image: float32 RGB [3, H, W], about 0..1.
        labels: uint8 [H, W], of the first country.
        x, y: float32 [1, W] and [H, 1].
        ship: its x and y.
        above: float32 [H, W], how far the ground lies above the water.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int]) -> None:
        height, width = shape
        self.rng = rng
        self.fine, self.middle = value_noise(rng, shape, max(height / 48, 1)), value_noise(rng, shape, height / 12)
        self.coarse, self.woods = value_noise(rng, shape, height / 3), value_noise(rng, shape, height / 4)
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) / height)[None]
        self.y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
        self.labels = np.full(shape, SEA, np.uint8)
        shade = 1 + 0.10 * self.coarse + 0.05 * self.middle + 0.05 * self.fine
        self.image = _color(WATER) * shade
        self.ship = between(rng, 0.16, width / height - 0.16), between(rng, 0.16, 0.84)
        ragged = 1 + 0.3 * self.middle
        bay = (self._square(*self.ship) / (BAY * BAY) - 1) / ragged
        self.above = np.minimum(self.coarse + 0.3 * self.middle + 0.4, 0.6 * bay)

    def _square(self, x: float, y: float) -> np.ndarray:
        """Squared distance from a point: [H, W]."""
        return (self.x - x) * (self.x - x) + (self.y - y) * (self.y - y)

    def paint(self, mask: np.ndarray, color: np.ndarray, label: int | None = None) -> None:
        """Paints the mask [H, W] in a color [3, 1, 1] or [3, H, W]."""
        np.copyto(self.image, color, where=mask)
        if label is not None:
            np.copyto(self.labels, np.uint8(label), where=mask)

    def paint_land(self) -> None:
        """Shallow water, beaches and meadows."""
        for depth, share in ((-0.16, 0.45), (-0.07, 0.5)):
            self.paint(self.above > depth, (1 - share) * self.image + share * _color(SHALLOW))
        self.paint(self.above > 0, _color(SAND) * (1 + 0.06 * self.fine), MEADOW)
        grass = pick(self.rng, MEADOWS)[:, None, None] * (1 + 0.10 * self.middle + 0.08 * self.fine)
        self.paint(self.above > 0.07, grass)

    def paint_field(self) -> None:
        """A plowed rectangle, which is a part of the meadows."""
        rng, slope = self.rng, between(self.rng, -1, 1)
        x, y = self.x - between(rng, 0, float(self.x[0, -1])), self.y - between(rng, 0, 1)
        along, across = x + slope * y, y - slope * x
        inside = (abs(along) < between(rng, 0.06, 0.13)) & (abs(across) < between(rng, 0.06, 0.13))
        furrows = 1 - 0.14 * ((along / between(rng, 0.04, 0.06)) % 1 < 0.5)
        self.paint(inside & (self.above > 0.12), pick(rng, FIELDS)[:, None, None] * furrows)

    def paint_forests(self) -> None:
        """Woods with lighter crowns."""
        inside = (self.woods + 0.3 * self.middle > 0.12) & (self.above > 0.07)
        tint = pick(self.rng, WOODS)[:, None, None]
        self.paint(inside, tint * (1 + 0.10 * self.middle), FOREST)
        self.paint(inside & (self.fine > 0.1), tint * np.float32(1.3))

    def paint_town(self) -> None:
        """Paved ground with houses in rows."""
        rng, radius = self.rng, between(self.rng, 0.1, 0.17)
        x, y = between(rng, 0, float(self.x[0, -1])), between(rng, 0, 1)
        town = (self._square(x, y) < radius * radius * (1 + 0.4 * self.middle)) & (self.above > 0.05)
        self.paint(town, _color(PAVING) * (1 + 0.05 * self.fine), TOWN)
        across, down = (self.x - x) / PLOT + 100, (self.y - y) / PLOT + 100
        plots = down.astype(int) % 16, across.astype(int) % 16
        built, shades = rng.random((16, 16), dtype=np.float32)[plots], rng.random((16, 16), dtype=np.float32)[plots]
        house = town & (built < 0.85) & (abs(across % 1 - 0.5) < 0.34) & (abs(down % 1 - 0.5) < 0.3)
        roof = _color(ROOFS[int(rng.random() * len(ROOFS))]) * (0.8 + 0.4 * shades)
        self.paint(house, roof)
        self.paint(house & (down % 1 > 0.5), roof * np.float32(0.75))

    def paint_ship(self, sail: tuple[int, int, int]) -> None:
        """A hull, a mast and a sail, and the foam around it."""
        right, down = (self.x - self.ship[0]) / SHIP_HALF, (self.y - self.ship[1]) / SHIP_HALF
        foam = (abs(down - 0.62) < 0.12) & (abs(right) < 1.25) & (self.fine > -0.3)
        self.paint(foam, _color(FOAM))
        hull = (down > 0.3) & (down < 0.75) & (abs(right) < 1.13 - 0.6 * down)
        mast = (abs(right) < 0.07) & (abs(down + 0.35) < 0.65)
        self.paint(hull | mast, _color(HULL), SHIP)
        cloth = (abs(down + 0.35) < 0.5) & (abs(right) < 0.72 + 0.15 * down)
        self.paint(cloth, _color(sail) * (1 - 0.12 * ((right * 2.4) % 1 < 0.3)), SHIP)


def _color(rgb: tuple[int, int, int]) -> np.ndarray:
    """float32 [3, 1, 1] in 0..1."""
    return np.array(rgb, np.float32)[:, None, None] / 255
