"""A data set with one fault of every kind: both checks find it, name the file and say what is wrong."""

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import CLASSES, HEIGHT, WIDTH, draw_image, draw_labels, write_folder

from crisscross.cli import data as command
from crisscross.data import DataSet, open_folder
from crisscross.data.check.checks import check, quick_check
from crisscross.data.check.plot import write_plot
from crisscross.data.check.report import CheckReport
from crisscross.errors import CrissCrossError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "set", {"train": 4, "val": 2})


def mask_of(root: Path, name: str) -> Path:
    return root / "masks" / f"{name}.png"


def image_of(root: Path, name: str) -> Path:
    return root / "images" / f"{name}.png"


def found(report: CheckReport, severity: str) -> list[tuple[Path, str]]:
    return [(problem.file, problem.text) for problem in report.problems if problem.severity == severity]


def quick_refusal(dataset: DataSet, splits: tuple[str, ...] = ("train", "val")) -> str:
    with pytest.raises(CrissCrossError) as caught:
        quick_check(dataset, splits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_data_set(root: Path) -> None:
    dataset = open_folder(root)
    quick_check(dataset, ["train", "val"])
    calls: list[tuple[int, int]] = []
    report = check(dataset, lambda done, total: calls.append((done, total)))
    assert report.problems == ()
    assert report.errors == 0
    assert calls == [(done, 6) for done in range(1, 7)]
    assert report.pairs == {"train": 4, "val": 2}
    assert report.sizes == {(WIDTH, HEIGHT): 6}
    for split, indices in (("train", range(4)), ("val", range(4, 6))):
        labels = np.stack([draw_labels(index) for index in indices])
        assert report.pixels[split].dtype == np.int64
        assert report.pixels[split].tolist() == [int((labels == value).sum()) for value in range(3)]
        assert report.ignored[split] == int((labels == 255).sum()) == len(indices) * WIDTH
        assert report.fractions(split).sum() == pytest.approx(1)
        assert report.ignored_fraction(split) == pytest.approx(1 / HEIGHT)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def no_image(file: Path) -> None:
    file.write_text("not an image")


def turned(file: Path) -> None:
    Image.fromarray(draw_labels(0, WIDTH, HEIGHT)).save(file)


def transparent(file: Path) -> None:
    Image.fromarray(np.dstack([draw_image(0), draw_labels(0)])).save(file)


def colored(file: Path) -> None:
    Image.fromarray(draw_image(0)).save(file)


def foreign(file: Path) -> None:
    labels = draw_labels(0)
    labels[2, :5] = 200
    Image.fromarray(labels).save(file)


OUTSIDE = "label 200 at 5 pixels, but there are 3 classes (0..2, ignore 255)"


@pytest.mark.parametrize(
    ("of", "fault", "text"),
    [
        (image_of, empty, "empty file (0 bytes)"),
        (image_of, no_image, "not an image"),
        (mask_of, empty, "empty file (0 bytes)"),
        (mask_of, no_image, "not an image"),
        (mask_of, turned, f"the mask is {HEIGHT} x {WIDTH}, its image {WIDTH} x {HEIGHT}"),
        (mask_of, transparent, "a color mask (mode RGBA); masks must be index or palette images"),
        (mask_of, colored, "a color mask (mode RGB); masks must be index or palette images"),
        (mask_of, foreign, OUTSIDE),
    ],
)
def test_one_fault(root: Path, of: Callable[[Path, str], Path], fault: Callable[[Path], None], text: str) -> None:
    file = of(root, "train_2")
    fault(file)
    dataset = open_folder(root)
    ((where, what),) = found(check(dataset), "error")
    assert where == file
    assert what.startswith(text)
    message = quick_refusal(dataset)
    assert message.startswith(f"{file}: {text}")
    assert message.endswith(f"; `crisscross data check {root}` lists all")


def test_an_image_without_mask(root: Path) -> None:
    mask_of(root, "val_1").unlink()
    dataset = open_folder(root)
    text = f"image without mask; looked for {mask_of(root, 'val_1')}"
    assert found(check(dataset), "error") == [(image_of(root, "val_1"), text)]
    assert quick_refusal(dataset).startswith(f"{image_of(root, 'val_1')}: {text}; ")
    quick_check(dataset, ["train"])


def test_only_reading_in_full_finds_a_truncated_image(root: Path) -> None:
    file = image_of(root, "train_0")
    file.write_bytes(file.read_bytes()[:-40])
    dataset = open_folder(root)
    ((where, what),) = found(check(dataset), "error")
    assert where == file
    assert what.startswith("cannot be read: ")


def test_a_label_outside_the_classes_is_not_counted(root: Path) -> None:
    before = check(open_folder(root))
    foreign(mask_of(root, "train_0"))
    after = check(open_folder(root))
    assert before.pixels["train"].sum() - after.pixels["train"].sum() == 5
    assert before.ignored == after.ignored


def test_many_foreign_labels_are_told_in_one_line(root: Path) -> None:
    Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.int64).reshape(HEIGHT, WIDTH).astype(np.uint8)).save(
        mask_of(root, "train_0")
    )
    ((_, what),) = found(check(open_folder(root)), "error")
    assert what.startswith("label 3 at 3 pixels, label 4 at 3 pixels")
    assert "and 247 more, but there are 3 classes" in what


