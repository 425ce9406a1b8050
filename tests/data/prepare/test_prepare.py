"""Masks made from what the data sets' sites hand out, checked against drawings and other people's code."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_data import draw_labels, save, write_camvid32, write_cityscapes, write_voc2012aug

from crisscross.cli import main
from crisscross.data import open_dataset
from crisscross.data.files.matlab import read_field
from crisscross.data.files.reading import read_mask, read_pair
from crisscross.data.preparation import prepare
from crisscross.data.sets import camvid32, cityscapes, voc
from crisscross.errors import CrissCrossError
from crisscross.files import temporary_path


def refusal(*arguments: object) -> str:
    with pytest.raises(CrissCrossError) as caught:
        prepare(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_train_ids_fine_and_coarse(tmp_path: Path) -> None:
    write_cityscapes(write_cityscapes(tmp_path), kind="gtCoarse")
    before = {
        name: {pair.name: read_pair(pair, dataset)[1] for pairs in dataset.splits.values() for pair in pairs}
        for name in ("cityscapes", "cityscapes-coarse")
        for dataset in [open_dataset(name, tmp_path)]
    }
    done = prepare("cityscapes", tmp_path)
    assert (done.written, done.skipped) == (4 + 6, 0)
    for name, masks in before.items():
        dataset = open_dataset(name, tmp_path)
        assert dataset.labels is None
        for pairs in dataset.splits.values():
            for pair in pairs:
                assert np.array_equal(read_mask(pair.mask), masks[pair.name])


def test_every_label_id_as_the_official_script_has_it(tmp_path: Path) -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    ids = np.arange(34, dtype=np.uint8).reshape(2, 17)
    save(tmp_path / "gtFine/val/x/x_000000_000019_gtFine_labelIds.png", ids)
    prepare("cityscapes", tmp_path)
    written = read_mask(tmp_path / "gtFine/val/x/x_000000_000019_gtFine_labelTrainIds.png")
    official = {label.id: label.trainId for label in labels}
    assert written.ravel().tolist() == [official[number] for number in range(34)]


def test_finished_files_are_left_alone_and_broken_off_ones_are_made(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, 3)
    prepare("cityscapes", tmp_path)
    first, second, *_ = sorted(tmp_path.rglob("*_labelTrainIds.png"))
    wanted = second.read_bytes()
    first.write_bytes(b"mine")
    second.unlink()
    temporary_path(second, 99_999_999).write_bytes(b"half")
    done = prepare("cityscapes", tmp_path)
    assert (done.written, done.skipped) == (1, 5)
    assert first.read_bytes() == b"mine" and second.read_bytes() == wanted
    assert not list(tmp_path.rglob("*.tmp"))


def test_files_that_another_run_is_writing_stay(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    source = next(tmp_path.rglob("*_labelIds.png"))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        half = temporary_path(source.parent / "x.png", other.pid)
        half.write_bytes(b"half")
        prepare("cityscapes", tmp_path)
        assert half.exists()
        other.kill()
    prepare("cityscapes", tmp_path)
    assert not half.exists()


def test_another_folder_for_the_results(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "in", 1)
    before = files_below(tmp_path / "in")
    prepare("cityscapes", tmp_path / "in", tmp_path / "out")
    assert files_below(tmp_path / "in") == before
    assert sorted(files_below(tmp_path / "out")) == [
        f"gtFine/{split}/{city}/{city}_000000_000019_gtFine_labelTrainIds.png"
        for split, city in (("train", "aachen"), ("val", "frankfurt"))
    ]


def test_color_labels_of_camvid(tmp_path: Path) -> None:
    write_camvid32(tmp_path)
    wanted = {path.name: read_mask(path) for path in (tmp_path / camvid32.INDEX).iterdir()}
    for path in (tmp_path / camvid32.INDEX).iterdir():
        path.unlink()
    (tmp_path / camvid32.INDEX).rmdir()
    with pytest.raises(CrissCrossError, match=r"LabeledIndex_full: no such folder; .*crisscross data prepare camvid32"):
        open_dataset("auto", tmp_path)
    assert prepare("camvid32", tmp_path).lines == ()
    assert {path.name: read_mask(path).tolist() for path in (tmp_path / camvid32.INDEX).iterdir()} == {
        name: mask.tolist() for name, mask in wanted.items()
    }
    assert open_dataset("auto", tmp_path).name == "camvid32"


def test_stray_and_foreign_colors_of_camvid(tmp_path: Path) -> None:
    write_camvid32(tmp_path, 1)
    victim = tmp_path / camvid32.COLORS / "0001TP_006690_L.png"
    with Image.open(victim) as image:
        colors = np.array(image)
    colors[40, 10:14] = (1, 2, 3)
    save(victim, colors)
    for path in (tmp_path / camvid32.INDEX).iterdir():
        path.unlink()
    (line,) = prepare("camvid32", tmp_path).lines
    assert line == "4 pixels with a color that label_colors.txt does not hold became Void"
    assert (read_mask(tmp_path / camvid32.INDEX / victim.name)[40, 10:14] == camvid32.VOID).all()
    save(victim, np.full_like(colors, 77))
    (tmp_path / camvid32.INDEX / victim.name).unlink()
    assert f"{victim}: 3072 pixels have colors that label_colors.txt does not hold, such as 77 77 77" == refusal(
        "camvid32", tmp_path
    )


def write_sbd(root: Path, names: dict[str, list[str]]) -> None:
    """SBD's folder with a .mat for every name, as its publishers save them: nested structures."""
    scipy_io = pytest.importorskip("scipy.io")
    (root / "cls").mkdir(parents=True)
    for split, some in names.items():
        (root / f"{split}.txt").write_text("\n".join(some) + "\n")
        for name in some:
            labels = draw_labels(sum(map(ord, name)), 21, 48, 64)
            content = {"Segmentation": labels, "Boundaries": np.zeros((20, 1)), "CategoriesPresent": [1, 2]}
            scipy_io.savemat(root / "cls" / f"{name}.mat", {"GTcls": content}, do_compression=True)


