"""`crisscross data init`, `data prepare masks` and `data check --report`, as a person calls them."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crisscross.cli import data as command
from crisscross.data import open_folder
from crisscross.data.files.reading import read_mask, read_pair
from crisscross.data.files.rounding import nearest_class, parse_values
from crisscross.errors import CrissCrossError

HEIGHT, WIDTH = 20, 30


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = parser.parse_args([str(word) for word in words])
    return arguments.run(arguments)


def square(value: int = 1) -> np.ndarray:
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    found[5:15, 8:22] = value
    return found


def photo(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(10):
        Image.fromarray(photo(number)).save(root / "images" / f"p{number}.png")
        Image.fromarray(square(255)).save(root / "masks" / f"p{number}.png")
    return root


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_init_writes_what_opening_assumed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, recognized = files(root), open_folder(root)
    assert run("init", root, "--dry-run") == 0
    assert files(root) == before
    shown = capsys.readouterr().out
    assert "masks hold 0 and 255: read as background and foreground\n" in shown
    assert "labels: {0: 0, 255: 1}\n" in shown
    assert run("init", root) == 0
    assert f"wrote dataset.yaml, train.txt, val.txt into {root}\n" in capsys.readouterr().out
    assert (root / "dataset.yaml").read_text().splitlines()[1:] == shown.splitlines()[-4:]
    described = open_folder(root)
    assert described.note == ""
    assert (described.splits, described.labels) == (recognized.splits, recognized.labels)


def test_init_replaces_nothing_of_others_unasked(root: Path) -> None:
    (root / "dataset.yaml").write_text("names: [mine, too]\n")
    before = files(root)
    with pytest.raises(CrissCrossError, match=r"dataset\.yaml is there already; --force replaces it"):
        run("init", root)
    assert files(root) == before
    assert run("init", root, "--force") == 0
    assert "names: [background, foreground]" in (root / "dataset.yaml").read_text()


def labelme(root: Path, left: int = 4) -> Path:
    root.mkdir(exist_ok=True)
    for number in range(6):
        Image.fromarray(photo(number)).save(root / f"p{number}.png")
        points = [[left, 3], [20, 3], [20, 12], [left, 12]]
        shapes = [{"label": "cell", "points": points, "shape_type": "polygon"}]
        (root / f"p{number}.json").write_text(json.dumps({"shapes": shapes, "imagePath": f"p{number}.png"}))
    return root


def test_drawn_masks_follow_the_annotations(tmp_path: Path, cache: Path) -> None:
    root = labelme(tmp_path / "set")
    before = open_folder(root)
    assert before.splits["train"][0].mask.is_relative_to(cache)
    assert read_pair(before.splits["train"][0], before)[1].sum() == 10 * 17
    assert open_folder(root) == before
    labelme(root, left=10)
    after = open_folder(root)
    assert read_pair(after.splits["train"][0], after)[1].sum() == 10 * 11


def test_an_opened_folder_is_not_recognized_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = labelme(tmp_path / "set")
    before = open_folder(root)
    monkeypatch.setattr("crisscross.data.sets.folder.recognize", lambda root: pytest.fail("recognized again"))
    assert open_folder(root) == before


def test_init_draws_into_the_folder_and_again_with_force(tmp_path: Path) -> None:
    root = labelme(tmp_path / "set")
    assert run("init", root) == 0
    assert read_mask(root / "crisscross-masks" / "p0.png").sum() == 10 * 17
    assert run("check", root) == 0
    labelme(root, left=10)
    assert run("init", root, "--force") == 0
    assert read_mask(root / "crisscross-masks" / "p0.png").sum() == 10 * 11
    # What was drawn is not taken for masks of the data set.
    (root / "dataset.yaml").unlink()
    assert open_folder(root).note.startswith("read as LabelMe")


def test_images_without_annotation_are_told(tmp_path: Path) -> None:
    root = labelme(tmp_path / "set")
    (root / "p5.json").unlink()
    assert "1 images have no annotation and are left out" in open_folder(root).note


def test_an_image_outside_the_folder_is_one_line(tmp_path: Path) -> None:
    root = labelme(tmp_path / "set")
    Image.fromarray(photo(0)).save(tmp_path / "elsewhere.png")
    (root / "p0.json").write_text(json.dumps({"shapes": [], "imagePath": "..\\elsewhere.png"}))
    with pytest.raises(CrissCrossError, match=r"p0\.json: its image .*elsewhere\.png lies outside"):
        open_folder(root)


def test_a_run_folder_is_no_data_set(root: Path) -> None:
    (root / "experiment.yaml").write_text("{}")
    with pytest.raises(CrissCrossError, match="the folder of a training run, not of a data set"):
        open_folder(root)


def test_a_run_inside_and_a_macs_litter_do_not_count(root: Path) -> None:
    before = open_folder(root)
    for folder in ("runs/one/masks", "__MACOSX/masks", ".hidden/masks"):
        (root / folder).mkdir(parents=True)
        Image.fromarray(square()).save(root / folder / "p0.png")
    (root / "runs" / "one" / "experiment.yaml").write_text("{}")
    assert open_folder(root) == before


def test_masks_are_rounded_to_the_nearest_class(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((root / "masks").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"), quality=60)
        path.unlink()
    with pytest.raises(CrissCrossError, match="prepare masks"):
        open_folder(root)
    out = root / "masks-png"
    assert run("prepare", "masks", root / "masks", "--classes-at", "0,255", "--out", out) == 0
    assert "10 masks written" in capsys.readouterr().out
    assert len(list((root / "masks").iterdir())) == len(list(out.iterdir())) == 10
    assert np.array_equal(read_mask(out / "p3.png"), square())
    (root / "dataset.yaml").write_text("names: [background, foreground]\nmasks: masks-png\n")
    assert run("check", root) == 0
    # The same again is fine; a file of somebody else is not replaced.
    assert run("prepare", "masks", root / "masks", "--classes-at", "0,255", "--out", out) == 0
    Image.fromarray(square(9)).save(out / "p3.png")
    with pytest.raises(CrissCrossError, match="no record that crisscross wrote it"):
        run("prepare", "masks", root / "masks", "--classes-at", "0,255", "--out", out)


def test_the_folder_of_images_is_left_alone(root: Path, tmp_path: Path) -> None:
    assert run("prepare", "masks", root, "--classes-at", "0,255", "--out", tmp_path / "new") == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["masks"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["masks", ".", "--out", "x"], "needs --classes-at VALUES"),
        (["masks", ".", "--classes-at", "0,255"], "--out DIR"),
        (["masks", ".", "--classes-at", "0,0", "--out", "x"], "2 to 255 values that differ"),
        (["masks", ".", "--classes-at", "7", "--out", "x"], "2 to 255 values that differ"),
        (["masks", ".", "--classes-at", "a,b", "--out", "x"], "give gray values such as 0,255"),
        (["masks", ".", "--classes-at", "0,#ffffff", "--out", "x"], "give gray values such as 0,255"),
        (["masks", ".", "--classes-at", "0,99999", "--out", "x"], "give gray values such as 0,255"),
        (["masks", "nowhere", "--classes-at", "0,1", "--out", "x"], "nowhere: no such folder"),
        (["masks", ".", "--classes-at", "0,1", "--out", "."], "--out must be another folder"),
        (["masks", ".", "--classes-at", "0,1", "--out", "x"], "no masks in it"),
        (["camvid", ".", "--classes-at", "0,1"], "--classes-at is for `prepare masks`"),
    ],
)
def test_senseless_orders_are_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(CrissCrossError) as caught:
        run("prepare", *words)
    assert message in str(caught.value)
    assert list((tmp_path / "empty").iterdir()) == []


def test_nearest_classes() -> None:
    assert nearest_class(np.array([[0, 127, 128, 250]], np.uint8), parse_values("0,255")).tolist() == [[0, 0, 1, 1]]
    deep = np.array([[3, 60000]], np.uint16)
    assert nearest_class(deep, parse_values("0, 65535")).tolist() == [[0, 1]]
    colors = np.array([[[250, 9, 3], [2, 1, 99]]], np.uint8)
    assert nearest_class(colors, parse_values("#0000ff,#FF0000,#000000")).tolist() == [[1, 2]]


def test_the_page_of_a_check(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "dataset.yaml").write_text("names: ['<b>ack', front]\nlabels: {0: 0, 255: 1}\n")
    Image.fromarray(square(7)).save(root / "masks" / "p4.png")
    (root / "masks" / "p5.png").unlink()
    assert run("check", root, "--report", tmp_path / "page") == 2
    assert capsys.readouterr().out.splitlines()[-1] == f"images with their masks: {tmp_path / 'page' / 'index.html'}"
    page = (tmp_path / "page" / "index.html").read_text()
    # Images of the sheet, and those of the two problems.
    assert page.count("<img ") == 10 + 2
    assert "error: label 7 at 140 pixels" in page
    assert "&lt;b&gt;ack" in page
    assert "<b>ack" not in page
    assert "http" not in page
    (tmp_path / "page" / "index.html").write_text("mine")
    with pytest.raises(CrissCrossError, match=r"index\.html: exists"):
        run("check", root, "--report", tmp_path / "page")