def test_the_quick_check_counts_further_problems(root: Path) -> None:
    for name in ("train_1", "train_3", "val_0"):
        empty(image_of(root, name))
    message = quick_refusal(open_folder(root))
    assert message.startswith(f"{image_of(root, 'train_1')}: empty file (0 bytes) (and 2 more in this quick check); ")
    assert "(and 1 more" in quick_refusal(open_folder(root), ("train",))


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
def test_sizes_are_compared_after_exif_rotation(root: Path, orientation: int, suffix: str) -> None:
    image_of(root, "train_0").unlink()
    exif = Image.Exif()
    exif[0x0112] = orientation
    sides = (WIDTH, HEIGHT) if orientation == 6 else (HEIGHT, WIDTH)
    Image.fromarray(draw_image(0, *sides)).save(root / "images" / f"train_0.{suffix}", exif=exif)
    dataset = open_folder(root)
    quick_check(dataset, ["train"])
    # Sizes tell nothing where a turn by half keeps them.
    half = "the image is turned or mirrored by its EXIF data, its mask is not: look whether they fit"
    image = dataset.split("train")[0].image
    assert [(one.file, one.text) for one in check(dataset).problems] == [(image, half)] * (orientation == 3)
    Image.fromarray(draw_labels(0, WIDTH, HEIGHT)).save(mask_of(root, "train_0"))
    text = f"the mask is {HEIGHT} x {WIDTH}, its image {WIDTH} x {HEIGHT}"
    ((file, told),) = found(check(dataset), "error")
    assert file == mask_of(root, "train_0")
    assert told.startswith(text)
    assert ("turn the mask, or save the image without EXIF data" in told) == (orientation == 6)
    assert text in quick_refusal(dataset, ("train",))


def test_exif_behind_the_pixels_of_a_png(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = image_of(root, "train_0")
    Image.fromarray(draw_image(0, WIDTH, HEIGHT)).save(file, exif=exif)
    content = file.read_bytes()
    start = content.index(b"eXIf") - 4
    length = int.from_bytes(content[start : start + 4], "big") + 12
    end = content.index(b"IEND") - 4
    moved = content[:start] + content[start + length : end] + content[start : start + length] + content[end:]
    file.write_bytes(moved)
    quick_check(open_folder(root), ["train"])


def add_to(root: Path, split: str, name: str) -> None:
    with (root / f"{split}.txt").open("a") as file:
        file.write(f"{name}\n")


def test_an_image_in_two_splits(root: Path) -> None:
    add_to(root, "val", "train_1")
    dataset = open_folder(root)
    expected = (image_of(root, "train_1"), "in both splits 'train' and 'val'")
    assert found(check(dataset), "error") == [expected]
    assert quick_refusal(dataset).startswith(f"{expected[0]}: {expected[1]}; ")
    quick_check(dataset, ["train"])
    quick_check(dataset, ["train", "train"])


def test_the_same_image_under_another_name(root: Path) -> None:
    shutil.copy(image_of(root, "train_1"), image_of(root, "val_1"))
    text = f"the same image as {image_of(root, 'train_1')}, which is in split 'train', this one in 'val'"
    assert found(check(open_folder(root)), "error") == [(image_of(root, "val_1"), text)]


def test_one_name_in_two_splits_is_no_duplicate_but_one_file_is(root: Path) -> None:
    dataset = open_folder(root)
    train = dataset.splits["train"]
    renamed = tuple(replace(pair, name=train[n].name) for n, pair in enumerate(dataset.splits["val"]))
    quick_check(replace(dataset, splits={"train": train, "val": renamed}), ["train", "val"])
    other_name = (replace(train[0], name="zero"),)
    message = quick_refusal(replace(dataset, splits={"train": train, "val": other_name}))
    assert message.startswith(f"{image_of(root, 'train_0')}: in both splits 'train' and 'val'")


def test_an_image_twice_in_one_split_is_a_warning(root: Path) -> None:
    add_to(root, "train", "train_1")
    shutil.copy(image_of(root, "train_2"), image_of(root, "train_3"))
    dataset = open_folder(root)
    quick_check(dataset, ["train", "val"])
    report = check(dataset)
    assert report.errors == 0
    assert found(report, "warning") == [
        (image_of(root, "train_1"), "twice in split 'train'"),
        (image_of(root, "train_3"), f"the same image as {image_of(root, 'train_2')}, both in split 'train'"),
    ]


def test_a_split_that_contains_others_is_a_warning_and_hides_no_leak(root: Path) -> None:
    names = (root / "train.txt").read_text() + (root / "val.txt").read_text()
    (root / "trainval.txt").write_text(names)
    lists = "splits: {trainval: trainval.txt, train: train.txt, val: val.txt}"
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(CLASSES)}]\n{lists}\n")
    report = check(open_folder(root))
    assert found(report, "warning") == [
        (root, "split 'trainval' contains all of split 'train'"),
        (root, "split 'trainval' contains all of split 'val'"),
    ]
    assert report.errors == 0
    add_to(root, "val", "train_0")
    empty(mask_of(root, "train_3"))
    report = check(open_folder(root))
    # The empty mask is in two splits and told once; errors stand before warnings.
    assert found(report, "error") == [
        (mask_of(root, "train_3"), "empty file (0 bytes)"),
        (image_of(root, "train_0"), "in both splits 'train' and 'val'"),
    ]
    assert [problem.severity for problem in report.problems] == ["error", "error", "warning", "warning"]