def voc_with_sbd(tmp_path: Path) -> Path:
    """VOC's train 2007_0, 2007_1 and val 2008_0, 2008_1; SBD knows two of these and three others, one of them twice."""
    root = write_voc2012aug(tmp_path)
    devkit = root / "VOCdevkit" / "VOC2012"
    for path in (devkit / voc.AUGMENTED).iterdir():
        path.unlink()
    (devkit / voc.AUGMENTED).rmdir()
    (devkit / voc.LISTS / "aug.txt").unlink()
    write_sbd(
        root / "benchmark_RELEASE" / "dataset",
        {"train": ["2007_000001", "2009_000001", "2010_000007"], "val": ["2008_000000", "2011_000003", "2009_000001"]},
    )
    for name in ("2010_000007", "2011_000003"):
        save(devkit / "JPEGImages" / f"{name}.jpg", np.zeros((48, 64, 3), np.uint8))
    return root


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_labels_of_sbd(tmp_path: Path, inside: str) -> None:
    root = voc_with_sbd(tmp_path)
    done = prepare("voc2012aug", root / inside)
    (line,) = done.lines
    assert line == "warning: train of voc2012aug: 5 = 2 + 3 images; the published ones are 10,582 = 1,464 + 9,118"
    dataset = open_dataset("auto", root)
    assert [pair.name for pair in dataset.split("train")] == [
        *("2007_000000", "2007_000001"),
        *("2009_000001", "2010_000007", "2011_000003"),
    ]
    for pair in dataset.split("train")[2:]:
        assert np.array_equal(read_pair(pair, dataset)[1], draw_labels(sum(map(ord, pair.name)), 21, 48, 64))
        with Image.open(pair.mask) as image:
            assert image.mode == "P" and image.getpalette()[3:6] == [128, 0, 0]
    # VOC's own images have VOC's own labels there too, not SBD's.
    folder = root / "VOCdevkit/VOC2012"
    for name in ("2007_000000", "2007_000001"):
        assert np.array_equal(
            read_mask(folder / voc.AUGMENTED / f"{name}.png"), read_mask(folder / voc.MASKS / f"{name}.png")
        )
    assert not (folder / voc.AUGMENTED / "2008_000000.png").exists()


def test_the_published_counts_are_told_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voc, "TRAIN", 2)
    monkeypatch.setattr(voc, "AUG", 3)
    assert prepare("voc2012aug", voc_with_sbd(tmp_path)).lines == ("train of voc2012aug: 5 = 2 + 3 images",)


