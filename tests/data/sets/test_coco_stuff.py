"""Maps of COCO-Stuff from COCO's own annotations, checked by hand and against pycocotools on real ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from paths import SHARED
from preparing import files_below, hide_package, refusal
from published_data import save

from crisscross.data import open_dataset
from crisscross.data.files.reading import read_mask, read_pair
from crisscross.data.preparation import prepare
from crisscross.data.sets import coco_stuff
from crisscross.errors import CrissCrossError

REAL = SHARED / "data" / "coco100"

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")

SIZE = (24, 32)


def box(left: int, top: int, right: int, bottom: int) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def runs_of(covered: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: down the columns, starting with the number of zeros."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], covered.ravel(order="F")])))
    return np.diff(np.concatenate([[0], changes, [covered.size]])).tolist()


def write_coco(root: Path) -> Path:
    """One image: stuff in compressed run lengths below polygons, a crowd in plain run lengths and a small polygon."""
    mask = pytest.importorskip("pycocotools.mask")
    height, width = SIZE
    y, x = np.mgrid[:height, :width]

    def packed(covered: np.ndarray) -> dict:
        encoded = mask.encode(np.asfortranarray(covered.astype(np.uint8)))
        return {"size": list(SIZE), "counts": encoded["counts"].decode()}

    stuff = [(157, y < 12), (169, (y >= 12) & (x < 20)), (183, (y >= 12) & (x >= 20))]
    things = [
        (1, [box(4, 4, 12, 20)], 0),
        (3, {"size": list(SIZE), "counts": runs_of((x >= 24) & (y >= 16))}, 1),
        (17, [[1, 1, 2, 2], box(8, 8, 16, 16), box(26, 18, 30, 22)], 0),
    ]
    image = {"id": 7, "file_name": "000000000007.jpg", "height": height, "width": width}
    (root / "annotations").mkdir(parents=True)
    for kind, rows in (
        ("stuff", [(number, packed(covered), 0) for number, covered in stuff]),
        ("instances", things),
    ):
        annotations = [
            {"id": place, "image_id": 7, "category_id": number, "segmentation": segmentation, "iscrowd": crowd}
            for place, (number, segmentation, crowd) in enumerate(rows)
        ]
        content = {"images": [image], "annotations": annotations, "categories": []}
        (root / "annotations" / f"{kind}_val2017.json").write_text(json.dumps(content))
    save(root / "val2017" / "000000000007.jpg", np.zeros((*SIZE, 3), np.uint8))
    return root


def test_things_over_stuff(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    with pytest.raises(CrissCrossError, match=r"stuffthingmaps/val2017: no such folder; .*prepare coco-stuff"):
        open_dataset("auto", root)
    assert prepare("coco-stuff", root).written == 1
    dataset = open_dataset("auto", root)
    _, labels = read_pair(dataset.split("val")[0], dataset)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]

    def number(name: str) -> int:
        return dataset.classes.index(name)

    # Painted by hand, in the order of the files.
    expected = np.where(y < 12, number("sky-other"), np.where(x < 20, number("tree"), 255))
    expected[4:20, 4:12] = number("person")
    expected[16:, 24:] = number("car")
    expected[8:16, 8:16] = number("cat")
    expected[18:22, 26:30] = number("cat")
    assert np.array_equal(labels, expected)
    stored = read_mask(dataset.split("val")[0].mask)
    assert (stored[0, 31], stored[4, 4], stored[23, 31], stored[12, 31]) == (156, 0, 2, 255)


def test_what_can_be_wrong_with_coco(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    instances, stuff = (root / "annotations" / f"{kind}_val2017.json" for kind in ("instances", "stuff"))
    content = json.loads(instances.read_text())
    for change, message in (
        ({"segmentation": {"size": list(SIZE), "counts": "~~~~not runs"}}, "annotation 1: damaged run lengths"),
        ({"segmentation": {"size": [3, 3], "counts": [9]}}, "annotation 1: run lengths of size [3, 3]"),
        ({"segmentation": None}, "annotation 1: segmentation must be polygons or run lengths, got None"),
        ({"segmentation": [[1, 1, 2e9, 1, 9, 9]]}, "annotation 1: a polygon has a corner 2e+09 pixels away"),
        ({"category_id": "1"}, "annotations[1]: category_id must be a whole number, got '1'"),
        ({"category_id": 12}, "annotation 1 has the unknown category 12"),
    ):
        broken = json.loads(json.dumps(content))
        broken["annotations"][1].update(change)
        instances.write_text(json.dumps(broken))
        assert message in refusal("coco-stuff", root)
    instances.write_text("[1, 2")
    assert "instances_val2017.json: not valid JSON (cut off or damaged?)" in refusal("coco-stuff", root)
    instances.unlink()
    assert "instances_val2017.json: no such file; unpack annotations_trainval2017.zip" in refusal("coco-stuff", root)
    stuff.unlink()
    assert "stuff_val2017.json: no such file; unpack stuff_annotations" in refusal("coco-stuff", root)
    assert not (root / coco_stuff.MASKS).exists() or not files_below(root / coco_stuff.MASKS)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_coco(tmp_path)
    hide_package(monkeypatch, "pycocotools")
    assert "needs pycocotools: run `pip install '.[instances]'` in a checkout" in refusal("coco-stuff", root)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real COCO images beside this repository (../shared/data/coco100)")
def test_real_annotations_as_pycocotools_itself_decodes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    (tmp_path / "annotations").mkdir()
    for name in ("val2017", "annotations/stuff_val2017.json", "annotations/instances_val2017.json"):
        (tmp_path / name).symlink_to(REAL / name)
    assert prepare("coco-stuff", tmp_path).written == 100
    dataset = open_dataset("auto", tmp_path)
    stuff, things = (coco.COCO(REAL / "annotations" / f"{kind}_val2017.json") for kind in ("stuff", "instances"))
    crowds = 0
    for pair in dataset.split("val")[::6]:
        expected = np.full(read_mask(pair.mask).shape, 255)
        for layer in (stuff, things):
            for annotation in layer.imgToAnns[int(pair.name)]:
                number = annotation["category_id"]
                expected[layer.annToMask(annotation) == 1] = 255 if number == 183 else number - 1
                crowds += annotation["iscrowd"]
        assert np.array_equal(read_mask(pair.mask), expected)
        name = things.cats[things.imgToAnns[int(pair.name)][-1]["category_id"]]["name"]
        assert dataset.classes.index(name) in read_pair(pair, dataset)[1]
    assert crowds > 0
