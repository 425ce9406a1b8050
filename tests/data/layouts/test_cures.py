"""What messages say to type or to write works as it is printed, from where the user stands."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import odd_layouts
import pytest
import yaml
from folder_layouts import BYTES, CELL, LABELME, READ, SQUARE, THREE, coco, images, pairs, write
from odd_layouts import FROM_1, counted_objects, mixed, two_palettes
from PIL import Image

from crisscross.cli import main
from crisscross.data import open_dataset
from crisscross.data.check.checks import check, quick_check
from crisscross.data.files.reading import read_pair
from crisscross.data.layouts.class_lists import class_list
from crisscross.errors import CrissCrossError, CrissCrossWarning

ROOT = Path("my set")
ZERO_BASED = np.where(FROM_1 == 255, 255, FROM_1 - 1)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def refusal(root: Path = ROOT) -> str:
    """What stands in the way of a training."""
    with pytest.raises(CrissCrossError) as caught:
        quick_check(open_dataset("auto", root), ["train", "val"])
    return str(caught.value)


def labels_of(root: Path = ROOT) -> list[np.ndarray]:
    dataset = open_dataset("auto", root)
    quick_check(dataset, ["train", "val"])
    return [read_pair(pair, dataset)[1] for split in dataset.splits.values() for pair in split]


def typed(text: str) -> None:
    """Run the first command that a message holds."""
    command = re.search("`crisscross ([^`]*)`", text)
    assert command, text
    assert main(shlex.split(command[1])) == 0


RGBA = np.dstack([np.zeros((*SQUARE.shape, 3), np.uint8), BYTES])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (pairs("images/{}.png", "masks/{}.jpg", BYTES), SQUARE),
        (pairs("images/{}.png", "SegmentationClass/day/{}.jpg", BYTES), SQUARE),
        (pairs("images/{}.png", "masks/{}.png", RGBA), SQUARE),
        (odd_layouts.REFUSED["soft edges"][0], None),
        (counted_objects(), None),
        (counted_objects(16), None),
    ],
)
def test_the_command_that_prepares_masks(files: dict[str, Any], expected: np.ndarray | None) -> None:
    write(ROOT, files)
    typed(refusal())
    for labels in labels_of():
        assert set(np.unique(labels)) == {0, 1}
        if expected is not None:
            np.testing.assert_array_equal(labels, expected)


def test_the_command_that_prepares_masks_of_a_described_folder(capsys: pytest.CaptureFixture[str]) -> None:
    write(ROOT, pairs("images/{}.png", "masks/{}.jpg", BYTES) | {"dataset.yaml": "names: [background, cell]\n"})
    typed(refusal())
    said = capsys.readouterr().out
    key = re.search(r"next: write `(masks: [^`]*)` in (.*dataset\.yaml), in place of masks\n", said)
    assert key, said
    with Path(key[2]).open("a") as file:
        file.write(f"{key[1]}\n")
    assert all(np.array_equal(labels, SQUARE) for labels in labels_of())


def test_masks_prepared_for_one_split_after_the_other() -> None:
    files = READ["train/images"][0]
    write(ROOT, {name.replace("masks/", "gt/"): content for name, content in files.items()})
    for mask in ROOT.rglob("gt/*.png"):
        Image.open(mask).save(mask.with_suffix(".jpg"))
        mask.unlink()
    typed(refusal())
    typed(refusal())
    assert all(np.array_equal(labels, SQUARE) for labels in labels_of())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (pairs("images/{}.png", "masks/{}.png", FROM_1) | {"classes.txt": "a\nb\nc\n"}, ZERO_BASED),
        (pairs("photos/{}.png", "gt/{}_gt.png", THREE + 1) | {"classes.txt": "a\nb\nc\n"}, THREE),
        (pairs("images/{}.png", "masks/{}.png", THREE) | {"classes.txt": "a\nb\n"}, THREE),
        (pairs("images/{}.png", "masks/{}.png", THREE * 7) | {"names.txt": "a\nb\nc\n"}, THREE),
    ],
)
def test_the_line_that_makes_a_description(files: dict[str, Any], expected: np.ndarray) -> None:
    write(ROOT, files)
    made = re.search(r"create (.*dataset\.yaml) with the line: (\{.*\})$", refusal())
    assert made
    Path(made[1]).write_text(f"{made[2]}\n")
    for labels in labels_of():
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("files", "key", "expected"),
    [
        (mixed() | {"dataset.yaml": "names: [background, cell]\n"}, "labels", SQUARE),
        (pairs("images/{}.png", "masks/{}.png", FROM_1) | {"dataset.yaml": "names: [a, b, c]\n"}, "labels", ZERO_BASED),
        (pairs("images/{}.png", "masks/{}.png", SQUARE) | {"classes.txt": "a\nb\nc\n"}, "allow_empty", SQUARE),
    ],
)
def test_the_key_to_write(files: dict[str, Any], key: str, expected: np.ndarray) -> None:
    write(ROOT, files)
    text = refusal()
    if not (ROOT / "dataset.yaml").exists():
        typed(text)
    found = re.search(rf"write `({key}: [^`]*)` in (my set/dataset\.yaml)", text)
    assert found, text
    with Path(found[2]).open("a") as file:
        file.write(f"{found[1]}\n")
    for labels in labels_of():
        np.testing.assert_array_equal(labels, expected)


def test_palettes_that_differ_are_an_error_where_numbers_would_be_read() -> None:
    write(ROOT, two_palettes() | {"dataset.yaml": "names: [a, b, c]\n"})
    text = refusal()
    assert "palettes differ from file to file (1 is [255, 0, 0] in 0.png, [0, 255, 0] in " in text
    assert "write `palette: {NAME: [red, green, blue], ...}` in my set/dataset.yaml" in text
    (problem,) = [one for one in check(open_dataset("auto", ROOT)).problems if "palettes" in one.text]
    assert problem.severity == "error"
    (ROOT / "dataset.yaml").write_text("names: [a, b, c]\nlabels: {0: 0, 1: 1, 2: 2}\n")
    quick_check(open_dataset("auto", ROOT), ["train", "val"])


def test_values_that_labels_lack() -> None:
    write(ROOT, mixed() | {"dataset.yaml": "names: [background, cell]\nlabels: {0: 0, 255: 1}\n"})
    assert "write `labels: {..., 1: NAME or ignore}` in my set/dataset.yaml" in refusal()


def stale_warnings() -> list[str]:
    found = [problem.text for problem in check(open_dataset("auto", ROOT)).problems if "were drawn" in problem.text]
    if found:
        with pytest.warns(CrissCrossWarning, match="were drawn"):
            quick_check(open_dataset("auto", ROOT), ["train"])
    return found


def draw_labelme(numbers: range = range(6)) -> None:
    files = images("{}.jpg", numbers) | {f"{n}.json": LABELME | {"imagePath": f"{n}.jpg"} for n in numbers}
    write(ROOT, files)


def test_masks_that_were_drawn_before_the_annotations_changed() -> None:
    draw_labelme()
    assert main(["data", "init", str(ROOT)]) == 0
    assert stale_warnings() == []
    os.utime(ROOT / "2.json", (1e9, 1e9))
    write(ROOT, {"notes.txt": "mine"})
    assert stale_warnings() == [], "the same content, and a text of someone's own"
    tree = json.loads((ROOT / "2.json").read_text())
    (ROOT / "2.json").write_text(json.dumps(tree | {"shapes": []}))
    (text,) = stale_warnings()
    assert text.startswith("2.json changed since the masks in crisscross-masks/ were drawn: `crisscross data init")
    typed(text)
    assert stale_warnings() == []
    draw_labelme(range(6, 7))
    assert stale_warnings()[0].startswith("6.json changed since")
    (ROOT / "6.json").unlink()
    (ROOT / "0.json").unlink()
    assert stale_warnings()[0].startswith("0.json changed since")


def test_a_copy_of_a_folder_with_drawn_masks_is_fresh() -> None:
    draw_labelme()
    assert main(["data", "init", str(ROOT)]) == 0
    shutil.copytree(ROOT, "other", copy_function=shutil.copyfile)
    assert [one for one in check(open_dataset("auto", "other")).problems if "were drawn" in one.text] == []


def test_masks_put_together_from_binary_masks_that_changed() -> None:
    write(ROOT, READ["a mask for each class"][0])
    assert main(["data", "init", str(ROOT)]) == 0
    assert stale_warnings() == []
    write(ROOT, {"masks/cell/0.png": BYTES * 0})
    assert stale_warnings()[0].startswith("masks/cell/0.png changed since")


def description() -> dict[str, Any]:
    found = yaml.safe_load((ROOT / "dataset.yaml").read_text())
    assert isinstance(found, dict)
    return found


def test_init_allows_no_class_to_be_empty_that_a_person_listed(capsys: pytest.CaptureFixture[str]) -> None:
    write(ROOT, pairs("images/{}.png", "masks/{}.png", SQUARE) | {"classes.txt": "a\nb\nc\n"})
    assert main(["data", "init", str(ROOT)]) == 0
    assert "allow_empty" not in description()
    assert "no pixel of class 2 (c) in 'train', so that training will refuse to start: mend classes.txt" in (
        capsys.readouterr().out
    )
    assert "no pixel of class 2 (c)" in refusal()


def test_init_says_why_it_allows_a_class_to_be_empty(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    tree = coco([f"{n}.jpg" for n in range(6)])
    tree["categories"].append({"id": 9, "name": "wall"})
    write(ROOT, images("images/{}.jpg") | {"annotations/instances.json": tree})
    with pytest.warns(
        CrissCrossWarning, match=r"no pixel of class 2 \(wall\) in 'train', so that it cannot be learned"
    ):
        quick_check(open_dataset("auto", ROOT), ["train", "val"])
    assert main(["data", "init", str(ROOT)]) == 0
    assert description()["allow_empty"] is True
    assert "class 2 (wall) in 'train', and nothing says that each must occur: `allow_empty: true`" in (
        capsys.readouterr().out
    )


def test_init_of_a_data_set_that_is_known_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    write(ROOT, {f"train/{n}.png": THREE for n in range(2)} | {f"trainannot/{n}.png": THREE for n in range(2)})
    assert main(["data", "init", str(ROOT)]) == 0
    assert "my set: camvid, which is read as it is, without dataset.yaml" in capsys.readouterr().out
    assert not (ROOT / "dataset.yaml").exists()


def test_the_folder_of_images_alone() -> None:
    write(ROOT, pairs("images/{}.png", "masks/{}.png", THREE))
    with pytest.raises(CrissCrossError, match="give the folder above it, which also holds masks/"):
        open_dataset("auto", ROOT / "images")


@pytest.mark.parametrize("text", ["0 a\n0 b\n", "300 a\n301 b\n"])
def test_numbers_of_classes_that_cannot_be(text: str) -> None:
    write(ROOT, {"classes.txt": text})
    with pytest.raises(CrissCrossError, match=r"classes\.txt: numbers of classes must differ and be 0\.\.255"):
        class_list(ROOT)


def test_a_class_of_one_name() -> None:
    write(ROOT, mixed() | {"classes.txt": "cell\n"})
    assert open_dataset("auto", ROOT).classes == CELL
