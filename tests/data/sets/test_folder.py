"""A user's own folder: what `dataset.yaml` may say, split lists, and the held-out rule without them."""

from pathlib import Path

import pytest
from small_data import CLASSES, write_folder

from crisscross.data import open_dataset, open_folder
from crisscross.errors import CrissCrossError


def describe(root: Path, text: str) -> Path:
    (root / "dataset.yaml").write_text(text, encoding="utf-8")
    return root


def names(dataset, split: str) -> list[str]:
    return [pair.name for pair in dataset.splits[split]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "set", {"train": 3, "val": 2})


def test_a_plain_folder(root: Path) -> None:
    dataset = open_dataset("auto", root)
    assert (dataset.name, dataset.classes, dataset.note) == ("folder", CLASSES, "")
    assert (dataset.ignore, dataset.void) == (255, ())
    assert len(set(dataset.palette)) == 3
    assert list(dataset.splits) == ["train", "val"]
    assert names(dataset, "val") == ["val_0", "val_1"]
    pair = dataset.split("train")[1]
    assert (pair.image, pair.mask) == (root / "images" / "train_1.png", root / "masks" / "train_1.png")


def test_every_key(root: Path) -> None:
    (root / "images").rename(root / "photos")
    (root / "masks").rename(root / "labels")
    (root / "mine.txt").write_text("train_2\n", encoding="utf-8")
    text = "classes: [a, b]\npalette: [[1, 2, 3], [4, 5, 6]]\nignore: 9\nvoid: [7, 8]\n"
    dataset = open_folder(describe(root, f"{text}images: photos\nmasks: labels\nsplits: {{fit: mine.txt}}\n"))
    assert (dataset.classes, dataset.palette) == (("a", "b"), ((1, 2, 3), (4, 5, 6)))
    assert (dataset.ignore, dataset.void) == (9, (7, 8))
    assert {split: names(dataset, split) for split in dataset.splits} == {"fit": ["train_2"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clases: [a]", "must hold `names: [first, second, ...]`, the classes in order"),
        ("classes: [a, b]\npallete: []", "unknown key pallete; did you mean palette"),
        ("classes: [a, b]\nxyzzy: 1", "known here: names, classes, labels, palette"),
        ("classes: []", "`classes` must be a list of names"),
        ("classes: a", "`classes` must be a list of names"),
        ("classes: [a, b, a]", "`classes` names 'a' twice"),
        (f"classes: {list(range(256))}", "at most 255 names, got 256"),
        ("- a\n- b", "must hold `names: [first, second, ...]`"),
        ("classes: [a, b", "not valid YAML"),
        ("classes: [a, b]\nnames: [a, b]", "names and classes mean the same; leave one of them out"),
        ("names: {0: a, 2: b}", "names must be numbered 0, 1, ... without gaps, got 0, 2; list the names"),
        ("names: [a, b]\nbackground: a", "background and names names 'a' twice"),
        ("names: [a, b]\nbackground: [x]", "background must be `ignore` or a name for the class 0, got ['x']"),
        ("names: [a, b]\nbackground: ignore\nlabels: {0: 0}", "background and labels both say what 0 means"),
        ("names: [a, b]\nlabels: {0: 0, 255: 2}", "labels: 255 becomes 2; it must be a class 0..1 or its name"),
        ("names: [a, b]\nlabels: {300: 0}", "labels: 300 is no value of a mask (0..255)"),
        ("names: [a, b]\nlabels: [0, 1]", "labels must map stored values to classes, such as {0: 0, 255: 1}"),
        ("names: [a, b]\npalette: {a: [0, 0, 0]}", "palette and names differ: b; name each class once in both"),
        ("names: [a, b]\nallow_empty: 1", "allow_empty must be true or false, got 1"),
        ("names: [a, b]\nmask_suffix: a/b", "mask_suffix must be the end of a file name such as _mask, got 'a/b'"),
        ("classes: [yes, no]", "`classes` must be names, got True; put quotes around it"),
        ("classes: [a, [b], c]", "`classes` must be names, got ['b']; put quotes around it"),
        ("classes: [road: gray, sky]", "`classes` must be names, got {'road': 'gray'}; put quotes around it"),
        ("classes: [1.10, 2.50]", "`classes` must be names, got 1.1; put quotes around it"),
        ("classes: [a, ~]", "`classes` must be names, got None; put quotes around it"),
        ('classes: [a, "b\\nc"]', "`classes` must be names, got 'b\\nc'"),
        ("classes: [a, b]\nsplits: {1.5: train.txt}", "splits must map split names to list files"),
        ("classes: [a, b]\nmasks: ''", "masks must be the name of a folder, or map splits to folders, got ''"),
        ("classes: [a, b]\nsplits: {train: null}", "splits must map split names to list files"),
        (
            "classes: [a, b]\npalette: [[1, 2, 3]]",
            "palette must hold one (red, green, blue) of 0..255",
        ),
        (
            "classes: [a, b]\npalette: [[1, 2]]",
            "palette must hold one (red, green, blue) of 0..255",
        ),
        (
            "classes: [a, b]\npalette: [[0, 0, 0], [1, 2, 256]]",
            "palette must hold one (red, green, blue) of 0..255",
        ),
        ("classes: [a, b]\nignore: 1", "ignore is 1, a class (0..1); list classes to ignore in void"),
        ("classes: [a, b]\nignore: 256", "ignore must be whole numbers 0..255, got 256"),
        ("classes: [a, b]\nignore: true", "ignore must be whole numbers 0..255, got True"),
        ("classes: [a, b]\nvoid: 7", "void must be a list of whole numbers, got 7"),
        ("classes: [a, b]\nvoid: [300]", "void must be whole numbers 0..255, got 300"),
        ("classes: [a, b]\npalette: red", "palette must be a list of [red, green, blue], got 'red'"),
        ("classes: [a, b]\nimages: 5", "images must be the name of a folder, or map splits to folders, got 5"),
        ("classes: [a, b]\nsplits: train.txt", "splits must map split names to list files, got 'train.txt'"),
    ],
)
def test_a_senseless_description_is_refused_in_one_line(root: Path, text: str, message: str) -> None:
    with pytest.raises(CrissCrossError) as caught:
        open_folder(describe(root, text))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{root / 'dataset.yaml'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("[010, 02, 0x1F]", ("010", "02", "0x1F")),
        ("[12:30, 1_000, 7]", ("12:30", "1_000", "7")),
        ("[2026-01-02, 'yes', \"1.10\"]", ("2026-01-02", "yes", "1.10")),
    ],
)
def test_names_of_classes_and_splits_are_what_is_written(root: Path, written: str, names: tuple[str, ...]) -> None:
    (root / "010").write_text("train_0\n", encoding="utf-8")
    dataset = open_folder(describe(root, f"classes: {written}\nsplits: {{012: 010, 7: train.txt}}"))
    assert dataset.classes == names
    assert {split: len(pairs) for split, pairs in dataset.splits.items()} == {"012": 1, "7": 3}


