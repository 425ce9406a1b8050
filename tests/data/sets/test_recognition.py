"""Folders in the layout of a published data set: the data set itself, or one of someone else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from published_data import (
    draw_camvid,
    save,
    write_ade20k,
    write_camvid32,
    write_cityscapes,
    write_coco_stuff,
    write_lip,
    write_voc2012aug,
)

from crisscross.cli import main
from crisscross.data import DATASETS, open_dataset
from crisscross.data.palette import voc_palette
from crisscross.data.sets import voc

THREE = np.zeros((20, 30), np.uint8)
THREE[5:15, 8:22] = 1
THREE[:4] = 2
# Where each data set has its images and masks, and what else makes up the layout.
LAYOUTS: dict[str, tuple[list[tuple[str, str]], dict[str, str]]] = {
    "voc2012": (
        [("JPEGImages/2007_{:06}.jpg", "SegmentationClass/2007_{:06}.png")],
        {f"ImageSets/Segmentation/{split}.txt": f"2007_00000{n}\n" for n, split in enumerate(("train", "val"))},
    ),
    "camvid": ([(f"{split}/{{}}.png", f"{split}annot/{{}}.png") for split in ("train", "val")], {}),
    "cityscapes": (
        [
            (f"leftImg8bit/{split}/a/a_{{}}_leftImg8bit.png", f"gtFine/{split}/a/a_{{}}_gtFine_labelIds.png")
            for split in ("train", "val")
        ],
        {},
    ),
    "lip": ([(f"{split}_images/{{}}.jpg", f"{split}_segmentations/{{}}.png") for split in ("train", "val")], {}),
    "ade20k": (
        [
            (f"images/{folder}/ADE_{{}}.jpg", f"annotations/{folder}/ADE_{{}}.png")
            for folder in ("training", "validation")
        ],
        {},
    ),
    "coco-stuff": (
        [
            (f"images/{folder}/{split}{{}}.jpg", f"annotations/{folder}/{split}{{}}.png")
            for split, folder in (("a", "train2017"), ("b", "val2017"))
        ],
        {},
    ),
}


def draw(root: Path, name: str, mask: np.ndarray, palette: list[tuple[int, int, int]] | None = None) -> Path:
    """A folder in the layout of a data set, all of whose masks are this one."""
    pairs, texts = LAYOUTS[name]
    for images, masks in pairs:
        for number in range(2):
            noise = np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)
            save(root / images.format(number), noise)
            save(root / masks.format(number), mask, palette or ())
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.parametrize("name", LAYOUTS)
def test_own_classes_in_the_layout_of_a_data_set(tmp_path: Path, name: str) -> None:
    assert open_dataset("auto", draw(tmp_path, name, THREE)).name == name
    (tmp_path / "class_names.txt").write_text("background\nplane\ndog\n")
    listed = open_dataset("auto", tmp_path)
    assert (listed.name, listed.classes) == ("folder", ("background", "plane", "dog"))
    # The data set's own classes in another spelling, and one more, as official lists have.
    classes = [name.upper().replace(" ", "_") for name in DATASETS[name].classes]
    (tmp_path / "class_names.txt").write_text("\n".join([*classes, "unlabeled"]))
    assert open_dataset("auto", tmp_path).name == name


@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_that_cannot_be_those_of_the_data_set(tmp_path: Path, name: str) -> None:
    binary = open_dataset("auto", draw(tmp_path / "binary", name, (THREE == 1).astype(np.uint8) * 255))
    assert (binary.name, binary.classes) == ("folder", ("background", "foreground"))
    colored = open_dataset("auto", draw(tmp_path / "colored", name, np.array(voc_palette(3), np.uint8)[THREE]))
    assert (colored.name, colored.classes) == ("folder", ("#000000", "#008000", "#800000"))


def test_values_and_palettes_that_are_not_those_of_voc(tmp_path: Path) -> None:
    assert open_dataset("auto", draw(tmp_path / "values", "voc2012", THREE * 20)).name == "folder"
    assert open_dataset(
        "auto", draw(tmp_path / "palette", "voc2012", THREE, [(0, 0, 0), (9, 8, 7), (1, 2, 3)])
    ).name == ("folder")
    assert open_dataset("auto", draw(tmp_path / "same", "voc2012", THREE, list(voc_palette(256)))).name == "voc2012"


def test_annotations_of_objects_alone_are_not_coco_stuff(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{}")
    assert not DATASETS["coco-stuff"].recognize(tmp_path)
    (tmp_path / "annotations" / "stuff_val2017.json").write_text("{}")
    assert DATASETS["coco-stuff"].recognize(tmp_path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "camvid": draw_camvid,
    "cityscapes": write_cityscapes,
    "cityscapes-coarse": lambda root: write_cityscapes(root, kind="gtCoarse"),
    "voc2012aug": write_voc2012aug,
    "lip": write_lip,
    "camvid32": write_camvid32,
    "ade20k": write_ade20k,
    "coco-stuff": write_coco_stuff,
}


@pytest.mark.parametrize("name", WRITERS)
def test_init_claims_what_check_accepts(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    WRITERS[name](root)
    assert main(["data", "init", str(root)]) == 0
    assert f"{root}: {name}, which is read as it is, without dataset.yaml" in capsys.readouterr().out
    assert main(["data", "check", str(root)]) == 0
    open_dataset("auto", root).split("train")[0].mask.write_bytes(b"")
    assert main(["data", "init", str(root)]) == main(["data", "check", str(root)]) == 2


def test_voc_without_its_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_voc2012aug(tmp_path) / "VOCdevkit" / "VOC2012"
    for path in (root / voc.AUGMENTED).iterdir():
        path.unlink()
    (root / voc.AUGMENTED).rmdir()
    (root / "ImageSets").rename(tmp_path / "gone")
    dataset = open_dataset("auto", root)
    # Six images, of which two have no mask here: most of VOC's images have boxes alone.
    assert {split: len(pairs) for split, pairs in dataset.splits.items()} == {"train": 3, "val": 1}
    assert dataset.name == "folder" and "2 images have no annotation and are left out" in dataset.note
    assert main(["data", "init", str(root)]) == 0
    assert "next: crisscross data check" in capsys.readouterr().out
    assert main(["data", "check", str(root)]) == 0


def test_init_says_that_images_lack_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(3):
        Image.fromarray(THREE * 50).save(tmp_path / "images" / f"{number}.png")
    Image.fromarray(THREE).save(tmp_path / "masks" / "0.png")
    assert main(["data", "init", str(tmp_path), "--dry-run"]) == 0
    assert "2 of 3 images have no mask (" in capsys.readouterr().out
    for number in (1, 2):
        (tmp_path / "images" / f"{number}.png").unlink()
    assert main(["data", "init", str(tmp_path), "--dry-run"]) == 0
    assert "no image is left for val" in capsys.readouterr().out
