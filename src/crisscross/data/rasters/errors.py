"""rasterio, and one line for what goes wrong in it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crisscross.errors import CrissCrossError, import_extra

# Bytes of decoded tiles that GDAL keeps; by default it takes 5% of the memory.
CACHE = 128 << 20


@contextmanager
def opened(name: str, **options: Any) -> Iterator[Any]:
    """A GeoTIFF that rasterio opens; `options` are those of `rasterio.open`.

    Raises:
        CrissCrossError: rasterio is not installed.
        RasterioError: no GeoTIFF, or one that is damaged.
    """
    rasterio = import_extra("rasterio", "a GeoTIFF", "geo")
    with rasterio.Env(GDAL_CACHEMAX=CACHE), warnings.catch_warnings():
        # A raster without georeference is none of a problem here.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(name, driver="GTiff", **options) as dataset:
            yield dataset


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn what fails while a raster is read into one line that begins with `where`.

    Raises:
        CrissCrossError: that line.
    """
    try:
        yield
    except gdal_errors() as error:
        raise CrissCrossError(f"{where}: cannot be read: {reason(error)}") from None


@contextmanager
def writing() -> Iterator[None]:
    """Raise what fails while a raster is written as OSError."""
    try:
        yield
    except gdal_errors() as error:
        raise OSError(f"{reason(error)} (is the disk full?)") from None


def gdal_errors() -> tuple[type[Exception], ...]:
    """What rasterio raises for files: its own errors, and at some places those of GDAL as they are."""
    module = import_extra("rasterio.errors", "a GeoTIFF", "geo")
    return module.RasterioError, import_extra("rasterio._err", "a GeoTIFF", "geo").CPLE_BaseError


def reason(error: BaseException) -> str:
    """GDAL's own words, which rasterio keeps as the cause of its error."""
    return " ".join(str(error.__cause__ or error).split())
