"""Windows of rasters: bands, masks, and which TIFF files are rasters."""

import sys

import numpy as np
import pytest
import rasterio
from coarse_networks import image_of
from PIL import Image
from rasters import PLACE, planes, write_raster

from crisscross.data.rasters import reading
from crisscross.data.rasters.reading import RasterOptions, is_raster, open_raster
from crisscross.data.rasters.stretch import parse_stretch
from crisscross.errors import CrissCrossError

EVERYTHING = (slice(None), slice(None))


def read(path, part=EVERYTHING, **options):
    with open_raster(path, RasterOptions(**options)) as raster:
        found = raster[part]
        assert raster.shape[2:] == found.shape[2:] and found.dtype == raster.dtype == np.uint8
        return found


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"tiled": True, "blockxsize": 16, "blockysize": 32},
        {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel", "compress": "lzw"},
        {"blockysize": 7, "compress": "deflate", "interleave": "band", "bigtiff": "yes"},
    ],
)
def test_windows_are_the_pixels_whatever_the_blocks(tmp_path, profile):
    image = image_of(70, 90)
    path = write_raster(tmp_path / "a.tif", planes(image), **profile)
    for rows, columns in [(slice(0, 70), slice(0, 90)), (slice(13, 66), slice(31, 90)), (slice(69, 70), slice(0, 1))]:
        found = read(path, (rows, columns))
        assert np.array_equal(found.data, image[rows, columns]) and not found.mask.any()


def test_bands_by_number_by_color_and_gray(tmp_path):
    bands = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 5), np.uint8)
    alpha = np.full((1, 4, 5), 255, np.uint8)
    clear = write_raster(tmp_path / "clear.tif", np.concatenate([bands[3:4], alpha]), alpha="yes")
    assert read(clear).tolist() == np.full((4, 5), 3).tolist()
    six = write_raster(tmp_path / "six.tif", bands, photometric="minisblack")
    assert read(six, bands=(5, 1, 3))[0, 0].tolist() == [4, 0, 2]
    assert read(six, bands=(6,)).tolist() == np.full((4, 5), 5).tolist()
    three = write_raster(tmp_path / "three.tif", bands[:3], photometric="minisblack")
    assert read(three)[0, 0].tolist() == [0, 1, 2]
    assert read(write_raster(tmp_path / "one.tif", bands[4:5])).tolist() == np.full((4, 5), 4).tolist()
    with rasterio.open(six, "r+") as dataset:
        kinds = rasterio.enums.ColorInterp
        dataset.colorinterp = [kinds.blue, kinds.green, kinds.red, *[kinds.undefined] * 3]
    assert read(six)[0, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"^\S*six\.tif: has 6 bands \(1 B02, 2 B03, 3 undefined, .*\); say which are .*: --bands 3,2,1$"),
        ({"bands": (3, 7, 1)}, r"^\S*six\.tif: --bands 3,7,1: there is no band 7, it has 6$"),
    ],
)
def test_bands_that_are_not_there_or_not_known(tmp_path, options, message):
    names = ("B02", "B03", *[""] * 4)
    path = write_raster(
        tmp_path / "six.tif", np.zeros((6, 4, 5), np.uint8), photometric="minisblack", descriptions=names
    )
    with pytest.raises(CrissCrossError, match=message):
        read(path, **options)


def test_the_colors_of_a_palette(tmp_path):
    path = write_raster(tmp_path / "a.tif", np.array([[[0, 1], [7, 1]]], np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (9, 8, 7, 255), 1: (255, 0, 3, 255), 7: (1, 2, 3, 255)})
    assert read(path).tolist() == [[[9, 8, 7], [255, 0, 3]], [[1, 2, 3], [255, 0, 3]]]


def test_hidden_is_what_has_no_data_in_any_band(tmp_path):
    bands = np.full((3, 2, 3), 50, np.uint8)
    bands[:, 0, 0] = 0
    # Red as can be is no hole.
    bands[1:, 1, 1] = 0
    path = write_raster(tmp_path / "a.tif", bands, nodata=0)
    assert read(path).mask[..., 0].tolist() == [[True, False, False], [False, False, False]]
    assert read(path, bands=(2, 3, 3)).mask[..., 2].tolist() == [[True, False, False], [False, True, False]]
    # Values of a band that are shown stay: the network sees the pixels of the file.
    assert read(path).data[1, 1].tolist() == [50, 0, 0]
    alpha = np.where(bands[:1] > 0, 255, 0)[..., ::-1].astype(np.uint8)
    clear = write_raster(tmp_path / "b.tif", np.concatenate([bands, alpha]))
    assert read(clear).mask[..., 0].tolist() == [[False, False, True], [False, False, False]]