def test_images_in_no_split_and_masks_without_image(root: Path) -> None:
    (root / "train.txt").write_text("train_0\n")
    (root / "masks" / "deep").mkdir()
    shutil.copy(mask_of(root, "train_0"), root / "masks" / "deep" / "orphan.png")
    assert found(check(open_folder(root)), "warning") == [
        (root / "images", "3 images in no split: train_1.png, train_2.png, train_3.png"),
        (root / "masks", "1 mask without image: deep/orphan.png"),
    ]


def test_classes_that_never_occur(root: Path) -> None:
    describe = (root / "dataset.yaml").write_text
    describe("classes: [floor, wall, door, roof]\n")
    text = "no pixel of class 3 (roof) in 'train', so that it cannot be learned: mend the names, the labels or the "
    text += f"split; or write `allow_empty: true` in {root}/dataset.yaml"
    assert found(check(open_folder(root)), "error") == [(root, text)]
    assert quick_refusal(open_folder(root)).startswith(f"{root}: {text}; ")
    describe("classes: [floor, wall, door, roof]\nallow_empty: true\n")
    quick_check(open_folder(root), ["train", "val"])
    assert found(check(open_folder(root)), "error") == []
    assert found(check(open_folder(root)), "warning") == [(root, "never in any mask: class 3 (roof)")]
    describe(f"classes: {[f'c{n}' for n in range(69)]}\nallow_empty: true\n")
    text = "never in any mask: 66 of 69 classes: 3 (c3), 4 (c4), 5 (c5), 6 (c6), 7 (c7) and 61 more"
    assert found(check(open_folder(root)), "warning") == [(root, text)]


def test_a_class_that_only_val_has_is_found_before_training(root: Path) -> None:
    for number in range(4):
        Image.fromarray(draw_labels(number) % 2).save(mask_of(root, f"train_{number}"))
    assert "no pixel of class 2 (door) in 'train'" in quick_refusal(open_folder(root))


def test_empty_and_missing_splits(root: Path) -> None:
    (root / "val.txt").write_text("\n")
    dataset = open_folder(root)
    assert found(check(dataset), "error") == [(root, "the split 'val' is empty")]
    assert quick_refusal(dataset) == f"{root}: the split 'val' is empty"
    assert quick_refusal(dataset, ("test",)) == f"{root}: no split 'test'; this data set has train, val"
    report = check(replace(dataset, splits={}))
    assert (root, "the data set has no splits") in found(report, "error")


def test_void_labels_count_as_ignored(root: Path) -> None:
    plain = check(open_folder(root))
    report = check(replace(open_folder(root), void=(2,)))
    assert report.pixels["val"].tolist() == [*plain.pixels["val"][:2].tolist(), 0]
    assert report.ignored["val"] == plain.ignored["val"] + plain.pixels["val"][2]


