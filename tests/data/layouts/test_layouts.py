"""Folders as people have them: each is read as it is meant, or one line says what to do."""

from pathlib import Path
from typing import Any

import numpy as np
import odd_layouts
import pytest
from folder_layouts import BYTES, COLORS, PHOTO, READ, SQUARE, THREE, H, W, coco, images, pairs, write

from crisscross.data import open_dataset
from crisscross.data.files.reading import read_pair
from crisscross.errors import CrissCrossError

REFUSED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no masks": (images("images/{}.jpg"), ("no images with masks found: 6 images", "masks/")),
    "empty": ({"notes.txt": "nothing"}, ("no images with masks found",)),
    "masks without images": (
        pairs("images/{}.png", "masks/x{}.png", THREE),
        ("no mask in masks/", "train.txt", "`images/0.png masks/x0.png`"),
    ),
    "two folders of masks": (
        pairs("images/{}.png", "masks/{}.png", THREE) | {f"labels/{n}.png": THREE for n in range(6)},
        ("masks lie in", "labels", "choose one: create ", "{names: [background, NAME], masks: labels}"),
    ),
    "jpg masks": (
        pairs("images/{}.png", "masks/{}.jpg", BYTES),
        ("compressed with loss", "values where few are meant", "--classes-at 0,255"),
    ),
    "soft colors": (
        pairs(
            "images/{}.png",
            "masks/{}.png",
            np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8),
        ),
        ("colors, more than classes could have", "anti-aliasing"),
    ),
    "counted from 1": (
        pairs("images/{}.png", "masks/{}.png", THREE + 1) | {"classes.txt": "a\nb\nc\n"},
        ("count 3 classes from 1", "labels: {1: 0, 2: 1, 3: 2}"),
    ),
    "unnamed background": (
        pairs("images/{}.png", "masks/{}.png", THREE) | {"classes.txt": "a\nb\n"},
        ("masks hold 0..2, classes.txt names 2", "{names: [a, b], background: background}"),
    ),
    "names without their colors": (
        pairs("images/{}.png", "masks/{}.png", COLORS[THREE]) | {"classes.txt": "background\ncar\nroad\n"},
        ("masks hold 3 colors", "`name r g b` into classes.txt"),
    ),
    "COCO with boxes alone": (
        images("images/{}.jpg")
        | {"annotations/instances_default.json": coco([f"{n}.jpg" for n in range(6)], segmentation=[])},
        ("6 objects are boxes without masks",),
    ),
    "a color of no class": (
        pairs("images/{}.png", "masks/{}.png", COLORS[THREE])
        | {"labelmap.txt": "background:0,0,0::\nroad:128,64,128::\nbus:0,60,100::\n"},
        ("none of the 3 classes", "[0, 0, 142]", "nearest is bus"),
    ),
    "boxes": (
        pairs("images/{}.jpg", "labels/{}.txt", "0 0.5 0.5 0.2 0.2") | {"classes.txt": "cell\n"},  # type: ignore[arg-type]
        ("line 1", "a box, not a polygon"),
    ),
    "pixels for fractions": (
        pairs("images/{}.jpg", "labels/{}.txt", "0 4 3 11 3 11 8") | {"classes.txt": "cell\n"},  # type: ignore[arg-type]
        ("line 1", "fractions of the image"),
    ),
    "a list with a name of no image": (
        pairs("images/{}.png", "masks/{}.png", THREE) | {"train.txt": "0\nzero\n"},
        ("train.txt, line 2", "no image named 'zero'"),
    ),
}


REFUSED |= odd_layouts.REFUSED
ROWS = READ | odd_layouts.READ


@pytest.mark.parametrize("name", ROWS)
def test_a_folder_is_read_as_it_is_meant(name: str, tmp_path: Path) -> None:
    files, classes, splits, labels = ROWS[name]
    if name.startswith("COCO"):
        pytest.importorskip("pycocotools")
    dataset = open_dataset("auto", write(tmp_path / "data", files))
    assert dataset.classes == classes
    assert {split: len(found) for split, found in dataset.splits.items()} == splits
    for found in dataset.splits.values():
        for pair in found:
            image, mask = read_pair(pair, dataset)
            assert image.shape == (H, W, 3)
            np.testing.assert_array_equal(mask, labels, err_msg=str(pair.mask))


def test_images_of_one_name_in_two_splits_of_coco(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    files = READ["COCO with one name in both splits"][0]
    root = write(tmp_path / "data", files)
    dataset = open_dataset("auto", root)
    for split, found in dataset.splits.items():
        assert {pair.image.parent for pair in found} == {root / "images" / split}


def test_masks_of_classes_whose_names_begin_alike(tmp_path: Path) -> None:
    nothing = BYTES * 0
    files = {"images/a.png": PHOTO, "images/a.b.png": PHOTO}
    files |= {"masks/cell/a.png": BYTES, "masks/cell/a.b.png": nothing, "masks/wall/a.b.png": BYTES}
    dataset = open_dataset("auto", write(tmp_path / "data", files))
    found = {pair.name: read_pair(pair, dataset)[1] for split in dataset.splits.values() for pair in split}
    np.testing.assert_array_equal(found["a"], SQUARE)
    np.testing.assert_array_equal(found["a.b"], SQUARE * 2)


@pytest.mark.parametrize("name", REFUSED)
def test_one_line_says_what_to_do(name: str, tmp_path: Path) -> None:
    files, words = REFUSED[name]
    if "COCO" in name or name == "panoptic":
        pytest.importorskip("pycocotools")
    with pytest.raises(CrissCrossError) as error:
        _read_first(write(tmp_path / "data", files))
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), str(error.value)


def _read_first(root: Path) -> None:
    dataset = open_dataset("auto", root)
    read_pair(dataset.splits["train"][0], dataset)
