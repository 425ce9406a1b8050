"""Labels as GeoTIFF."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.rasters.errors import opened, writing
from crisscross.data.rasters.reading import Raster

TILE = 256


class LabelRaster:
    """Labels uint8 [H, W] that go to a file as they are assigned: `labels[top:bottom, left:right] = part`."""

    dtype = np.dtype(np.uint8)

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.shape = dataset, (dataset.height, dataset.width)
        # How often each label was written.
        self.counts = np.zeros(256, np.int64)

    def __setitem__(self, part: tuple[slice, slice], labels: np.ndarray) -> None:
        rows, columns = part
        with writing():
            self.dataset.write(labels, 1, window=((rows.start, rows.stop), (columns.start, columns.stop)))
        self.counts += np.bincount(labels.ravel(), minlength=256)


@contextmanager
def open_labels(
    path: Path, raster: Raster, palette: Sequence[tuple[int, int, int]], ignore: int = 255
) -> Iterator[LabelRaster]:
    """A GeoTIFF of labels to write: compressed, in tiles, where on earth the raster lies, with the classes' colors.

    Args:
        path: the file to write.
        raster: its size and georeference are taken over: CRS and transform, or ground control points and RPCs.
        palette: one RGB color for each class.
        ignore: the label of pixels without data, which becomes the file's nodata value.

    Raises:
        OSError: the file cannot be written. GDAL keeps silent where the last bytes do not fit on the disk; so what is
            written is read again and its labels are counted.
    """
    source = raster.dataset
    profile = {"width": source.width, "height": source.height, "count": 1, "dtype": "uint8", "nodata": ignore}
    profile |= {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "bigtiff": "if_safer"}
    points, points_crs = source.gcps
    if points:
        profile |= {"gcps": points, "crs": points_crs}
    else:
        profile |= {"crs": source.crs, "transform": source.transform}
    with writing(), opened(str(path.absolute()), mode="w", **profile) as dataset:
        if source.rpcs:
            dataset.rpcs = source.rpcs
        dataset.write_colormap(1, {number: (*color, 255) for number, color in enumerate(palette)})
        labels = LabelRaster(dataset)
        yield labels
    with writing(), opened(str(path.absolute())) as dataset:
        counts = sum(np.bincount(part.ravel(), minlength=256) for part in _strips(dataset))
    if not np.array_equal(counts, labels.counts):
        raise OSError("not all of it reached the disk (is it full?)")


def _strips(dataset: Any) -> Iterator[np.ndarray]:
    for top in range(0, dataset.height, TILE):
        yield dataset.read(1, window=((top, min(top + TILE, dataset.height)), (0, dataset.width)))
