"""`crisscross predict --big` of GeoTIFF files: the labels of the same pixels as PNG, where the raster lies."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from coarse_networks import image_of, small_segmenter
from PIL import Image
from rasterio.windows import Window
from rasters import PLACE, UTM, planes, write_raster

import crisscross
from crisscross.cli import main
from crisscross.data.rasters.reading import open_raster
from crisscross.inference.tiles import blocks

SHAPE = (150, 210)


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """The command in a folder of its own, with a small network."""
    monkeypatch.chdir(tmp_path)
    crisscross.save(small_segmenter(), "net.safetensors")
    return lambda *words: main(["predict", "net.safetensors", *words, "--big", "--out", "out", "--device", "cpu"])


def labels_of(name):
    return np.asarray(Image.open(f"out/labels/{name}"))


@pytest.mark.parametrize("block", [[], ["--block", "64"]])
def test_labels_are_those_of_the_same_pixels_as_png(predict, capsys, block):
    image = image_of(*SHAPE)
    image[:70, :90] = 0
    write_raster("scene.tif", planes(image), nodata=0, tiled=True, blockxsize=64, blockysize=32, compress="deflate")
    Image.fromarray(image).save("image.png")
    assert predict("scene.tif", "image.png", *block) == 0
    assert "(labels/, classes.json)" in capsys.readouterr().out
    expected = labels_of("image.png").copy()
    assert len(np.unique(expected)) > 1
    expected[(image == 0).all(axis=2)] = 255
    with rasterio.open("out/labels/scene.tif") as found:
        assert np.array_equal(found.read(1), expected)
        assert (found.crs.to_epsg(), found.transform, found.nodata) == (32633, PLACE, 255)
    # Again: what it wrote itself is replaced.
    assert predict("scene.tif", "image.png", *block) == 0


def test_bands_and_stretch_of_sixteen_bits(predict, capsys):
    image = image_of(*SHAPE)
    # Steps of 12 over 40, in the order blue, green, red, infrared.
    deep = np.concatenate([planes(image)[::-1] * np.uint16(12) + np.uint16(40), np.zeros((1, *SHAPE), np.uint16)])
    write_raster("deep.tif", deep, compress="lzw", interleave="band")
    Image.fromarray(image).save("image.png")
    assert predict("deep.tif", "--bands", "3,2,1") == 2
    assert "deep.tif: holds uint16 values from 40 to" in capsys.readouterr().err
    assert predict("deep.tif", "--stretch", "40,3100") == 2
    assert "deep.tif: has 4 bands" in capsys.readouterr().err
    assert predict("deep.tif", "--bands", "3,2,1", "--stretch", "40,3100") == 0
    assert predict("image.png") == 0
    with rasterio.open("out/labels/deep.tif") as found:
        assert np.array_equal(found.read(1), labels_of("image.png"))


def test_polygons_are_those_of_the_labels(predict, tmp_path, capsys):
    write_raster("scene.tif", planes(image_of(*SHAPE)))
    assert predict("scene.tif", "--format", "polygons") == 0
    assert "(labels/, polygons/, classes.json)" in capsys.readouterr().out
    found = json.loads((tmp_path / "out/polygons/scene.geojson").read_text())["features"]
    labels = labels_of("scene.tif")
    assert {feature["properties"]["label"] for feature in found} == set(np.unique(labels))
    assert {feature["properties"]["class"] for feature in found} <= {"floor", "wall", "door"}
    (tmp_path / "out/polygons/scene.geojson").write_text("mine")
    assert predict("scene.tif", "--format", "polygons") == 2
    assert "polygons/scene.geojson: exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bands", "0,1,2"], r"--bands: '0,1,2': write one band or three, counted from 1, as in 3,2,1"),
        (["--bands", "1,2"], r"--bands: '1,2': write one band or three"),
        (["--bands", "red"], r"--bands: 'red': write one band or three"),
        (["--bands", "9"], r"scene.tif: --bands 9: there is no band 9, it has 3"),
        (["--stretch", "high"], r"--stretch: 'high' is not LOW,HIGH"),
    ],
)
def test_wrong_words_are_one_line(predict, capsys, words, message):
    write_raster("scene.tif", np.zeros((3, 40, 40), np.uint8))
    assert predict("scene.tif", *words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("crisscross: ") and message in line]) == 1


def test_what_is_wrong_with_the_only_raster_is_known_before_the_network_is_loaded(predict, capsys, monkeypatch):
    write_raster("deep.tif", np.zeros((3, 40, 40), np.uint16))
    write_raster("good.tif", np.zeros((3, 40, 40), np.uint8))
    with monkeypatch.context() as patch:
        patch.setattr("crisscross.api.networks.Wanted.load", None)
        assert predict("deep.tif") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("crisscross: deep.tif: holds uint16")
    # Beside others it is one of them.
    assert predict("deep.tif", "good.tif") == 2
    error = capsys.readouterr().err
    assert "deep.tif: holds uint16" in error and "1 of 2 could not be read" in error


def test_polygons_from_python(predict, tmp_path):
    write_raster("scene.tif", planes(image_of(*SHAPE)))
    crisscross.predict("net.safetensors", "scene.tif", "made", big=True, formats=["png", "polygons"])
    assert predict("scene.tif", "--format", "png,polygons") == 0
    assert (tmp_path / "made/polygons/scene.geojson").read_text() == Path("out/polygons/scene.geojson").read_text()


def test_options_are_for_big_rasters(predict, capsys):
    Image.fromarray(image_of(40, 40)).save("image.png")
    assert predict("image.png", "--format", "polygons") == 2
    assert "--format polygons with --big is for GeoTIFF; image.png is none" in capsys.readouterr().err
    assert main(["predict", "net.safetensors", "image.png", "--stretch", "0,9"]) == 2
    assert "--stretch is for --big" in capsys.readouterr().err


def test_a_plain_tiff_is_an_image_and_a_raster_where_it_is_asked_for(predict, tmp_path):
    image = image_of(*SHAPE)
    Image.fromarray(image).save("plain.tif")
    assert predict("plain.tif") == 0
    expected = labels_of("plain.png")
    assert predict("plain.tif", "--bands", "1,2,3") == 0
    assert np.array_equal(labels_of("plain.tif"), expected)
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == ["plain.png", "plain.tif"]


def test_one_band_is_gray(predict):
    gray = image_of(*SHAPE)[..., 0]
    write_raster("gray.tif", gray[None])
    Image.fromarray(gray).save("image.png")
    assert predict("gray.tif", "image.png") == 0
    assert np.array_equal(labels_of("gray.tif"), labels_of("image.png"))


@pytest.mark.parametrize("compress", ["deflate", "lzw"])
def test_a_damaged_tile_is_one_line_and_leaves_nothing(predict, tmp_path, capsys, compress):
    path = write_raster(
        tmp_path / "scene.tif",
        planes(image_of(*SHAPE)),
        tiled=True,
        blockxsize=64,
        blockysize=64,
        compress=compress,
        interleave="pixel",
    )
    write_raster("good.tif", planes(image_of(50, 50)))
    with rasterio.open(path) as dataset:
        # The tile of rows 128 to 149, columns 64 to 127.
        start = int(dataset.get_tag_item("BLOCK_OFFSET_1_2", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[start : start + 400] = b"\xff" * 400
    path.write_bytes(content)
    assert predict("scene.tif", "good.tif", "--block", "64") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("crisscross: scene")]
    assert "scene.tif: rows " in line and "cannot be read: " in line
    assert [entry.name for entry in (tmp_path / "out/labels").iterdir()] == ["good.tif"]


def test_without_rasterio_nothing_is_done(predict, tmp_path, capsys, monkeypatch):
    write_raster("scene.tif", planes(image_of(*SHAPE)))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert predict("scene.tif") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "scene.tif, a GeoTIFF, needs rasterio: run `pip install '.[geo]'`" in line
    assert not (tmp_path / "out").exists()


def test_each_window_is_read_once_and_no_more(tmp_path, monkeypatch):
    path = write_raster(tmp_path / "scene.tif", planes(image_of(300, 500)), tiled=True, blockxsize=64, blockysize=64)
    asked = []
    read = rasterio.DatasetReader.read
    with open_raster(path) as raster:

        class Spy:
            def __getattr__(self, name):
                return getattr(raster_dataset, name)

            def read(self, bands, window, masked):
                asked.append(window)
                return read(raster_dataset, bands, window=window, masked=masked)

        raster_dataset, raster.dataset = raster.dataset, Spy()
        small_segmenter().predict_big(raster, 128, 32)
    parts = blocks(300, 500, 128, 32, False)
    assert asked == [tuple((side.start, side.stop) for side in part.read) for part in parts]
    assert max((bottom - top) * (right - left) for (top, bottom), (left, right) in asked) < 300 * 500 / 4


CODE = """
import resource, sys
from pathlib import Path
import numpy as np
from crisscross.data.rasters.reading import RasterOptions
from crisscross.engine.predict import find_images
from crisscross.engine.semantic.predict import predict_big_files
from crisscross.inference import Card, Predictor

