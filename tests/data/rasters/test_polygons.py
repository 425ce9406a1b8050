"""Polygons in WGS 84 as RFC 7946 wants them."""

import json
import math

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.features import rasterize
from rasterio.warp import transform_geom
from rasters import PLACE, UTM, write_raster

from crisscross.data.rasters import polygons
from crisscross.data.rasters.polygons import write_polygons
from crisscross.errors import CrissCrossError

CLASSES = ("road", "field", "house")


def features(tmp_path, labels, **profile):
    source = write_raster(tmp_path / "labels.tif", labels[None], nodata=255, **profile)
    write_polygons(tmp_path / "a.geojson", source, CLASSES)
    found = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    assert set(found) == {"type", "features"} and found["type"] == "FeatureCollection"
    return found["features"]


def turns(ring):
    """The signed area of a ring by the sum of cross products."""
    points = np.array(ring)
    points = points - points[0]
    x, y = points.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def test_a_square_with_a_hole_by_hand(tmp_path):
    labels = np.full((4, 5), 255, np.uint8)
    labels[:3, :3] = 2
    labels[1, 1] = 255
    (only,) = features(tmp_path, labels, crs="EPSG:4326", transform=Affine(0.5, 0, 10, 0, -0.25, 50))
    assert only["type"] == "Feature" and only["properties"] == {"label": 2, "class": "house"}
    outer, hole = only["geometry"]["coordinates"]
    assert only["geometry"]["type"] == "Polygon"
    assert {tuple(point) for point in outer} == {(10, 50), (11.5, 50), (11.5, 49.25), (10, 49.25)}
    assert {tuple(point) for point in hole} == {(10.5, 49.75), (11, 49.75), (11, 49.5), (10.5, 49.5)}
    assert outer[0] == outer[-1] and hole[0] == hole[-1]
    # Counterclockwise, and clockwise: 1.5 x 0.75 and 0.5 x 0.25.
    assert (turns(outer), turns(hole)) == pytest.approx((1.125, -0.125))


def test_meters_become_degrees(tmp_path):
    """On the central meridian of UTM zone 33 north, 15 degrees east, where the scale is 0.9996."""
    labels = np.full((2, 2), 1, np.uint8)
    (only,) = features(tmp_path, labels, transform=Affine(50, 0, 500_000, 0, -50, 0), crs=UTM)
    (ring,) = only["geometry"]["coordinates"]
    longitudes, latitudes = np.array(ring).T
    # Radius of the equator, and of a meridian at the equator, a (1 - e^2).
    equator, meridian = 6_378_137.0, 6_378_137.0 * (1 - 0.0066943799901413)
    assert longitudes.min() == 15 and latitudes.max() == 0
    assert longitudes.max() - 15 == pytest.approx(math.degrees(100 / 0.9996 / equator), abs=2e-8)
    assert latitudes.min() == pytest.approx(-math.degrees(100 / 0.9996 / meridian), abs=2e-8)


@pytest.mark.parametrize("turn", [Affine.identity(), Affine.rotation(25), Affine.scale(1, -1)])
@pytest.mark.parametrize("side", [2048, 32])
def test_polygons_drawn_again_are_the_labels(tmp_path, monkeypatch, turn, side):
    monkeypatch.setattr(polygons, "SIDE", side)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (9, 13), dtype=np.uint8).repeat(8, 0).repeat(8, 1)[:70, :100]
    labels[20:40, 30:90] = 255
    # GDAL winds rings the other way where rows run to the north.
    transform = PLACE @ turn
    found = features(tmp_path, labels, transform=transform)
    shapes = [
        (transform_geom("EPSG:4326", UTM, feature["geometry"]), feature["properties"]["label"]) for feature in found
    ]
    drawn = rasterize(shapes, (70, 100), fill=255, transform=transform, dtype=np.uint8)
    assert np.array_equal(drawn, labels)
    assert {CLASSES[feature["properties"]["label"]] for feature in found} == {
        feature["properties"]["class"] for feature in found
    }
    for feature in found:
        outer, *holes = feature["geometry"]["coordinates"]
        assert turns(outer) > 0 and all(turns(hole) < 0 for hole in holes)


def test_only_one_window_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(polygons, "SIDE", 64)
    read, sizes = rasterio.DatasetReader.read, []

    def spy(dataset, band, window):
        sizes.append((window.height, window.width))
        return read(dataset, band, window=window)

    labels = np.zeros((100, 140), np.uint8)
    monkeypatch.setattr(polygons, "opened", lambda name: Spied(rasterio.open(name), spy))
    found = features(tmp_path, labels)
    assert sizes == [(64, 64), (64, 64), (64, 12), (36, 64), (36, 64), (36, 12)] and len(found) == 6


class Spied:
    """A dataset whose `read` is another function."""

    def __init__(self, dataset, read):
        self.dataset, self.read = dataset, lambda band, window: read(dataset, band, window)

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.dataset.close()


def test_nothing_but_nodata_and_no_file(tmp_path):
    assert features(tmp_path, np.full((3, 3), 255, np.uint8)) == []
    with pytest.raises(CrissCrossError, match=r"missing\.tif: cannot be read"):
        write_polygons(tmp_path / "b.geojson", tmp_path / "missing.tif", CLASSES)
    assert not (tmp_path / "b.geojson").exists()
