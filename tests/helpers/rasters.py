"""GeoTIFF files for tests, written by rasterio."""

import warnings

import numpy as np
import rasterio
from rasterio.transform import from_origin

UTM = "EPSG:32633"
# Half a meter a pixel.
PLACE = from_origin(500_000, 4_600_000, 0.5, 0.5)


def write_raster(path, bands, **profile):
    """A GeoTIFF of an array [bands, H, W], by default in UTM zone 33N."""
    count, height, width = bands.shape
    given = {"crs": UTM, "transform": PLACE, "dtype": bands.dtype, **profile}
    descriptions = given.pop("descriptions", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", width=width, height=height, count=count, **given) as dataset:
            dataset.write(bands)
            if descriptions:
                dataset.descriptions = descriptions
    return path


def planes(image):
    """[H, W, 3] as [3, H, W]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))
