"""Polygons of labels as GeoJSON."""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from crisscross.data.rasters.errors import opened, reading
from crisscross.errors import import_extra

# Side of the windows whose polygons are in memory at once, and decimals of a degree: about a millimeter.
SIDE, DECIMALS = 2048, 8


def write_polygons(target: Path, labels: Path, classes: Sequence[str]) -> None:
    """Write the areas of one label as GeoJSON (RFC 7946): polygons in WGS 84 with `label` and `class`.

    Pixels that touch at corners alone are apart. Areas are cut where windows of 2048 x 2048 pixels meet, so that memory
    is bounded by one of them.

    Args:
        target: the file to write.
        labels: a GeoTIFF of labels with a coordinate system; its nodata value is left out.
        classes: their names.

    Raises:
        CrissCrossError: the labels cannot be read, or their coordinates have no place in WGS 84.
        OSError: the file cannot be written.
    """
    with reading(str(labels)), opened(str(labels.absolute())) as dataset, target.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        before = "\n"
        for feature in _features(dataset, classes):
            file.write(before + json.dumps(feature))
            before = ",\n"
        file.write("\n]}\n")


def _features(dataset: Any, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    shapes = import_extra("rasterio.features", "a GeoTIFF", "geo").shapes
    transform_geom = import_extra("rasterio.warp", "a GeoTIFF", "geo").transform_geom
    windows = import_extra("rasterio.windows", "a GeoTIFF", "geo")
    for top in range(0, dataset.height, SIDE):
        for left in range(0, dataset.width, SIDE):
            window = windows.Window(left, top, min(SIDE, dataset.width - left), min(SIDE, dataset.height - top))
            values, place = dataset.read(1, window=window), dataset.window_transform(window)
            valid = values != dataset.nodata
            if not valid.any():
                continue
            found = list(shapes(values, mask=valid, transform=place))
            geometries = transform_geom(dataset.crs, "EPSG:4326", [shape for shape, _ in found], precision=DECIMALS)
            for geometry, (_, value) in zip(geometries, found, strict=True):
                label = int(value)
                properties = {"label": label, "class": classes[label]}
                yield {"type": "Feature", "properties": properties, "geometry": _wound(geometry)}


def _wound(geometry: dict[str, Any]) -> dict[str, Any]:
    """The polygon or polygons with outer rings counterclockwise and holes clockwise, as RFC 7946 wants them."""
    if geometry["type"] == "MultiPolygon":
        return {**geometry, "coordinates": [_rings(polygon) for polygon in geometry["coordinates"]]}
    return {**geometry, "coordinates": _rings(geometry["coordinates"])}


def _rings(polygon: Sequence[Sequence[Sequence[float]]]) -> list[list[Sequence[float]]]:
    return [
        list(ring) if (_area(ring) > 0) == (number == 0) else list(ring)[::-1] for number, ring in enumerate(polygon)
    ]


def _area(ring: Sequence[Sequence[float]]) -> float:
    """Twice the area of a closed ring, positive where it runs counterclockwise."""
    x0, y0 = ring[0][:2]
    # From the first point: differences of degrees lose fewer digits than degrees.
    return sum((a[0] - x0) * (b[1] - y0) - (b[0] - x0) * (a[1] - y0) for a, b in pairwise(ring))
