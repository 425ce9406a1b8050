"""`--stretch`: its words, and percentages by numpy's definition."""

import numpy as np
import pytest
import rasterio
from rasters import UTM, write_raster

from crisscross.data.rasters.reading import open_raster
from crisscross.data.rasters.stretch import limits, parse_stretch, sample
from crisscross.errors import CrissCrossError


def limits_of(path, bands, text=None):
    with rasterio.open(path) as dataset:
        return limits(dataset, path.name, bands, text and parse_stretch(text))


def test_words():
    assert parse_stretch("0,3000") == ((0, False), (3000, False))
    assert parse_stretch(" 2% , 98.5%") == ((2, True), (98.5, True))
    assert parse_stretch("-20.5,1e4") == ((-20.5, False), (10000, False))
    assert str(parse_stretch("0,98%")) == "0,98%"


@pytest.mark.parametrize("text", ["", "5", "1,2,3", "a,b", "nan,1", "0,inf", "2%,101%", "-1%,5", ",", "3,"])
def test_other_words(text):
    with pytest.raises(CrissCrossError, match=r"^--stretch: .* is not LOW,HIGH; write numbers or percentages"):
        parse_stretch(text)


@pytest.mark.parametrize("text", ["5,5", "3000,0", "98%,2%"])
def test_the_first_is_below_the_second(text):
    with pytest.raises(CrissCrossError, match="the first value must be below the second"):
        parse_stretch(text)


def test_percentages_are_of_the_valid_pixels_of_each_band(tmp_path):
    bands = np.random.default_rng(0).integers(1, 5000, (3, 300, 280), dtype=np.uint16)
    bands[:, :90] = 0
    path = write_raster(tmp_path / "a.tif", bands, nodata=0)
    found = limits_of(path, [3, 1], "2%,98%")
    # 300 x 280 pixels: four windows that overlap cover all of it, so values are near the exact ones.
    expected = [np.percentile(bands[band][90:], (2, 98)) for band in (2, 0)]
    assert np.allclose(found, expected, atol=25)
    assert limits_of(path, [1, 2], "10,70").tolist() == [[10, 70]] * 2
    whole = write_raster(tmp_path / "b.tif", bands[:, :200, :200], nodata=0)
    expected = [np.percentile(bands[0, 90:200, :200], 5), 4000]
    assert np.allclose(limits_of(whole, [1], "5%,4000"), [expected])


def test_a_large_raster_is_sampled(tmp_path):
    path = tmp_path / "a.tif"
    profile = {"width": 30_000, "height": 9000, "count": 1, "dtype": "float32", "nodata": -1, "sparse_ok": True}
    with rasterio.open(path, "w", driver="GTiff", tiled=True, compress="deflate", **profile) as dataset:
        dataset.write(np.full((1, 256, 256), 7, np.float32), window=((8744, 9000), (29_744, 30_000)))
    with rasterio.open(path) as dataset:
        (values,) = sample(dataset, [1])
    # Of 64 windows the last holds values.
    assert values.tolist() == [7.0] * 256 * 256


@pytest.mark.parametrize(
    ("values", "text", "message"),
    [
        (
            np.arange(100, 201, dtype=np.uint16),
            None,
            r"^a\.tif: holds uint16 values from 100 to 200 \(as sampled\), and networks see 8 bits; say which become "
            r"black and white: --stretch 102,198, or --stretch 2%,98% for those of each band$",
        ),
        (
            np.linspace(-30, -10, 101, dtype=np.float32),
            None,
            r"float32 values from -30 to -10 .*: --stretch=-29\.6,-10\.4, or",
        ),
        (np.full(9, 4, np.int16), "2%,98%", r"^a\.tif: --stretch 2%,98% of band 1 is 4 to 4: no range; give numbers$"),
        (np.full(9, 5, np.int16), "10,98%", r"of band 1 is 10 to 5: no range"),
        (np.full(9, -7, np.int16), None, r"a sample of windows holds no valid int16 pixel; give numbers"),
        (np.full(9, 1, np.complex64), "1,2", r"holds complex64; only whole and floating-point numbers are read"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path, values, text, message):
    path = write_raster(tmp_path / "a.tif", values.reshape(1, 1, -1), nodata=-7 if values.dtype.kind in "if" else None)
    with pytest.raises(CrissCrossError, match=message):
        limits_of(path, [1], text)


def test_the_complex_numbers_of_radar_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    with rasterio.open(path, "w", driver="GTiff", width=4, height=4, count=1, dtype="complex_int16", crs=UTM):
        pass
    with pytest.raises(CrissCrossError, match="holds complex_int16; only whole"), open_raster(path):
        pass


def test_eight_bits_stay_unless_asked(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.arange(200, dtype=np.uint8).reshape(1, 10, 20))
    assert limits_of(path, [1]) is None
    assert limits_of(path, [1], "0%,100%").tolist() == [[0, 199]]