@pytest.mark.parametrize("keys", ["images: masks", "masks: ./images"])
def test_images_and_masks_in_one_folder_need_a_suffix(root: Path, keys: str) -> None:
    with pytest.raises(CrissCrossError, match=r"holds images and masks; write what masks have after .*mask_suffix"):
        open_folder(describe(root, f"classes: [a, b]\n{keys}"))


def test_one_class_has_a_background_before_it(root: Path) -> None:
    dataset = open_folder(describe(root, "names: [cell]"))
    assert dataset.classes == ("background", "cell")
    assert dataset.note == "one class is named, 'cell': class 0 is 'background', class 1 is 'cell'"


def test_names_that_are_too_long_for_the_system_are_one_line(root: Path) -> None:
    long = "x" * 500
    for text in (f"images: {long}", f"masks: {long}", f"splits: {{train: {long}}}"):
        with pytest.raises(CrissCrossError, match="x: no such f"):
            open_folder(describe(root, f"classes: [a, b]\n{text}"))


def test_lists_with_suffix_blank_lines_and_a_byte_order_mark(root: Path) -> None:
    (root / "val.txt").write_text("val_1.png\r\n\n  val_0.jpg  \n", encoding="utf-8-sig")
    assert names(open_folder(root), "val") == ["val_1", "val_0"]


def test_a_name_with_dots_is_not_cut_down_to_another_name(root: Path) -> None:
    (root / "val.txt").write_text("val_0\nval_1.v2\n", encoding="utf-8")
    with pytest.raises(CrissCrossError, match=r"no image named 'val_1\.v2'"):
        open_folder(root)


def test_an_unknown_name_is_told_with_its_line(root: Path) -> None:
    (root / "val.txt").write_text("val_0\n\nval_7\n", encoding="utf-8")
    with pytest.raises(CrissCrossError) as caught:
        open_folder(root)
    assert (
        str(caught.value)
        == f"{root / 'val.txt'}, line 3: no image named 'val_7'; a list names the images of a split, one a line"
    )


