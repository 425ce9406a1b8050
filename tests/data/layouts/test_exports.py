"""Exports of labeling tools: masks with a file about them, and Label Studio's regions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crisscross.data import open_dataset
from crisscross.data.files.reading import read_pair
from crisscross.data.layouts.formats.label_studio import brush_mask
from crisscross.errors import CrissCrossError

H, W = 12, 16
PHOTO = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
THREE = np.zeros((H, W), np.uint8)
THREE[3:9, 4:12] = 1
THREE[:2, :2] = 2
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 90, 255]], np.uint8)
NAMES = ("background", "road", "car")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(root: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def pairs(image: str, mask: str, content: np.ndarray, numbers: range = range(6)) -> dict[str, np.ndarray]:
    return {name.format(n): what for n in numbers for name, what in ((image, PHOTO), (mask, content))}


LABEL_COLORS = "0 0 0 background\n255 0 0 road\n0 90 255 car\n"
CITYSCAPES = "imgsFine/leftImg8bit/{0}/{{}}_leftImg8bit.png", "gtFine/{0}/{{}}_gtFine_labelIds.png"
V7 = "class_name,class_color\n__background__,{}\nroad,{}\ncar,{}\n"
NNUNET = {"labels": {"background": 0, "road": 1, "car": 2}, "channel_names": {"0": "R"}, "file_ending": ".png"}
METADATA = "".join(json.dumps({"file_name": f"a{n}.png", "mask_file_name": f"m/b{n}.png"}) + "\n" for n in range(6))

READ: dict[str, tuple[dict[str, Any], tuple[str, ...], dict[str, int]]] = {
    "CVAT Cityscapes": (
        pairs(*(part.format("default") for part in CITYSCAPES), THREE) | {"label_colors.txt": LABEL_COLORS},
        NAMES,
        {"train": 4, "val": 2},
    ),
    "CVAT Cityscapes, two subsets, with drawings": (
        pairs(*(part.format("Train") for part in CITYSCAPES), THREE, range(4))
        | pairs(*(part.format("Validation") for part in CITYSCAPES), THREE, range(4, 6))
        | {f"gtFine/Train/{n}_gtFine_color.png": COLORS[THREE] for n in range(4)}
        | {"label_colors.txt": LABEL_COLORS},
        NAMES,
        {"train": 4, "val": 2},
    ),
    "V7, numbers": (
        pairs("images/{}.png", "masks/{}.png", THREE) | {"class_mapping.csv": V7.format(0, 1, 2)},
        NAMES,
        {"train": 4, "val": 2},
    ),
    "V7, grays": (
        pairs("images/{}.png", "masks/{}.png", THREE * np.uint8(127)) | {"class_mapping.csv": V7.format(0, 127, 254)},
        NAMES,
        {"train": 4, "val": 2},
    ),
    "V7, colors": (
        pairs("images/{}.png", "masks/{}.png", COLORS[THREE])
        | {"masks/class_mapping.csv": V7.format("0 0 0", "255 0 0", "0 90 255")},
        NAMES,
        {"train": 4, "val": 2},
    ),
    "nnU-Net": (
        pairs("imagesTr/{}_0000.png", "labelsTr/{}.png", THREE) | {"dataset.json": NNUNET},
        NAMES,
        {"train": 4, "val": 2},
    ),
    "nnU-Net, numbers to names": (
        pairs("imagesTr/{}_0000.png", "labelsTr/{}.png", THREE)
        | {"dataset.json": {"labels": {"0": "background", "1": "road", "2": "car"}}},
        NAMES,
        {"train": 4, "val": 2},
    ),
    "imagefolder, jsonl": (
        pairs("a{}.png", "m/b{}.png", THREE) | {"metadata.jsonl": METADATA},
        ("class 0", "class 1", "class 2"),
        {"train": 4, "val": 2},
    ),
    "imagefolder, csv, colors, splits": (
        pairs("train/a{}.png", "train/b{}.png", COLORS[THREE], range(4))
        | pairs("validation/a{}.png", "validation/b{}.png", COLORS[THREE], range(4, 6))
        | {
            f"{split}/metadata.csv": "file_name,label_file_name\n" + "".join(f"a{n}.png,b{n}.png\n" for n in numbers)
            for split, numbers in (("train", range(4)), ("validation", range(4, 6)))
        },
        ("#000000", "#005aff", "#ff0000"),
        {"train": 4, "val": 2},
    ),
}


@pytest.mark.parametrize("name", READ)
def test_an_export_is_read_as_it_is_meant(name: str, tmp_path: Path) -> None:
    files, classes, splits = READ[name]
    dataset = open_dataset("auto", write(tmp_path / "data", files))
    assert dataset.classes == classes
    assert {split: len(found) for split, found in dataset.splits.items()} == splits
    # Colors are ordered by their numbers.
    expected = np.array([0, 2, 1], np.uint8)[THREE] if "#ff0000" in classes else THREE
    for found in dataset.splits.values():
        for pair in found:
            np.testing.assert_array_equal(read_pair(pair, dataset)[1], expected, err_msg=str(pair.mask))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"imagesTr/a_0000.nii.gz": "x", "labelsTr/a.nii.gz": "x", "dataset.json": NNUNET}, "no PNG or TIFF images"),
        (
            pairs("imagesTr/{}_0001.png", "labelsTr/{}.png", THREE) | {"dataset.json": NNUNET},
            "only images of one file are read",
        ),
        (
            pairs("imagesTr/{}_0000.png", "labelsTr/{}.png", THREE) | {"dataset.json": {"labels": {"a": [0, 1]}}},
            "regions are not read",
        ),
        ({"a0.png": PHOTO, "metadata.jsonl": METADATA}, "is not there"),
        ({"a0.png": PHOTO, "metadata.jsonl": '{"file_name": "a0.png", "mask_file_name": "../x.png"}'}, "does not name"),
        ({"a0.png": PHOTO, "metadata.jsonl": "[1]"}, "line 1: must be an object"),
        ({"a0.png": PHOTO, "metadata.jsonl": "{"}, "not valid JSON"),
        (pairs("images/{}.png", "masks/{}.png", THREE) | {"class_mapping.csv": "a,b\nroad,x\n"}, "must hold lines"),
        (
            pairs(*(part.format("default") for part in CITYSCAPES), THREE) | {"label_colors.txt": "0 0 0\n"},
            "red green blue name",
        ),
    ],
)
def test_a_damaged_export_is_one_line(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CrissCrossError) as caught:
        open_dataset("auto", write(tmp_path / "data", files))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def brush(mask: np.ndarray) -> list[int]:
    """Label Studio's code of a stroke: one block that is repeated for the empty rows before it, one listed block."""
    values = np.zeros((*mask.shape, 4), np.uint8)
    values[mask] = (9, 9, 9, 255)
    flat = values.ravel()
    start = int(np.flatnonzero(flat)[0])
    bits = f"{flat.size:032b}{7:05b}{9:04b}{9:04b}{9:04b}{9:04b}"
    bits += f"1{0:02b}{start - 1:010b}{0:08b}"
    bits += f"0{3:02b}{flat.size - start - 1:010b}" + "".join(f"{value:08b}" for value in flat[start:])
    bits += "0" * (-len(bits) % 8)
    return [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]


