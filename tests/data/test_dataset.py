"""What a `DataSet` refuses: values that training, a cache or saved predictions would stumble over."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crisscross.data import DataSet, Pair
from crisscross.data.check.checks import check, quick_check
from crisscross.data.files.cache import open_cache
from crisscross.errors import CrissCrossError, CrissCrossWarning

ROOT = Path("somewhere")


def data_set(**values: Any) -> DataSet:
    given = {"classes": ("a", "b", "c"), "palette": ((0, 0, 0), (1, 2, 3), (255, 255, 255)), "splits": {}}
    return DataSet("mine", ROOT, **(given | values))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ignore": 3, "void": (4, 255)},
        {"labels": {0: 255, 7: 0, 9: 1, 255: 2}},
        {"labels": {np.uint8(7): np.int64(0)}, "ignore": np.uint8(255)},
        {"flip_pairs": ((0, 2),)},
        # A class that counts nowhere, as CamVid's Void.
        {"void": (2,)},
        {"classes": ("die Stra\u00dfe", "\u7a7a", "c d")},
    ],
)
def test_what_is_right_is_taken(values: dict[str, Any]) -> None:
    data_set(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"labels": {1: 1, 2: 2, 3: 3}},
            r"labels reads 3 as 3, but classes are 0\.\.2 \(ignore 255\); count them from 0",
        ),
        ({"labels": {0: -1}}, "labels reads 0 as -1"),
        ({"labels": {0: 1.5}}, r"labels reads 0 as 1\.5"),
        ({"labels": {256: 0}}, r"labels must be whole numbers 0\.\.255, got 256"),
        ({"labels": {"0": 0}}, r"labels must be whole numbers 0\.\.255, got '0'"),
        ({"void": (300,)}, r"void must be whole numbers 0\.\.255, got 300"),
        ({"ignore": -1}, r"ignore must be whole numbers 0\.\.255, got -1"),
        ({"ignore": 2}, r"ignore is 2, a class \(0\.\.2\); list classes to ignore in void"),
        ({"ignore": True}, r"ignore must be whole numbers 0\.\.255, got True"),
        ({"palette": ((0, 0, 0),) * 2}, "palette must hold one .* for each of 3 classes"),
        ({"palette": ((0, 0, 0), (0, 0, 0), (0, 0, 256))}, "palette must hold one"),
        ({"palette": ((0, 0, 0), (0, 0, 0), (0, 0, 0, 0))}, "palette must hold one"),
        ({"palette": (0, 0, 0)}, "palette must hold one"),
        ({"flip_pairs": ((0, 3),)}, r"flip_pairs must be pairs of classes 0\.\.2"),
        ({"flip_pairs": ((0, 1), (1, 2))}, "flip_pairs must be .*no class in two"),
        ({"flip_pairs": ((0, 1, 2),)}, "flip_pairs must be pairs"),
        ({"classes": ("a", "b", "a")}, "`classes` names 'a' twice"),
        ({"classes": ("a", "b", 3)}, "`classes` must be names, got 3"),
        ({"classes": ("a", "b", " ")}, "`classes` must be names, got ' '"),
        ({"classes": ("a", "b", "c\nd")}, r"`classes` must be names, got 'c\\nd'"),
        ({"classes": ("a", "b", "\ud800")}, r"`classes` must be names, got '\\ud800'"),
        ({"classes": (), "palette": ()}, "`classes` must hold at least one"),
        ({"classes": tuple(map(str, range(256)))}, "`classes` must hold .* at most 255 names, got 256"),
    ],
)
def test_senseless_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CrissCrossError, match=f"^somewhere: the data set 'mine': {message}"):
        data_set(**values)


def drawn(folder: Path, gray: int) -> tuple[Path, Path]:
    """An image of one gray and its mask of class 0."""
    folder.mkdir(parents=True)
    Image.fromarray(np.full((8, 8, 3), gray, np.uint8)).save(folder / "0001.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "mask.png")
    return folder / "0001.png", folder / "mask.png"


def test_two_pairs_of_one_name(tmp_path: Path) -> None:
    first, second = (Pair("0001", *drawn(tmp_path / city, gray)) for city, gray in (("x", 10), ("y", 200)))
    dataset = data_set(splits={"train": (first, second), "val": (second,), "twice": (first, first)})
    with pytest.raises(CrissCrossError) as caught:
        quick_check(dataset, ["train"])
    told = f"in the split 'train' '0001' is also the name of {first.image}"
    assert str(caught.value).startswith(f"{second.image}: {told}, but predictions are saved by name; make them differ")
    assert [problem.file for problem in check(dataset).problems if problem.text.startswith(told)] == [second.image]
    # The same pair again is no clash, and between splits only the images count.
    assert len(dataset.split("val")) == 1 and len(dataset.split("twice")) == 2
    read = open_cache("ram", dataset, (first, second), show=False)
    assert [int(read(pair, dataset)[0].max()) for pair in (first, second)] == [10, 200]


def test_folders_that_are_called_like_a_split(tmp_path: Path) -> None:
    names = {"train": ["train/a", "Val/b", "val/c", "fog/d"], "val": ["validation/e", "test/f"], "extra": ["val/g"]}
    splits = {
        split: tuple(Pair(name, *drawn(tmp_path / name, number)) for number, name in enumerate(names[split]))
        for split in names
    }
    dataset = data_set(splits=splits)
    texts = [problem.text for problem in check(dataset).problems if "if that is not intended" in problem.text]
    assert [text.split(";")[0] for text in texts] == [
        "images of Val/ are in the split 'train' (1)",
        "images of val/ are in the split 'train' (1)",
        "images of test/ are in the split 'val' (1)",
    ]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        quick_check(dataset, ["extra"])
    assert [str(one.message) for one in told if one.category is CrissCrossWarning] == [f"somewhere: {t}" for t in texts]
