"""CamVid in the layout of the SegNet tutorial: on a drawn copy, and on the real one where it lies near."""

from pathlib import Path

import numpy as np
import pytest
from paths import SHARED
from PIL import Image
from published_data import draw_camvid

from crisscross.data import open_camvid, open_dataset
from crisscross.data.files.reading import read_pair
from crisscross.data.sets.camvid import CLASSES, PALETTE, VOID
from crisscross.errors import CrissCrossError

REAL = SHARED / "data" / "camvid"


def test_the_layout_is_recognized_and_paired(tmp_path: Path) -> None:
    dataset = open_dataset("auto", draw_camvid(tmp_path))
    assert (dataset.name, dataset.classes, dataset.palette) == ("camvid", CLASSES, PALETTE)
    assert {split: [pair.name for pair in pairs] for split, pairs in dataset.splits.items()} == {
        split: [f"{split}_a", f"{split}_b"] for split in ("train", "val", "test")
    }
    pair = dataset.split("val")[0]
    assert (pair.image, pair.mask) == (tmp_path / "val" / "val_a.jpg", tmp_path / "valannot" / "val_a.png")


def test_11_is_ignored_and_the_classes_stay(tmp_path: Path) -> None:
    dataset = open_camvid(draw_camvid(tmp_path))
    _, mask = read_pair(dataset.split("train")[0], dataset)
    stored = np.arange(48) % 12
    assert (VOID, len(CLASSES), dataset.ignore) == (11, 11, 255)
    assert np.array_equal(mask.ravel(), np.where(stored == 11, 255, stored))


def test_missing_parts(tmp_path: Path) -> None:
    dataset = open_camvid(draw_camvid(tmp_path / "part", ("train",)))
    with pytest.raises(CrissCrossError, match="no split 'val'; this data set has train"):
        dataset.split("val")
    (tmp_path / "part" / "trainannot").rename(tmp_path / "part" / "labels")
    with pytest.raises(CrissCrossError, match="not CamVid in the SegNet layout"):
        open_camvid(tmp_path / "part")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real CamVid is not beside this repository (../shared/data/camvid)")
def test_the_real_data_set() -> None:
    dataset = open_dataset("auto", REAL)
    assert {split: len(pairs) for split, pairs in dataset.splits.items()} == {"train": 367, "val": 101, "test": 233}
    assert len({pair.name for pairs in dataset.splits.values() for pair in pairs}) == 701
    for pair in dataset.split("val")[::25]:
        with Image.open(pair.mask) as annotation:
            colors = np.reshape(annotation.getpalette(), (-1, 3))[: len(PALETTE)]
        assert colors.tolist() == [list(color) for color in PALETTE]
        image, mask = read_pair(pair, dataset)
        assert image.shape == (360, 480, 3)
        assert set(np.unique(mask)) <= {*range(11), 255}
        # Sky is class 0 and lies above the road, class 3: the numbers mean what the names say.
        rows = [np.flatnonzero(mask == index).mean() // 480 for index in (0, 3)]
        assert rows[0] < rows[1]