def test_what_can_be_wrong_with_sbd(tmp_path: Path) -> None:
    root = voc_with_sbd(tmp_path)
    victim = root / "benchmark_RELEASE/dataset/cls/2010_000007.mat"
    whole = victim.read_bytes()
    for content in (b"", b"no matlab", whole[: len(whole) // 2]):
        victim.write_bytes(content)
        assert refusal("voc2012aug", root).startswith(f"{victim}: not a .mat file of SBD with GTcls.Segmentation: ")
    # The list is written last, so that a stopped run is not taken for a finished one.
    assert not (root / "VOCdevkit/VOC2012" / voc.LISTS / "aug.txt").exists()
    victim.unlink()
    assert f"{victim}: no such file; SBD's lists name it" in refusal("voc2012aug", root)
    (root / "benchmark_RELEASE").rename(root / "elsewhere")
    assert "benchmark_RELEASE/dataset/cls: no such folder; unpack benchmark.tgz" in refusal("voc2012aug", root)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_numbers_of_mat_files_are_those_that_were_saved(tmp_path: Path, kind: str, packed: bool) -> None:
    scipy_io, path = pytest.importorskip("scipy.io"), tmp_path / "a.mat"
    values = np.arange(12).reshape(3, 4).astype(kind)
    others = {"Boundaries": np.array([np.eye(2), "x"], object), "CategoriesPresent": [1, 2], "Segmentation": values}
    scipy_io.savemat(path, {"first": np.eye(3), "GTcls": others, "last": "x"}, do_compression=packed)
    found = read_field(path, "GTcls", "Segmentation")
    assert found.dtype == kind and np.array_equal(found, values)
    with pytest.raises(ValueError, match=r"no GTcls\.Boundary in it"):
        read_field(path, "GTcls", "Boundary")
    whole = path.read_bytes()
    for length in range(0, len(whole) - 100, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^(no MATLAB file|cut off|damaged: |no GTcls|it holds|GTcls is no)"):
            read_field(path, "GTcls", "Segmentation")


def test_labels_that_announce_other_sizes_are_refused(tmp_path: Path) -> None:
    scipy_io, path = pytest.importorskip("scipy.io"), tmp_path / "a.mat"
    scipy_io.savemat(path, {"GTcls": {"Segmentation": np.zeros((3, 4), np.uint8)}})
    whole = path.read_bytes()
    for shape in ((2**31 - 1, 2**31 - 1), (-3, -4), (3, 5), (0, 4)):
        path.write_bytes(whole.replace(struct.pack("<ii", 3, 4), struct.pack("<ii", *shape)))
        with pytest.raises(ValueError, match="it holds 12 numbers, but is to be"):
            read_field(path, "GTcls", "Segmentation")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ade20k", "ade20k needs no preparation; look at it with `crisscross data check"),
        ("cityscape", "no preparation for 'cityscape'; did you mean cityscapes"),
        ("cityscapes", "no *_labelIds.png in gtFine/ or gtCoarse/"),
        ("camvid32", "LabeledApproved_full: no such folder"),
        ("voc2012aug", "JPEGImages: no such folder; download VOCtrainval"),
    ],
)
def test_what_cannot_be_prepared(tmp_path: Path, name: str, message: str) -> None:
    assert message in refusal(name, tmp_path)


def test_a_table_of_colors_that_is_missing_or_wrong(tmp_path: Path) -> None:
    table = write_camvid32(tmp_path, 1) / camvid32.COLOR_TABLE
    lines = table.read_text()
    table.write_text(lines.replace("Wall", "Wand"))
    assert f"{table}: no color for Wall" == refusal("camvid32", tmp_path)
    table.write_text("64 128 Animal\n")
    assert "line 1: must be `red green blue name`, got '64 128 Animal'" in refusal("camvid32", tmp_path)
    first = lines.splitlines()[0]
    for line in ("256 0 0 Moon", "1 2 3 Animal", f"{' '.join(first.split()[:3])} Moon"):
        table.write_text(f"{first}\n{line}\n")
        assert f"line 2: name and color must be new, the color of 0..255, got {line!r}" in refusal("camvid32", tmp_path)
    table.unlink()
    assert "label_colors.txt: no such file; it comes with the color labels" in refusal("camvid32", tmp_path)


def test_a_wrong_label_id_is_one_line(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, 3)
    victim = sorted(tmp_path.rglob("*_labelIds.png"))[2]
    save(victim, np.full((48, 64), 40, np.uint8))
    assert f"{victim}: value 40, but the label ids of Cityscapes are 0..33" == refusal("cityscapes", tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cityscapes(tmp_path)
    words = ["data", "prepare", "cityscapes", str(tmp_path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "4 files written, 0 were there already",
        f"next: crisscross data check {tmp_path} --name cityscapes",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("0 files written, 4 were there already\n")
    assert main(["data", "prepare", "lip", str(tmp_path)]) == 2
    assert main(["data", "check", str(tmp_path), "--plot", str(tmp_path / "fractions.png")]) == 0


def test_the_list_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:

    from crisscross.data import DATASETS

    for name, known in DATASETS.items():
        # What people make themselves has no published numbers.
        assert bool(known.published) == bool(known.classes) == (name != "folder")
        assert (known.prepare is None) == (known.when == "not needed")
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("voc2012aug")]
    assert "train 10,582, val 1,449" in row and row.endswith("needed") and " 21 " in row


def test_ctrl_c_leaves_whole_files_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """Stopped in the middle by the terminal's signal to the whole group of processes."""
    ids = np.random.default_rng(0).integers(0, 34, (256, 512)).astype(np.uint8)
    folder = tmp_path / "gtFine" / "train" / "aachen"
    # So many that they are not done before the signal arrives.
    count = 120
    save(folder / "aachen_000000_000019_gtFine_labelIds.png", ids)
    first = folder / "aachen_000000_000019_gtFine_labelIds.png"
    for number in range(1, count):
        os.link(first, folder / f"aachen_{number:06}_000019_gtFine_labelIds.png")
    command = [sys.executable, "-m", "crisscross", "data", "prepare", "cityscapes", str(tmp_path)]
    source = Path(cityscapes.__file__).parents[3]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*TrainIds.png"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues from there" in errors and "Traceback" not in errors
    finished = list(folder.glob("*TrainIds.png"))
    assert 3 <= len(finished) < count
    assert {np.asarray(Image.open(path)).shape for path in finished} == {(256, 512)}
    assert not list(folder.glob(".*.tmp"))
    done = prepare("cityscapes", tmp_path)
    assert (done.written, done.skipped) == (count - len(finished), len(finished))
