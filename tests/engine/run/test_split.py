"""A run keeps the split that it began with, although the folder got more images."""

import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from small_data import write_folder

from crisscross.data import open_folder
from crisscross.engine.run.split import keep_split, write_split
from crisscross.errors import CrissCrossError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = write_folder(tmp_path / "set", {"train": 20})
    (root / "train.txt").unlink()
    return root


def test_the_sides_stay_when_images_are_added(root: Path, tmp_path: Path) -> None:
    before = open_folder(root)
    write_split(tmp_path, before)
    assert keep_split(tmp_path, before) == (before, ())
    # Names with small checksums, which the rule holds out in place of those before.
    new = [name for name in (f"new_{number}" for number in range(400)) if zlib.crc32(name.encode()) < 2**28]
    for name in new:
        (root / "images" / f"{name}.png").touch()
    after = open_folder(root)
    kept, lines = keep_split(tmp_path, after)
    names = {side: {pair.name for pair in kept.splits[side]} for side in ("train", "val")}
    for side in ("train", "val"):
        assert {pair.name for pair in before.splits[side]} <= names[side]
    assert len(names["train"]) + len(names["val"]) == 20 + len(new)
    moved = {pair.name for pair in before.splits["val"]} & {pair.name for pair in after.splits["train"]}
    moved |= {pair.name for pair in before.splits["train"]} & {pair.name for pair in after.splits["val"]}
    assert moved
    (line,) = lines
    assert line.startswith(f"{len(moved)} images would change between train and val, such as ")


def test_splits_of_the_data_set_itself_are_not_stored(root: Path, tmp_path: Path) -> None:
    dataset = replace(open_folder(root), note="")
    write_split(tmp_path, dataset)
    assert not (tmp_path / "split.json").exists()
    assert keep_split(tmp_path, dataset) == (dataset, ())


@pytest.mark.parametrize("text", ["[]", '{"train": []}', "{"])
def test_a_damaged_split_is_one_line(root: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(CrissCrossError, match=r"split\.json: "):
        keep_split(tmp_path, open_folder(root))
