"""`crisscross predict`: what it writes in every format, what it says, and which files it takes."""

import csv
import json
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from clip_networks import film
from coarse_networks import image_of, small_segmenter
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

import crisscross
from crisscross.cli import main
from crisscross.cli.predicting.predict_video import parted
from crisscross.engine.predict import find_images
from crisscross.errors import CrissCrossError

pytestmark = pytest.mark.usefixtures("one_thread")
CLASSES = ("floor", "wall", "door")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    crisscross.save(small_segmenter(), path)
    return path


@pytest.fixture
def predict(weights, tmp_path, monkeypatch):
    """The command, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: main(["predict", str(weights), *map(str, words), "--device", "cpu"])


def draw(path: str, height: int = 40, width: int = 60, seed: int = 0) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_of(height, width, seed)).save(path)
    return Path(path)


def files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def table(path: str) -> list[list[str]]:
    return list(csv.reader(Path(path).read_text().splitlines()))


def test_an_image_that_takes_too_much_memory_is_one_line(predict, monkeypatch, capsys):
    monkeypatch.setattr("crisscross.inference.passes.SAFE_BYTES", 0)
    monkeypatch.setattr("crisscross.inference.passes.free_memory", lambda: 200 * 50 * 80)
    draw("in/large.png", 51, 80), draw("in/small.png", 50, 80)
    assert predict("in", "--out", "out") == 2
    assert files("out") == ["classes.json", "color/small.png", "labels/small.png", "overlay/small.png"]
    (line,) = [one for one in capsys.readouterr().err.splitlines() if "80 x 51 pixels at once" in one]
    assert line.startswith("crisscross: in/large.png: ") and "--big" in line


def test_every_format_says_the_same(predict, weights, capsys):
    draw("in/p.png"), draw("in/more/q.png", 33, 50, 1)
    assert predict("in", "--out", "out", "--format", "png,polygons,CSV", "--format", "coco", "--format", "rle") == 0
    kinds = [f"{kind}/{name}" for kind in ("color", "labels", "overlay") for name in ("more/q.png", "p.png")]
    documents = [f"{kind}/{name}" for kind in ("polygons", "rle") for name in ("more/q.json", "p.json")]
    assert files("out") == sorted([*kinds, *documents, "classes.json", "coco.json", "fractions.csv"])
    said = capsys.readouterr().out.splitlines()
    shown = "labels/, color/, overlay/, polygons/, rle/, coco.json, fractions.csv, classes.json"
    assert said[-1] == f"predicted 2 of 2: out ({shown})"
    coco, rows = COCO("out/coco.json"), table("out/fractions.csv")
    network = crisscross.load(weights)
    assert rows[0] == ["image", *CLASSES]
    assert [row["name"] for row in json.loads(Path("out/classes.json").read_text())] == list(CLASSES)
    for place, name in enumerate(("more/q", "p")):
        labels = np.asarray(Image.open(f"out/labels/{name}.png"))
        assert np.array_equal(labels, network.predict(f"in/{name}.png").labels) and len(np.unique(labels)) > 1
        assert rows[1 + place][0] == f"{name}.png"
        counts = np.bincount(labels.ravel(), minlength=3) / labels.size
        assert np.abs(counts - np.array(rows[1 + place][1:], float)).max() < 1e-6
        order = np.argsort(-counts)
        parts = [f"{CLASSES[n]} {counts[n]:.0%}" for n in order if counts[n]]
        assert said[place] == f"in/{name}.png: {', '.join(parts)}"
        (entry,) = (one for one in coco.imgs.values() if one["file_name"] == f"{name}.png")
        assert (entry["height"], entry["width"]) == labels.shape
        masks = json.loads(Path(f"out/rle/{name}.json").read_text())["rle"]
        polygons = json.loads(Path(f"out/polygons/{name}.json").read_text())["polygons"]
        found = np.full((3, *labels.shape), 255)
        for one in coco.imgToAnns[entry["id"]]:
            found[0][coco.annToMask(one) > 0] = one["category_id"] - 1
            assert one["area"] == (labels == one["category_id"] - 1).sum()
            assert coco.cats[one["category_id"]]["name"] == CLASSES[one["category_id"] - 1]
        for one in masks:
            mask = coco.annToMask(
                {"image_id": entry["id"], "segmentation": {key: one[key] for key in ("size", "counts")}}
            )
            found[1][mask > 0] = one["class"]
        for one in polygons:
            assert one["name"] == CLASSES[one["class"]]
            # Sides between pixels: twelve times as large, the middle of every pixel is inside or outside.
            canvas = Image.new("1", (12 * labels.shape[1], 12 * labels.shape[0]))
            for ring, value in [(one["polygon"], 1), *((hole, 0) for hole in one["holes"])]:
                ImageDraw.Draw(canvas).polygon([(12 * x, 12 * y) for x, y in ring], fill=value)
            found[2][np.asarray(canvas)[6::12, 6::12]] = one["class"]
        assert (found == labels).all()


def test_only_what_is_asked_for_is_written(predict, capsys):
    draw("p.png")
    assert predict("p.png", "--out", "out", "--format", "csv") == 0
    assert files("out") == ["classes.json", "fractions.csv"]
    assert predict("p.png", "--out", "png") == 0
    assert files("png") == ["classes.json", "color/p.png", "labels/p.png", "overlay/p.png"]
    (name,) = {line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "%" in line}
    assert name == "p.png"


def test_a_legend_is_below_the_overlay_alone(predict):
    draw("p.png")
    assert predict("p.png", "--out", "plain") == 0 and predict("p.png", "--out", "out", "--legend") == 0
    plain, out = (np.asarray(Image.open(f"{folder}/overlay/p.png")) for folder in ("plain", "out"))
    assert len(out) > len(plain) == 40 and np.array_equal(out[:40, :60], plain)
    assert np.asarray(Image.open("out/labels/p.png")).shape == (40, 60)
    assert np.asarray(Image.open("out/color/p.png")).shape == (40, 60, 3)


def test_an_image_that_cannot_be_read_is_in_no_table(predict, capsys):
    draw("in/p.png")
    Path("in/bad.png").write_bytes(b"no image")
    assert predict("in", "--out", "out", "--format", "csv,coco,rle") == 2
    assert "in/bad.png: not an image" in capsys.readouterr().err
    assert [row[0] for row in table("out/fractions.csv")] == ["image", "p.png"]
    assert len(json.loads(Path("out/coco.json").read_text())["images"]) == 1
    assert predict("in/bad.png", "--out", "none", "--format", "csv") == 2
    assert not Path("none").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "csv", "--legend"], "--legend is drawn into overlays: add png to --format"),
        (["--format", "csv", "--big"], "--format csv does not go together with --big, which writes labels/, and poly"),
        (["--legend", "--big"], "--legend does not go together with --big, which writes labels/, and polygons/ of Geo"),
        (["--view", "color"], "--view is for video files"),
    ],
)
def test_options_that_do_not_go_together(predict, capsys, words, said):
    draw("p.png")
    assert predict("p.png", "--out", "out", *words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not Path("out").exists()


@pytest.mark.parametrize("text", ["jpg", "png,jpg", ",", ""])
def test_an_unknown_format(predict, capsys, text):
    with pytest.raises(SystemExit) as stop:
        predict("p.png", "--format", text)
    assert stop.value.code == 2
    assert "is no format; known: png, polygons, coco, rle, csv" in capsys.readouterr().err


def targets(*paths: str) -> dict[str, str]:
    return {str(source): str(target) for source, target in find_images(paths).items()}


def test_images_of_one_name_keep_their_folders(predict, tmp_path):
    for name in ("a/x.png", "b/x.png", "a/y.png", "b/c/x.png"):
        draw(name)
    assert targets("a/x.png", "b/c/x.png") == {"a/x.png": "a/x", "b/c/x.png": "b/c/x"}
    assert targets("a", "b") == {name: name[:-4] for name in ("a/x.png", "a/y.png", "b/c/x.png", "b/x.png")}
    assert targets("a/y.png", "b/x.png") == {"a/y.png": "y", "b/x.png": "x"}
    assert targets("a", "a/x.png", str(tmp_path / "a/x.png")) == {"a/x.png": "x", "a/y.png": "y"}
    draw("a/x.bmp")
    with pytest.raises(
        CrissCrossError, match=r"^a/x\.bmp and a/x\.png would both be written as x; predict them apart$"
    ):
        targets("a")
    assert predict("a/x.png", "b/x.png", "--out", "out", "--format", "rle") == 0
    assert files("out") == ["classes.json", "rle/a/x.json", "rle/b/x.json"]


def test_masks_of_a_data_set_are_not_mixed_with_outputs(predict, capsys):
    """In a folder of images/ and labels/, `--out` of the same folder would add labels to those of the data set."""
    draw("data/images/p.png"), draw("data/labels/other.png")
    before = files("data")
    for words in (["data", "--out", "data"], ["data/images", "--out", "data"], ["data/images/p.png", "--out", "data"]):
        assert predict(*words) == 2
        assert "data/labels/other.png: is not known to be an output of crisscross" in capsys.readouterr().err
        assert files("data") == before
    assert predict("data/images", "--out", "data", "--force") == 0
    assert Path("data/labels/p.png").exists()


def test_an_output_folder_that_hides_images_of_others(predict, capsys):
    draw("in/p.png"), draw("in/found/q.png")
    assert predict("in", "--out", "in/found") == 2
    assert "in/found/q.png: is not known to be an output" in capsys.readouterr().err
    assert predict("in", "--out", "in/out") == 0 and predict("in", "--out", "in/out") == 0
    assert [name for name in files("in/out") if "labels" in name] == ["labels/found/q.png", "labels/p.png"]


def test_a_folder_of_images_and_videos(predict, capsys):
    draw("in/p.png"), Path("in/more").mkdir()
    film(Path("in/clip.mp4"), range(0, 120, 40)), film(Path("in/more/clip.mkv"), range(0, 120, 40))
    Path("in/program.ts").write_text("let x = 1")
    for _ in range(2):
        assert predict("in", "--out", "in/out", "--legend", "--view", "color") == 0
    assert [name for name in files("in/out") if name.endswith(".mp4")] == ["clip.mp4", "more/clip.mp4"]
    assert "overlay/p.png" in files("in/out")
    Path("in/p.png").unlink()
    shutil.rmtree("in/out")
    assert predict("in", "in/clip.mp4", "--out", "videos") == 0
    assert files("videos") == ["clip.mp4", "more/clip.mp4"]
    capsys.readouterr()
    assert predict("in", "--out", "x", "--format", "csv") == 2
    assert "--format is for images; videos are written as videos" in capsys.readouterr().err


def test_videos_of_one_name_keep_their_folders(predict):
    Path("a").mkdir(), Path("b").mkdir()
    film(Path("a/x.mp4"), range(0, 80, 40)), film(Path("b/x.mp4"), range(0, 80, 40))
    assert predict("a/x.mp4", "b/x.mp4", "--out", "out") == 0
    assert files("out") == ["a/x.mp4", "b/x.mp4"]


def test_videos_are_not_written_where_they_are_searched(predict, capsys):
    draw("in/p.png"), film(Path("in/clip.mkv"), range(0, 80, 40))
    before = files("in")
    assert predict("in", "--out", "in") == 2
    assert "in/clip.mkv: in/clip.mp4 would lie among the inputs; choose another --out" in capsys.readouterr().err
    assert files("in") == before


@pytest.mark.parametrize("why", ["big", "extra"])
def test_videos_in_folders_that_cannot_be_labeled_are_left_out_and_said(predict, capsys, monkeypatch, why):
    draw("in/p.png"), film(Path("in/a.mp4"), range(0, 80, 40)), film(Path("in/b.mp4"), range(0, 80, 40))
    if why == "extra":
        monkeypatch.setitem(sys.modules, "av", None)
    assert predict("in", "--out", "out", *["--big"] * (why == "big")) == 0
    reason = {"big": "--big is for images", "extra": "pip install '.[video]'"}[why]
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "left out" in line)
    assert line.startswith("crisscross: in/a.mp4 and 1 more: left out: ") and reason in line
    assert "labels/p.png" in files("out") and not [name for name in files("out") if name.endswith("mp4")]


def test_videos_in_folders_are_left_out_for_a_task_without_them(predict, capsys):
    draw("in/p.png"), film(Path("in/a.mp4"), range(0, 80, 40))
    arguments = Namespace(paths=["in"], out=Path("out"), view=None, big=False)
    assert parted(arguments, ("drawn",), "is not available for this task") == (["in"], {})
    line = "crisscross: in/a.mp4: left out: video is not available for this task\n"
    assert capsys.readouterr().err == line


def test_masks_of_a_data_set_are_not_labeled(predict, capsys):
    for name in ("set/images/p.png", "set/masks/p.png"):
        draw(name)
    assert predict("set", "--out", "out") == 0
    assert files("out/labels") == ["images/p.png"]
    error = capsys.readouterr().err
    assert error.count("set: left out, since masks lie there: masks/; to label them, name the folder itself") == 1
    assert predict("set/masks", "--out", "masks") == 0
    assert files("masks/labels") == ["p.png"] and "left out" not in capsys.readouterr().err