def task(number: int, *regions: dict[str, Any]) -> dict[str, Any]:
    common = {"original_width": W, "original_height": H, "image_rotation": 0}
    image = f"/data/upload/7/0a1b2c3d-p{number}.png"
    return {"id": number, "data": {"image": image}, "annotations": [{"result": [common | one for one in regions]}]}


ROAD = {
    "type": "rectanglelabels",
    "value": {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["road"]},
}
POLYGON = [[x / W * 100, y / H * 100] for x, y in ((4.5, 3.5), (11.5, 3.5), (11.5, 8.5), (4.5, 8.5))]


def test_label_studio(tmp_path: Path) -> None:
    corner = THREE == 2
    regions = (
        ROAD,
        {"type": "brushlabels", "value": {"format": "rle", "rle": brush(corner), "brushlabels": ["car"]}},
    )
    polygon = {"type": "polygonlabels", "value": {"points": POLYGON, "polygonlabels": ["road"]}}
    tasks = [task(0, polygon, regions[1]), *(task(n, *regions) for n in range(1, 6))]
    files = {f"p{n}.png": PHOTO for n in range(6)} | {"export.json": tasks}
    dataset = open_dataset("auto", write(tmp_path / "data", files))
    assert dataset.classes == ("background", "car", "road")
    for pair in (*dataset.splits["train"], *dataset.splits["val"]):
        np.testing.assert_array_equal(read_pair(pair, dataset)[1], np.array([0, 2, 1])[THREE], err_msg=pair.name)


def test_damaged_brush_strokes_are_refused(tmp_path: Path) -> None:
    code = brush(THREE == 2)
    assert np.array_equal(brush_mask(code, H, W), THREE == 2)
    for damaged in (code[:-20], code[:3], []):
        with pytest.raises(ValueError, match="cut off"):
            brush_mask(damaged, H, W)
    with pytest.raises(ValueError, match="768 values for 16 x 13 pixels"):
        brush_mask(code, H + 1, W)
    stroke = {"type": "brushlabels", "value": {"rle": code[:9], "brushlabels": ["car"]}}
    root = write(tmp_path / "data", {"p0.png": PHOTO, "export.json": [task(0, stroke)]})
    with pytest.raises(CrissCrossError, match=r"export\.json: a region of p0\.png that cannot be drawn"):
        open_dataset("auto", root)
    (root / "p0.png").rename(root / "q.png")
    with pytest.raises(CrissCrossError, match=r"p0\.png.* is not here; export with images"):
        open_dataset("auto", root)
