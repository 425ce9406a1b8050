"""Which files of a folder are taken: links are followed and end, hidden entries, pipes and devices are left out."""

import os
import unicodedata
import warnings
from pathlib import Path

import pytest
from small_data import write_folder

from crisscross.data import open_folder
from crisscross.data.check.checks import check
from crisscross.data.files.folders import either_form, images_in
from crisscross.data.sets.cityscapes import open_cityscapes
from crisscross.engine.predict import find_images
from crisscross.errors import CrissCrossError, CrissCrossWarning

NFC = "caf\u00e9"
NFD = unicodedata.normalize("NFD", NFC)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def below(folder: Path) -> list[str]:
    """The names found, and no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return [path.relative_to(folder).as_posix() for path in images_in(folder, deep=True)]


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    top, far = tmp_path / "top", tmp_path / "far"
    touch(top / "a.png", far / "b.png", far / "deep" / "c.JPG", tmp_path / "store" / "0815")
    (top / "more").symlink_to(far)
    (top / "d.png").symlink_to(tmp_path / "store" / "0815")
    assert below(top) == ["a.png", "d.png", "more/b.png", "more/deep/c.JPG"]
    assert [path.name for path in images_in(top)] == ["a.png", "d.png"]


def test_a_folder_by_two_paths_is_there_twice_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "one" / "a.png")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "one" / "up").symlink_to(tmp_path)
    (tmp_path / "one" / "self").symlink_to(tmp_path / "one")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    assert below(tmp_path) == ["one/a.png", "two/a.png"]


def test_a_maze_of_links_is_refused(tmp_path: Path) -> None:
    # Two links to the next folder in each of 30: 2^30 paths lead to the last.
    for number in range(30):
        (tmp_path / f"{number}").mkdir()
        for way in "ab":
            (tmp_path / f"{number}" / way).symlink_to(tmp_path / f"{number + 1}")
    touch(tmp_path / "30" / "a.png")
    with pytest.raises(CrissCrossError, match="symbolic links lead to this folder by more than 64 paths"):
        images_in(tmp_path / "0", deep=True)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path / ".trash" / "a.png", tmp_path / "b" / ".c.png", tmp_path / "b" / ".old" / "d" / "e.png")
    touch(tmp_path / "b" / "f.png")
    assert below(tmp_path) == ["b/f.png"]
    # The folder that was asked for may be hidden itself.
    assert below(tmp_path / ".trash") == ["a.png"]


def test_a_folder_with_the_name_of_an_image_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "a.png" / "b.png")
    assert below(tmp_path) == ["a.png/b.png"]


def test_pipes_and_devices_are_named_and_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    with pytest.warns(CrissCrossWarning, match=r"b\.png: a pipe or a device, not a file: left out \(and 1 more\)"):
        assert [path.name for path in images_in(tmp_path)] == ["a.png"]


def test_a_link_to_nothing_stays_to_be_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", {"train": 2, "val": 1})
    (root / "images" / "train_0.png").unlink()
    (root / "images" / "train_0.png").symlink_to(tmp_path / "unplugged")
    (problem,) = (problem for problem in check(open_folder(root)).problems if problem.severity == "error")
    assert (problem.file.name, problem.text) == ("train_0.png", "no such file")


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.png", tmp_path / "closed" / "b.png")
    scan = os.scandir

    def scandir(folder: Path) -> object:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    # The tests may run as root, who may read everything.
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(CrissCrossWarning, match="closed: left out, it cannot be read: Permission denied"):
        assert [path.name for path in images_in(tmp_path, deep=True)] == ["a.png"]


def test_everyone_walks_alike(tmp_path: Path) -> None:
    root, far = write_folder(tmp_path / "set", {"train": 2, "val": 1}), tmp_path / "far"
    for kind in ("images", "masks"):
        touch(far / kind / "x.png", root / kind / ".old" / "y.png")
        (root / kind / "linked").symlink_to(far / kind)
    (root / "train.txt").write_text("linked/x\ntrain_0\n", encoding="utf-8")
    dataset = open_folder(root)
    assert [pair.name for pair in dataset.split("train")] == ["linked/x", "train_0"]
    assert dataset.split("train")[0].mask == root / "masks" / "linked" / "x.png"
    found = find_images([root / "images"])
    assert [str(target) for target in found.values()] == ["linked/x", "train_0", "train_1", "val_0"]
    for kind, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        touch(tmp_path / "city" / kind / "val" / "aachen" / f"aachen_000000_000019_{end}.png")
        touch(tmp_path / "store" / kind / f"ulm_000000_000019_{end}.png")
        (tmp_path / "city" / kind / "val" / "ulm").symlink_to(tmp_path / "store" / kind)
    names = [pair.name for pair in open_cityscapes(tmp_path / "city").split("val")]
    assert names == ["aachen_000000_000019", "ulm_000000_000019"]


def test_a_name_is_found_in_either_unicode_form(tmp_path: Path) -> None:
    touch(tmp_path / f"{NFD}.png", tmp_path / "n.png")
    assert either_form(tmp_path / f"{NFC}.png") == tmp_path / f"{NFD}.png"
    assert either_form(tmp_path / f"{NFD}.png") == tmp_path / f"{NFD}.png"
    assert either_form(tmp_path / "n.png") == tmp_path / "n.png"
    assert either_form(tmp_path / f"{NFC}.jpg") == tmp_path / f"{NFC}.jpg"
    touch(tmp_path / f"{NFC}.png")
    assert either_form(tmp_path / f"{NFC}.png") == tmp_path / f"{NFC}.png"


@pytest.mark.parametrize(("image", "mask", "listed"), [(NFD, NFC, NFC), (NFC, NFD, NFD), (NFD, NFD, NFC)])
def test_pairs_and_lists_in_either_unicode_form(tmp_path: Path, image: str, mask: str, listed: str) -> None:
    root = write_folder(tmp_path / "set", {"train": 2, "val": 1})
    (root / "images" / "train_0.png").rename(root / "images" / f"{image}.png")
    (root / "masks" / "train_0.png").rename(root / "masks" / f"{mask}.png")
    (root / "train.txt").write_text(f"{listed}.png\ntrain_1\n", encoding="utf-8")
    dataset = open_folder(root)
    pair = dataset.split("train")[0]
    assert (pair.image, pair.mask) == (root / "images" / f"{image}.png", root / "masks" / f"{mask}.png")
    assert check(dataset).errors == 0


def test_two_files_that_look_the_same_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", {"train": 1, "val": 1})
    touch(root / "images" / f"{NFC}.png", root / "images" / f"{NFD}.png")
    with pytest.raises(CrissCrossError, match="has the same name but for NFC/NFD; rename or remove one"):
        open_folder(root)