def coarse(x):
    dark = x[:, :1, ::32, ::32] < 0
    return np.concatenate([dark, ~dark], axis=1).astype(np.float32)

predictor = Predictor(coarse, Card(("dark", "bright"), ((0, 0, 0), (255, 255, 255))))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source, out = sys.argv[1], Path(sys.argv[2])
(done,) = predict_big_files(predictor, find_images([source]), out, 1024, 256, options=RasterOptions(polygons=True))
print(done.error, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_raster_larger_than_its_share_of_memory(tmp_path):
    """400 million pixels of three bands, 1.2 GB, mostly without data: in less than 400 MB, GDAL's cache included."""
    path, side = tmp_path / "scene.tif", 20_000
    profile = {"width": side, "height": side, "count": 3, "dtype": "uint8", "nodata": 0, "crs": UTM, "transform": PLACE}
    corner = image_of(600, 600).clip(1, 255)
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "sparse_ok": True}
    with rasterio.open(path, "w", driver="GTiff", **profile, **tiles) as dataset:
        dataset.write(planes(corner), window=Window(side - 600, side - 600, 600, 600))
    words = [sys.executable, "-c", CODE, str(path), str(tmp_path / "out")]
    error, grown = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert error == "None" and int(grown) < 400
    with rasterio.open(tmp_path / "out/labels/scene.tif") as found:
        assert found.shape == (side, side)
        assert set(np.unique(found.read(1, window=Window(side - 600, side - 600, 600, 600)))) == {0, 1}
        assert (found.read(1, window=Window(0, 0, side, 2000)) == 255).all()
    assert json.loads((tmp_path / "out/polygons/scene.geojson").read_text())["features"]
    assert (tmp_path / "out/labels/scene.tif").stat().st_size < 10_000_000
