"""Masks in the wrong numbers, folders that are missing: one clear line that says what to do, before training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from published_data import save, write_ade20k, write_camvid32, write_cityscapes, write_coco_stuff, write_lip
from published_data import write_voc2012aug as write_voc
from small_data import write_folder

from crisscross.cli import main
from crisscross.data import DataSet, open_dataset
from crisscross.data.check.checks import check, quick_check
from crisscross.data.color import colorise, labels_of_colors
from crisscross.data.files.reading import read_mask, read_pair
from crisscross.data.palette import default_names, default_palette
from crisscross.data.sets import camvid32, voc
from crisscross.errors import CrissCrossError


def refusal(function: Callable, *arguments: object) -> str:
    with pytest.raises(CrissCrossError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def says(dataset: DataSet, split: str, *parts: str) -> None:
    """Reading, the quick check before training and the full check all say this of the first mask of the split."""
    pair, alone = dataset.split(split)[0], replace(dataset, splits={split: dataset.split(split)})
    lines = [
        refusal(read_pair, pair, dataset),
        refusal(quick_check, dataset, [split]),
        *(f"{problem.file}: {problem.text}" for problem in check(alone).problems if problem.file == pair.mask),
    ]
    assert len(lines) == 3
    for line in lines:
        assert line.startswith(f"{pair.mask}: ")
        for part in parts:
            assert part in line


def test_label_ids_in_files_of_train_ids(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    for path in tmp_path.rglob("*_labelIds.png"):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    says(
        open_dataset("auto", tmp_path),
        "val",
        "there are 19 classes (0..18, ignore 255)",
        "these are label ids of Cityscapes, not its train ids: name such files *_labelIds.png",
    )


def test_train_ids_in_files_of_label_ids(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    dataset = open_dataset("auto", tmp_path)
    pair = dataset.split("val")[0]
    save(pair.mask, read_pair(pair, dataset)[1])
    says(dataset, "val", "label 255 at", "these are train ids: such files are called *_labelTrainIds.png")


def test_label_ids_in_a_folder_of_19_classes(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"train": 1, "val": 1})
    (root / "dataset.yaml").write_text("classes: [" + ", ".join(f"c{k}" for k in range(19)) + "]\n")
    save(root / "masks" / "val_0.png", np.arange(24 * 32).reshape(24, 32).astype(np.uint8) % 34)
    says(open_dataset("auto", root), "val", "label 19 at 2", "--name cityscapes")
    # Numbers that are no label ids either say nothing of Cityscapes.
    save(root / "masks" / "val_0.png", np.full((24, 32), 77, np.uint8))
    assert "Cityscapes" not in refusal(quick_check, open_dataset("auto", root), ["val"])


def test_masks_of_ade20k_that_were_reduced_before(tmp_path: Path) -> None:
    write_ade20k(tmp_path)
    dataset = open_dataset("auto", tmp_path)
    save(dataset.split("val")[0].mask, read_pair(dataset.split("val")[0], dataset)[1])
    says(dataset, "val", "label 255 at", "masks of ade20k hold 0..150", "use the original annotations/")
    save(dataset.split("val")[0].mask, np.full((48, 64), 151, np.uint8))
    says(dataset, "val", "label 151 at 3072 pixels, but masks of ade20k hold 0..150; these are not the 150")


def test_ade20k_read_without_its_rule(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"train": 1, "val": 1})
    (root / "dataset.yaml").write_text("classes: [" + ", ".join(f"c{k}" for k in range(150)) + "]\n")
    save(root / "masks" / "val_0.png", np.arange(24 * 32).reshape(24, 32).astype(np.uint8) % 151)
    says(open_dataset("auto", root), "val", "label 150 at", "ADE20K stores 0 for `other`", "data.name=ade20k")


def test_color_masks_of_voc_and_the_way_out(tmp_path: Path) -> None:
    dataset = open_dataset("auto", write_voc(tmp_path))
    pair = dataset.split("val")[0]
    labels = read_mask(pair.mask)
    colors = colorise(labels, voc.PALETTE, (224, 224, 192))
    save(pair.mask, colors)
    says(dataset, "val", "a color mask (mode RGB)", "labels_of_colors")
    # What the line tells to call does it.
    assert np.array_equal(labels_of_colors(colors, voc.PALETTE, {(224, 224, 192): 255}), labels)
    colors[0, 0] = (1, 2, 3)
    assert labels_of_colors(colors, voc.PALETTE)[0, 0] == -1


def test_numbers_that_coco_never_used(tmp_path: Path) -> None:
    dataset = open_dataset("auto", write_coco_stuff(tmp_path))
    mask = read_mask(dataset.split("val")[0].mask)
    mask[20:] = 11
    mask[:4] = 12
    save(dataset.split("val")[0].mask, mask)
    says(dataset, "val", "label 11 at 1792 pixels, but masks of coco-stuff hold 0..10, 12..24, 26..27, 30..43, ")
    # Such pixels are in no count, not even in that of class 11, whose stored number is 12.
    assert dataset.classes[11] == "stop sign"
    stored = [read_mask(pair.mask) for pair in dataset.split("val")]
    assert check(dataset).pixels["val"][11] == sum((mask == 12).sum() for mask in stored) > 0


@pytest.mark.parametrize(
    ("writer", "gone", "name", "message"),
    [
        (write_cityscapes, "leftImg8bit", "cityscapes", "leftImg8bit: no such folder; download leftImg8bit_*.zip"),
        (write_cityscapes, "gtFine", "cityscapes", "gtFine: no such folder; download leftImg8bit_*.zip and gtFine*"),
        (write_cityscapes, "gtFine", "cityscapes-coarse", "gtCoarse: no such folder; download"),
        (write_ade20k, "annotations", "ade20k", "annotations: no such folder; download ADEChallengeData2016.zip"),
        (write_ade20k, "annotations/validation", "ade20k", "annotations/validation: no such folder; download"),
        (write_voc, "VOCdevkit/VOC2012/ImageSets", "voc2012", "train.txt: no such file; it belongs to VOCtrainval"),
        (
            write_voc,
            "VOCdevkit/VOC2012/SegmentationClassAug",
            "voc2012aug",
            "SegmentationClassAug: no such folder; type `crisscross data prepare voc2012aug ",
        ),
        (
            write_voc,
            "VOCdevkit/VOC2012/ImageSets/Segmentation/aug.txt",
            "voc2012aug",
            "aug.txt: no such file; type `crisscross data prepare voc2012aug ",
        ),
        (write_voc, "VOCdevkit", "voc2012", "JPEGImages: no such folder; download VOCtrainval"),
        (write_lip, "val_segmentations", "lip", "val_segmentations: no such folder; unpack the single-person LIP"),
        (write_camvid32, camvid32.RELEASE, "camvid32", "701_StillsRaw_full: no such folder; unpack 701_StillsRaw"),
        (write_camvid32, camvid32.INDEX, "camvid", "type `crisscross data prepare camvid32 "),
        (write_coco_stuff, "images", "coco-stuff", "images/val2017: no such folder; unpack COCO's val2017.zip"),
        (write_coco_stuff, "stuffthingmaps", "coco-stuff", "or type `crisscross data prepare coco-stuff "),
    ],
)
def test_what_is_missing_is_named_with_the_way_to_it(
    tmp_path: Path, writer, gone: str, name: str, message: str
) -> None:
    root = writer(tmp_path / "data")
    (root / gone).rename(tmp_path / "gone")
    assert message in refusal(open_dataset, name, root)


@pytest.mark.parametrize(
    ("writer", "gone", "split", "message"),
    [
        (write_cityscapes, "gtFine/val", "val", "no split 'val'; this data set has train (no test: leftImg8bit/test,"),
        (write_cityscapes, "gtFine/val", "val", "; no val: gtFine/val not there)"),
        (write_ade20k, "images/training", "train", "this data set has val (no train: images/training not there)"),
        (write_lip, "train_images", "train", "(no train: train_images not there)"),
        (write_coco_stuff, "images/train2017", "train", "(no train: train2017 not there)"),
    ],
)
def test_a_split_without_its_folder(tmp_path: Path, writer, gone: str, split: str, message: str) -> None:
    root = writer(tmp_path / "data")
    (root / gone).rename(tmp_path / "gone")
    assert message in refusal(open_dataset("auto", root).split, split)


def test_a_clip_with_other_codes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "codes.txt").write_text("Road\nSky\n")
    assert "codes.txt: must list the 32 CamVid classes" in refusal(open_dataset, "camvid32", tmp_path)


def test_a_color_table_is_no_class_map() -> None:
    palette = default_palette(default_names(30))
    labels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    assert np.array_equal(labels_of_colors(colorise(labels, palette), palette), labels)


@pytest.mark.parametrize(
    "writer", [write_cityscapes, write_ade20k, write_voc, write_lip, write_camvid32, write_coco_stuff]
)
def test_the_command_check_on_every_layout(tmp_path: Path, writer, capsys: pytest.CaptureFixture[str]) -> None:
    root = writer(tmp_path / "data", 1)
    assert main(["data", "check", str(root), "--plot", str(tmp_path / "fractions.png")]) == 0
    assert "errors: 0" in capsys.readouterr().out
    assert (tmp_path / "fractions.png").is_file()


def test_other_kinds_of_labels_are_no_masks_without_image(tmp_path: Path) -> None:
    city = write_cityscapes(tmp_path / "city")
    for path in list(city.rglob("*_labelIds.png")):
        path.with_name(path.name.replace("labelIds", "color")).write_bytes(path.read_bytes())
    devkit = write_voc(tmp_path / "voc") / "VOCdevkit" / "VOC2012"
    for path in (devkit / voc.MASKS).glob("2007_*.png"):
        (devkit / voc.AUGMENTED / path.name).write_bytes(path.read_bytes())
    for root in (city, tmp_path / "voc"):
        assert "without image" not in str(check(open_dataset("auto", root)).problems)
    # What is about no image at all is still told.
    name = "frankfurt_000077_000019_gtFine_labelIds.png"
    save(city / "gtFine" / "val" / "frankfurt" / name, np.zeros((4, 4), np.uint8))
    assert f"1 mask without image: val/frankfurt/{name}" in str(check(open_dataset("auto", city)).problems)
    save(devkit / voc.AUGMENTED / "2020_000001.png", np.zeros((4, 4), np.uint8))
    assert "1 mask without image: 2020_000001.png" in str(check(open_dataset("auto", tmp_path / "voc")).problems)