def test_floats_with_and_without_a_nodata_value(tmp_path):
    values = np.array([[[-1.0, 0.25, np.nan], [1.0, -9999, np.inf]]], np.float32)
    path = write_raster(tmp_path / "a.tif", values, nodata=-9999)
    found = read(path, stretch=parse_stretch("-1,1"))
    assert found.mask.tolist() == [[False, False, True], [False, True, True]]
    # (0.25 + 1) / 2 of 255 is 159.375; what is hidden is black.
    assert found.data.tolist() == [[0, 159, 0], [255, 0, 0]]


def test_sixteen_bits_by_hand(tmp_path):
    values = np.array([[[0, 1000, 3000, 65535]], [[100, 1500, 2999, 3001]], [[0, 0, 6, 5]]], np.uint16)
    path = write_raster(tmp_path / "a.tif", values)
    found = read(path, stretch=parse_stretch("0,3000"))
    # 0.085 a step: 100 -> 8.5, to the even 8; 1500 -> 127.5 -> 128; 2999 -> 254.915; 6 -> 0.51; 5 -> 0.425.
    assert found.data.tolist() == [[[0, 8, 0], [85, 128, 0], [255, 255, 1], [255, 255, 0]]]


def test_which_files_are_rasters(tmp_path):
    image = image_of(9, 9)
    geo = write_raster(tmp_path / "geo.tif", planes(image))
    plain = write_raster(tmp_path / "plain.TIF", planes(image), crs=None, transform=None)
    Image.fromarray(image).save(tmp_path / "pillow.tif")
    Image.fromarray(image).save(tmp_path / "world.tif")
    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "world.tfw").write_text("0.5\n0\n0\n-0.5\n100\n200\n")
    (tmp_path / "bad.tif").write_bytes(b"II*\0")
    (tmp_path / "none.tif").write_bytes(b"nothing")
    others = [tmp_path / name for name in ("pillow.tif", "a.png", "bad.tif", "none.tif", "missing.tif")]
    assert [is_raster(path) for path in (geo, tmp_path / "world.tif", plain, *others)] == [True, True] + [False] * 6
    assert is_raster(plain, RasterOptions(bands=(1, 2, 3)))
    assert not is_raster(tmp_path / "a.png", RasterOptions(bands=(1, 2, 3)))
    with open_raster(tmp_path / "world.tif") as raster:
        assert raster.dataset.transform[:6] == (0.5, 0, 99.75, 0, -0.5, 200.25)


@pytest.mark.parametrize("content", [b"", b"nothing", b"II*\0\x08\0\0\0\0\0\0\0"])
def test_files_that_are_none_are_one_line(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(CrissCrossError, match=r"^\S*a\.tif: cannot be read: [^\n]+$"):
        read(tmp_path / "a.tif")


def test_other_formats_and_commands_of_gdal_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    write_raster("good.tif", np.zeros((1, 4, 4), np.uint8))
    for name in ("a.tif", "GTIFF_DIR:1:good.tif", "zip://good.zip!good.tif", "/vsicurl/http://localhost/a.tif"):
        with pytest.raises(CrissCrossError, match="cannot be read"):
            read(name)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_a_piece_that_does_not_fit_into_memory(tmp_path, monkeypatch, interleave):
    shape = {"blockysize": 64, "compress": "deflate", "interleave": interleave}
    path = write_raster(tmp_path / "a.tif", np.zeros((3, 64, 1024), np.uint16), **shape)
    # Half of it for a piece of 2 bytes a value.
    enough = 2 * 2 * 64 * 1024 * (3 if interleave == "pixel" else 1)
    options = {"stretch": parse_stretch("0,9")}
    monkeypatch.setattr(reading, "free_memory", lambda: enough - 1)
    with pytest.raises(CrissCrossError, match=r"in pieces of 1024 x 64 pixels, each 0\.0 GiB; .* -co TILED=YES"):
        read(path, **options)
    monkeypatch.setattr(reading, "free_memory", lambda: enough)
    read(path, **options)


@pytest.mark.parametrize(("crs", "transform"), [(None, PLACE), (None, None)])
def test_polygons_need_a_place_on_earth(tmp_path, crs, transform):
    path = write_raster(tmp_path / "a.tif", np.zeros((1, 4, 4), np.uint8), crs=crs, transform=transform)
    with pytest.raises(CrissCrossError, match=r"has no coordinate system, .* WGS 84; leave polygons out of --format"):
        read(path, polygons=True)
    read(path)


def test_rasterio_is_named_where_it_is_missing(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "a.tif", np.zeros((1, 4, 4), np.uint8))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(CrissCrossError, match=r"^a GeoTIFF needs rasterio: run `pip install '\.\[geo\]'`"):
        read(path)
