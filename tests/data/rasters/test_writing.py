"""Labels as GeoTIFF: where they lie, how they are stored, and what happens where the disk is full."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from fresh_python import run_python
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasters import PLACE, UTM, write_raster

from crisscross.data.rasters.reading import open_raster
from crisscross.data.rasters.writing import open_labels

PALETTE = ((10, 20, 30), (200, 0, 90))
# Turned by 30 degrees, with pixels that are not square.
TURNED = Affine.translation(500_000, 4_600_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.75)
POINTS = [GroundControlPoint(0, 0, 15, 41), GroundControlPoint(0, 8, 16, 41), GroundControlPoint(8, 0, 15, 40)]
RPCS = RPC(
    **dict.fromkeys(("height_off", "lat_off", "line_off", "long_off", "samp_off"), 3.0),
    **dict.fromkeys(("height_scale", "lat_scale", "line_scale", "long_scale", "samp_scale"), 2.0),
    **{f"{name}_coeff": [1.0, *[0.25] * 19] for name in ("line_num", "line_den", "samp_num", "samp_den")},
)


def label(tmp_path, values, source, **options):
    """Write labels block by block; the file, open."""
    out = tmp_path / ".labels.tmp"
    with open_raster(source) as raster, open_labels(out, raster, PALETTE, **options) as labels:
        assert (labels.shape, labels.dtype) == (values.shape, np.uint8)
        for top in range(0, len(values), 100):
            for left in range(0, values.shape[1], 170):
                part = (slice(top, min(top + 100, len(values))), slice(left, min(left + 170, values.shape[1])))
                labels[part] = values[part]
    assert not [path for path in tmp_path.iterdir() if path not in (out, source)]
    return rasterio.open(out)


@pytest.mark.parametrize(("crs", "transform"), [(UTM, PLACE), ("EPSG:4326", TURNED), (UTM, TURNED)])
def test_labels_lie_where_the_raster_lies(tmp_path, crs, transform):
    values = np.random.default_rng(0).integers(0, 2, (330, 410), dtype=np.uint8)
    values[40:90, 100:300] = 255
    source = write_raster(tmp_path / "a.tif", np.zeros((1, 330, 410), np.uint8), crs=crs, transform=transform)
    with label(tmp_path, values, source) as found:
        assert np.array_equal(found.read(1), values)
        assert found.crs == rasterio.CRS.from_user_input(crs) and found.transform.almost_equals(transform)
        assert np.array_equal(found.dataset_mask() == 0, values == 255)
        assert (found.nodata, found.dtypes, found.count) == (255, ("uint8",), 1)
        assert found.compression.name == "deflate" and found.block_shapes == [(256, 256)]
        assert [found.colormap(1)[number] for number in (0, 1)] == [(*color, 255) for color in PALETTE]


def test_control_points_and_rational_polynomials_are_kept(tmp_path):
    values = np.ones((8, 8), np.uint8)
    source = write_raster(tmp_path / "a.tif", values[None], transform=None, gcps=POINTS, crs="EPSG:4326")
    with label(tmp_path, values, source) as found:
        points, crs = found.gcps
        assert [(one.row, one.col, one.x, one.y) for one in points] == [(p.row, p.col, p.x, p.y) for p in POINTS]
        assert crs.to_epsg() == 4326
    write_raster(source, values[None], transform=None, crs=None, rpcs=RPCS)
    with label(tmp_path, values, source) as found:
        assert found.rpcs.to_dict() == RPCS.to_dict() | {
            "err_bias": found.rpcs.err_bias,
            "err_rand": found.rpcs.err_rand,
        }


def test_another_ignored_label_and_no_georeference(tmp_path):
    values = np.array([[0, 200], [200, 1]], np.uint8)
    source = write_raster(tmp_path / "a.tif", values[None], crs=None, transform=None)
    with label(tmp_path, values, source, ignore=200) as found:
        assert found.nodata == 200 and found.crs is None and found.transform.is_identity


@pytest.mark.parametrize("limit", [100, 3000, 80_000])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, limit):
    """A bound on the size of files fails in the same calls. GDAL reports nothing where only the last bytes fail."""
    source = write_raster(tmp_path / "a.tif", np.zeros((1, 300, 300), np.uint8))
    code = f"""
import resource, signal
from functools import partial
from pathlib import Path
import numpy as np
from crisscross.data.rasters.reading import open_raster
from crisscross.data.rasters.writing import open_labels
from crisscross.errors import CrissCrossError
from crisscross.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
def write(raster, path):
    with open_labels(path, raster, ((0, 0, 0),)) as labels:
        labels[slice(0, 300), slice(0, 300)] = np.random.default_rng(0).integers(0, 255, (300, 300), dtype=np.uint8)
try:
    with open_raster({str(source)!r}) as raster:
        write_atomically(Path({str(tmp_path / "out.tif")!r}), partial(write, raster))
except CrissCrossError as error:
    print(error)
"""
    (line,) = run_python(code).splitlines()
    assert line.startswith(f"{tmp_path / 'out.tif'}: cannot be written: ") and "full" in line
    assert list(tmp_path.iterdir()) == [source]


def test_labels_that_were_lost_without_an_error_are_missed(tmp_path):
    source = write_raster(tmp_path / "a.tif", np.zeros((1, 300, 300), np.uint8))
    lost = pytest.raises(OSError, match="not all of it reached the disk")
    with open_raster(source) as raster, lost, open_labels(tmp_path / "out.tif", raster, PALETTE) as labels:
        labels[slice(0, 300), slice(0, 300)] = np.ones((300, 300), np.uint8)
        # GDAL loses a tile.
        labels.dataset.write(np.zeros((44, 44), np.uint8), 1, window=((256, 300), (256, 300)))
