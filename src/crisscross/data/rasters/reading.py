"""Windows of a GeoTIFF as images."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.files.big import free_memory
from crisscross.data.files.decoding import open_file
from crisscross.data.files.tiff import GEO_KEYS, directories
from crisscross.data.rasters.errors import opened, reading
from crisscross.data.rasters.stretch import Stretch, limits
from crisscross.errors import CrissCrossError

SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class RasterOptions:
    """How rasters are read, and what is written of them.

    Attributes:
        bands: one band (gray) or three (red, green, blue), counted from 1; by default those that the file names.
        stretch: the values that become black and white; by default 8-bit values as they are.
        polygons: also write polygons.
    """

    bands: tuple[int, ...] = ()
    stretch: Stretch | None = None
    polygons: bool = False


AS_IT_IS = RasterOptions()


def is_raster(path: Path, options: RasterOptions = AS_IT_IS) -> bool:
    """Whether a file is to be read as a raster: a TIFF with a georeference, or any TIFF where `options` ask for it."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    return bool(options.bands or options.stretch or options.polygons) or _georeferenced(path)


def _georeferenced(path: Path) -> bool:
    """Whether a TIFF has the keys of a GeoTIFF or a world file beside it. False where it cannot be read."""
    if any(path.with_suffix(suffix).exists() for suffix in (".tfw", ".TFW")):
        return True
    try:
        with open_file(path) as file:
            return GEO_KEYS in next(directories(file), {})
    except (OSError, ValueError, struct.error, CrissCrossError):
        return False


class Raster:
    """An image uint8 [H, W, 3] (RGB) or [H, W] (gray) of which windows are read from a file when they are asked for.

    `raster[top:bottom, left:right]` is a masked array: masked are pixels without data (by the file's nodata value, mask
    or alpha band, or not finite) in all bands. Use `open_raster`.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, dataset: Any, path: Path, bands: list[int], scale: np.ndarray | None) -> None:
        self.dataset, self.path, self.bands, self.scale = dataset, path, bands, scale
        self.colors = _colors(dataset, bands) if scale is None else None
        gray = len(bands) == 1 and self.colors is None
        self.shape: tuple[int, ...] = (dataset.height, dataset.width, *(() if gray else (3,)))

    def __getitem__(self, part: tuple[slice, slice]) -> np.ma.MaskedArray:
        (top, bottom, _), (left, right, _) = (
            side.indices(length) for side, length in zip(part, self.shape[:2], strict=True)
        )
        with reading(f"{self.path}: rows {top} to {bottom - 1}, columns {left} to {right - 1}"):
            values = self.dataset.read(self.bands, window=((top, bottom), (left, right)), masked=True)
        image, hidden = np.ma.getdata(values), np.ma.getmaskarray(values)
        if self.scale is not None:
            image, hidden = self._stretched(image, hidden)
        image, hidden = image.transpose(1, 2, 0), np.asarray(hidden.all(axis=0))
        if self.colors is not None:
            image = self.colors[image[..., 0]]
        if len(self.shape) == 2:
            image = image[..., 0]
        return np.ma.MaskedArray(image, hidden if image.ndim == 2 else np.broadcast_to(hidden[..., None], image.shape))

    def _stretched(self, values: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[bands, h, w]: 8-bit values, and what is hidden."""
        low, high = np.asarray(self.scale).T[..., None, None]
        finite = np.isfinite(values)
        scaled = (np.where(finite, values, low) - low) * (255 / (high - low))
        return np.rint(scaled.clip(0, 255)).astype(np.uint8), hidden | ~finite


@contextmanager
def open_raster(path: str | os.PathLike[str], options: RasterOptions = AS_IT_IS) -> Iterator[Raster]:
    """A TIFF file as an image whose windows are read when they are asked for.

    Raises:
        CrissCrossError: rasterio is not installed, the file is damaged or has no such bands, its values are not 8-bit
            and there is no stretch, a tile takes more memory than is free, or polygons are asked for and the file
            does not say where on earth it lies.
    """
    source = Path(path)
    # An absolute path: GDAL understands some words at the beginning of a name as commands.
    context = opened(str(source.absolute()))
    with reading(str(source)):
        dataset = context.__enter__()
    try:
        with reading(str(source)):
            _check(dataset, source, options)
            bands = _bands(dataset, source, options.bands)
            raster = Raster(dataset, source, bands, limits(dataset, str(source), bands, options.stretch))
        yield raster
    finally:
        context.__exit__(None, None, None)


def _check(dataset: Any, source: Path, options: RasterOptions) -> None:
    height, width = dataset.block_shapes[0]
    # NumPy has no type of its own for complex_int16.
    needed = height * width * max(4 if "complex" in kind else np.dtype(kind).itemsize for kind in dataset.dtypes)
    needed *= dataset.count if dataset.profile["interleave"] == "pixel" else 1
    free = free_memory()
    if free is not None and needed > free // 2:
        raise CrissCrossError(
            f"{source}: is stored in pieces of {width} x {height} pixels, each {needed / 2**30:.1f} GiB; store it in "
            "tiles first: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE IN OUT"
        )
    if options.polygons and (dataset.crs is None or dataset.gcps[0]):
        lacking = "ground control points in place of a transform" if dataset.gcps[0] else "no coordinate system"
        raise CrissCrossError(
            f"{source}: has {lacking}, so polygons cannot be given in WGS 84; leave polygons out of --format"
        )


def _bands(dataset: Any, source: Path, asked: tuple[int, ...]) -> list[int]:
    """The bands to read: those that are asked for, those of red, green and blue, the first three of three, or gray."""
    if wrong := [band for band in asked if band > dataset.count]:
        raise CrissCrossError(
            f"{source}: --bands {_listed(asked)}: there is no band {wrong[0]}, it has {dataset.count}"
        )
    if asked:
        return list(asked)
    roles = [role.name for role in dataset.colorinterp]
    colors = ("red", "green", "blue")
    if all(color in roles for color in colors):
        return [roles.index(color) + 1 for color in colors]
    images = [number for number, role in enumerate(roles, 1) if role != "alpha"]
    if len(images) in (1, 3):
        return images
    raise CrissCrossError(
        f"{source}: has {len(images)} bands ({_described(dataset, images)}); say which are red, green and blue: "
        "--bands 3,2,1"
    )


def _listed(bands: tuple[int, ...]) -> str:
    return ",".join(map(str, bands))


def _described(dataset: Any, bands: list[int]) -> str:
    """Up to twelve bands by number and the file's own description."""
    words = [f"{band} {dataset.descriptions[band - 1] or dataset.colorinterp[band - 1].name}" for band in bands[:12]]
    return ", ".join(words) + (", ..." if len(bands) > 12 else "")


def _colors(dataset: Any, bands: list[int]) -> np.ndarray | None:
    """uint8 [256, 3]: the colors of a palette raster."""
    if len(bands) != 1 or dataset.colorinterp[bands[0] - 1].name != "palette":
        return None
    table = np.zeros((256, 3), np.uint8)
    for value, color in dataset.colormap(bands[0]).items():
        table[value] = color[:3]
    return table
