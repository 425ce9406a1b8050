"""Tiles of GeoTIFF as images and masks of a data set: 8-bit RGB trains, for other kinds one line says what to do."""

import numpy as np
import pytest
from coarse_networks import image_of
from rasters import planes, write_raster

from crisscross.cli import main
from crisscross.data.files.reading import read_image, read_mask
from crisscross.errors import CrissCrossError, CrissCrossWarning

SMALL = (
    *("model.backbone=test_resnet", "model.pretrained=false", "model.head.channels=8", "train.iterations=2"),
    *("train.batch=2", "augment.crop=[32, 32]", "optim.warmup=0"),
)


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate", "interleave": "pixel"},
        {"compress": "lzw", "predictor": 2, "interleave": "band", "nodata": 0},
    ],
)
def test_rgb_of_eight_bits_is_read_as_it_is(tmp_path, profile):
    image = image_of(40, 70)
    assert np.array_equal(read_image(write_raster(tmp_path / "a.tif", planes(image), **profile)), image)


def test_a_fourth_band_that_is_no_alpha_is_left_out(tmp_path):
    image = image_of(40, 70)
    bands = np.concatenate([planes(image), np.zeros((1, 40, 70), np.uint8)])
    path = write_raster(tmp_path / "a.tif", bands, photometric="RGB", alpha="NO")
    with pytest.warns(CrissCrossWarning, match="4 bands: the first are taken as red, green, blue"):
        assert np.array_equal(read_image(path), image)


def test_masks(tmp_path):
    mask = np.random.default_rng(0).integers(0, 5, (40, 70), dtype=np.uint8)
    mask[:5] = 255
    path = write_raster(tmp_path / "a.tif", mask[None], nodata=255, compress="deflate", tiled=True)
    assert np.array_equal(read_mask(path), mask)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (np.zeros((3, 40, 70), np.uint16), "a TIFF of 3 x 16 bits"),
        (np.zeros((8, 40, 70), np.uint16), "a TIFF of 8 x 16 bits"),
        (np.zeros((1, 40, 70), np.float32), "floating-point image"),
    ],
)
def test_other_kinds_say_what_to_do(tmp_path, bands, message):
    path = write_raster(tmp_path / "a.tif", bands)
    cure = "save it as 8-bit RGB.*: gdal_translate -ot Byte -b 3 -b 2 -b 1 -scale LOW HIGH -co PHOTOMETRIC=RGB IN OUT$"
    with pytest.raises(CrissCrossError, match=f"{message}.*{cure}"):
        read_image(path)
    # Elsewhere GDAL is no help.
    write_raster(path, bands, crs=None, transform=None)
    with pytest.raises(CrissCrossError, match=f"{message}(?!.*gdal)"):
        read_image(path)


def test_a_data_set_of_tiles_trains(tmp_path, capsys):
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (tmp_path / "set" / folder / split).mkdir(parents=True)
        for number in range(2):
            image, name = image_of(40, 70, number + 2 * (split == "val")), f"{split}{number}.tif"
            write_raster(
                tmp_path / "set/images" / split / name, planes(image), tiled=True, blockxsize=16, blockysize=16
            )
            write_raster(tmp_path / "set/masks" / split / name, (image[None, ..., 0] > 99).astype(np.uint8), nodata=255)
    run = tmp_path / "run"
    words = ["--data", str(tmp_path / "set"), "--out", str(run), "--workers", "0", "--device", "cpu"]
    assert main(["train", "ccnet-r50", *words, *(word for pair in SMALL for word in ("--set", pair))]) == 0
    # The run labels the tiles as rasters.
    tile = str(tmp_path / "set/images/val/val0.tif")
    assert main(["predict", str(run), tile, "--big", "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert (tmp_path / "out/labels/val0.tif").is_file()