def test_the_quick_check_samples_masks_from_the_first_to_the_last(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "many", {"train": 60}, 4, 6)
    for name in ("train_0", "train_59"):
        labels = draw_labels(1, 4, 6)
        labels[0, 0] = 9
        Image.fromarray(labels).save(mask_of(root, name))
        assert quick_refusal(open_folder(root), ("train",)).startswith(f"{mask_of(root, name)}: label 9 at 1 pixels")
        Image.fromarray(draw_labels(1, 4, 6)).save(mask_of(root, name))
    # Between two samples only the head of a file is looked at, which tells its mode.
    Image.fromarray(np.dstack([draw_image(0, 4, 6), draw_labels(0, 4, 6)])).save(mask_of(root, "train_1"))
    assert quick_refusal(open_folder(root), ("train",)).startswith(
        f"{mask_of(root, 'train_1')}: a color mask (mode RGBA)"
    )


def test_the_plot_shows_each_fraction_in_its_color(root: Path, tmp_path: Path) -> None:
    colors = [[200, 30, 30], [20, 160, 60], [40, 60, 210]]
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(CLASSES)}]\npalette: {colors}\n")
    for name, rows in (("train_0", [12, 20]), ("train_1", [12, 20]), ("val_0", [4, 20]), ("val_1", [2, 4])):
        labels = np.searchsorted(rows, np.arange(HEIGHT), side="right").astype(np.uint8)
        Image.fromarray(np.repeat(labels[:, None], WIDTH, axis=1)).save(mask_of(root, name))
    dataset = open_folder(root)
    report = check(dataset)
    file = tmp_path / "fractions.png"
    write_plot(report, dataset, file)
    pixels = np.asarray(Image.open(file).convert("RGB"))
    areas = [int((pixels == color).all(axis=2).sum()) for color in colors]
    # Two bars a class, as long as the fractions are large; an edge of one pixel is gray.
    expected = [float(report.fractions("train")[index] + report.fractions("val")[index]) for index in range(3)]
    assert np.allclose(np.array(areas) / sum(areas), np.array(expected) / sum(expected), atol=0.01)
    assert list(tmp_path.glob(".*")) == []


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = parser.parse_args(["check", *map(str, words)])
    return arguments.run(arguments)


def test_the_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "--plot", tmp_path / "p.png", "--json", tmp_path / "r.json", "--name", "folder") == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"class fractions drawn: {tmp_path / 'p.png'}"
    assert lines[0] == f"{root}: folder, 3 classes, pairs: train 4, val 2"
    assert lines[1] == "image sizes (images): 32 x 24 (6)"
    assert lines[-1] == "errors: 0, warnings: 0"
    report = check(open_folder(root))
    fractions = [f"{report.fractions(split)[1]:.2%}" for split in ("train", "val")]
    assert ["wall", *fractions] in [line.split() for line in lines]
    facts = json.loads((tmp_path / "r.json").read_text())
    assert facts["pixels"]["val"] == report.pixels["val"].tolist()
    assert facts["fractions"]["val"] == report.fractions("val").tolist()
    assert (facts["classes"], facts["problems"]) == (list(CLASSES), [])
    assert facts["sizes"] == [{"width": WIDTH, "height": HEIGHT, "images": 6}]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_no_file_that_nobody_asked_for(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(tmp_path.rglob("*"))
    assert run(root) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert capsys.readouterr().out.startswith(f"{root}: folder, 3 classes")


def test_the_command_with_warnings_and_errors(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_to(root, "train", "train_1")
    assert run(root) == 0
    foreign(mask_of(root, "val_1"))
    assert run(root) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == f"error: {mask_of(root, 'val_1')}: {OUTSIDE}"
    assert lines[-2].startswith("warning: ")
    assert lines[-1] == "errors: 1, warnings: 1"


def test_many_files_with_one_cause_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "many", {"train": 53}, 4, 6)
    shutil.rmtree(root / "masks")
    (root / "masks").mkdir()
    assert run(root) == 2
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert line.endswith("(and 52 more files alike: train_1.png, train_2.png, train_3.png, ...)")
    assert lines[-1] == "errors: 1, warnings: 0"


def test_the_table_on_a_terminal(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "dataset.yaml").write_text("classes: ['[red]floor', wall, door]\n")
    dataset = open_folder(root)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    command.print_report(check(dataset), dataset)
    # Square brackets are rich's markup; a class may have them in its name.
    assert "[red]floor" in capsys.readouterr().out