def test_a_list_that_is_missing_or_no_text(root: Path) -> None:
    with pytest.raises(CrissCrossError, match=r"gone\.txt: no such file; .*dataset\.yaml calls it the list of a split"):
        open_folder(describe(root, "classes: [a, b]\nsplits: {train: gone.txt}"))
    (root / "val.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(CrissCrossError, match=r"val\.txt: not UTF-8 text"):
        open_folder(describe(root, "classes: [a, b]"))
    # A terabyte of zeros, which takes no place on the disk.
    with (root / "val.txt").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CrissCrossError, match=r"val\.txt: cannot be read: 1,099,511,627,776 bytes, at most 67,108,864"):
        open_folder(describe(root, "classes: [a, b]"))


def without_lists(root: Path, count: int) -> Path:
    write_folder(root, {"train": 0})
    (root / "train.txt").unlink()
    for number in range(count):
        (root / "images" / f"image_{number}.png").touch()
    return root


def test_without_lists_every_fifth_is_held_out_and_stays_there(tmp_path: Path) -> None:
    root = without_lists(tmp_path / "set", 400)
    before = open_folder(root)
    assert len(before.split("val")) == 80
    assert before.note == "no split lists: 80 of 400 images held out as val by name"
    # The rule is part of what a result means: these very images, today as ever.
    assert names(before, "val")[:3] == ["image_1", "image_10", "image_101"]
    for number in range(203):
        (root / "images" / f"another_{number}.png").touch()
    after = open_folder(root)
    assert len(after.split("val")) == 121
    assert set(names(after, "train")).isdisjoint(names(after, "val"))
    assert len(names(after, "train")) == 603 - 121
    # A fifth of the checksums is about a fifth of the images, so few of them change sides.
    changed = set(names(before, "val")) & set(names(after, "train"))
    assert len(changed) < 12


def test_an_empty_held_out_split_says_what_to_do(tmp_path: Path) -> None:
    dataset = open_folder(without_lists(tmp_path / "set", 1))
    empty = next(split for split, pairs in dataset.splits.items() if not pairs)
    assert empty == "val"
    message = r"'val' is empty \(no split lists: .*; to train on a single image: `--set data.val_split=none`"
    with pytest.raises(CrissCrossError, match=message):
        dataset.split(empty)
    with pytest.raises(CrissCrossError, match="no split 'trian'; this data set has train, val"):
        dataset.split("trian")


def test_sub_folders_hidden_files_and_other_suffixes(root: Path) -> None:
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (root / folder / "day" / "one").mkdir(parents=True)
        (root / folder / "day" / "one" / f"a.b.{suffix}").touch()
        (root / folder / "._train_0.png").touch()
        (root / folder / "notes.txt").touch()
    (root / "val.txt").write_text("day/one/a.b\n", encoding="utf-8")
    (pair,) = open_folder(root).split("val")
    assert (pair.name, pair.image) == ("day/one/a.b", root / "images" / "day" / "one" / "a.b.jpg")
    assert pair.mask == root / "masks" / "day" / "one" / "a.b.png"
    (root / "val.txt").unlink()
    (root / "train.txt").unlink()
    dataset = open_folder(root)
    assert sorted(names(dataset, "train") + names(dataset, "val")) == sorted(
        ["day/one/a.b", *(f"train_{n}" for n in range(3)), *(f"val_{n}" for n in range(2))]
    )


def test_two_images_of_one_name_are_not_mixed_up(root: Path) -> None:
    (root / "images" / "val_0.jpg").touch()
    with pytest.raises(CrissCrossError, match=r"val_0\.png: val_0\.jpg has the same name"):
        open_folder(root)


def test_a_image_without_mask_keeps_the_place_where_it_should_be(root: Path) -> None:
    (root / "masks" / "val_0.png").unlink()
    assert open_folder(root).split("val")[0].mask == root / "masks" / "val_0.png"


def test_missing_folders_and_files(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CrissCrossError, match=r"nowhere: no such folder; give the data set's folder"):
        open_dataset("folder", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    for name in ("auto", "folder"):
        with pytest.raises(
            CrissCrossError, match=r"no images with masks found: no images at all; put images into images/, "
        ):
            open_dataset(name, tmp_path / "empty")
    with pytest.raises(CrissCrossError, match="unknown data set 'fodler'; did you mean folder"):
        open_dataset("fodler", root)
    (root / "masks").rename(root / "labels")
    with pytest.raises(CrissCrossError, match="masks: no such folder"):
        open_folder(root)
