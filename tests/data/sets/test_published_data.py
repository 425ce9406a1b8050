"""The published data sets: tables by hand, layouts on drawn miniatures, real samples where they lie near."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import SHARED
from PIL import Image
from published_data import (
    draw_labels,
    save,
    write_ade20k,
    write_camvid32,
    write_cityscapes,
    write_coco_stuff,
    write_lip,
    write_voc2012aug,
)

from crisscross.config import AugmentConfig, Experiment, apply_overrides
from crisscross.data import DATASETS, DataSet, open_dataset
from crisscross.data.check.checks import check, quick_check
from crisscross.data.files.reading import read_pair
from crisscross.data.palette import voc_palette
from crisscross.data.samples.loader import TrainingSamples
from crisscross.data.samples.transforms import augment
from crisscross.data.sets import ade20k, camvid, camvid32, cityscapes, coco_stuff, lip, voc
from crisscross.engine.semantic.settle import with_classes
from crisscross.errors import CrissCrossError

REAL = SHARED / "data"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real samples beside this repository (../shared/data)")

WRITERS: dict[str, Callable[..., Path]] = {
    "cityscapes": write_cityscapes,
    "cityscapes-coarse": lambda root: write_cityscapes(root, kind="gtCoarse"),
    "ade20k": write_ade20k,
    "voc2012aug": write_voc2012aug,
    "lip": write_lip,
    "camvid32": write_camvid32,
    "coco-stuff": write_coco_stuff,
}


def refusal(function: Callable, *arguments: object) -> str:
    with pytest.raises(CrissCrossError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Entries copied by hand from the sources that the data sets' own pages and tools print.
@pytest.mark.parametrize(
    ("module", "count", "entries"),
    [
        (
            cityscapes,
            19,
            {
                0: ("road", (128, 64, 128)),
                1: ("sidewalk", (244, 35, 232)),
                6: ("traffic light", (250, 170, 30)),
                13: ("car", (0, 0, 142)),
                18: ("bicycle", (119, 11, 32)),
            },
        ),
        (
            ade20k,
            150,
            {
                0: ("wall", (120, 120, 120)),
                1: ("building", (180, 120, 120)),
                7: ("bed", (204, 5, 255)),
                20: ("car", (0, 102, 200)),
                44: ("chest of drawers", (6, 51, 255)),
                89: ("television receiver", (0, 255, 194)),
                149: ("flag", (92, 0, 255)),
            },
        ),
        (
            voc,
            21,
            {
                0: ("background", (0, 0, 0)),
                1: ("aeroplane", (128, 0, 0)),
                11: ("diningtable", (192, 128, 0)),
                15: ("person", (192, 128, 128)),
                20: ("tvmonitor", (0, 64, 128)),
            },
        ),
        (
            lip,
            20,
            {
                0: ("Background", (0, 0, 0)),
                4: ("Sunglasses", (170, 0, 51)),
                14: ("Left-arm", (51, 170, 221)),
                15: ("Right-arm", (0, 255, 255)),
                19: ("Right-shoe", (255, 170, 0)),
            },
        ),
        (
            camvid32,
            32,
            {
                0: ("Animal", (64, 128, 64)),
                8: ("Column_Pole", (192, 192, 128)),
                17: ("Road", (128, 64, 128)),
                30: ("Void", (0, 0, 0)),
                31: ("Wall", (64, 192, 0)),
            },
        ),
        (
            coco_stuff,
            171,
            {
                0: ("person", (128, 0, 0)),
                2: ("car", (128, 128, 0)),
                79: ("toothbrush", (32, 64, 0)),
                80: ("banner", (160, 64, 0)),
                170: ("wood", (192, 160, 64)),
            },
        ),
    ],
)
def test_names_and_colors_by_hand(module, count: int, entries: dict) -> None:
    assert len(module.CLASSES) == len(module.PALETTE) == len(set(module.CLASSES)) == count
    assert not [name for name in module.CLASSES if name != name.strip()]
    for number, entry in entries.items():
        assert (module.CLASSES[number], module.PALETTE[number]) == entry


def test_the_bit_rule_of_pascal_voc() -> None:
    # 183 is 0b10110111. Red takes bits 0, 3, 6 = 1, 0, 0; green bits 1, 4, 7 = 1, 1, 1; blue bits 2, 5 = 1, 1.
    assert voc_palette(256)[183] == (0b10000000, 0b11100000, 0b11000000)
    assert voc_palette(256)[255] == (224, 224, 192)
    assert len(set(voc_palette(256))) == 256


def test_the_table_of_cityscapes_is_the_official_one() -> None:
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    official = {label.id: label.trainId for label in labels if label.id >= 0}
    assert {stored: cityscapes.TRAIN_ID_OF[stored] for stored in official} == official
    named = {label.trainId: (label.name, label.color) for label in labels if 0 <= label.trainId < 255}
    assert list(zip(cityscapes.CLASSES, cityscapes.PALETTE, strict=True)) == [named[number] for number in range(19)]


def test_stored_values_of_coco_stuff() -> None:
    # COCO's own numbers: 1 person, 13 stop sign (12 was never labeled), 90 toothbrush, 92 banner, 182 wood.
    numbers = {"person": 1, "fire hydrant": 11, "stop sign": 13, "toothbrush": 90, "banner": 92, "wood": 182}
    assert {name: coco_stuff.STORED[coco_stuff.CLASSES.index(name)] + 1 for name in numbers} == numbers
    assert len(coco_stuff.LABELS) == 172
    assert (len(coco_stuff.THINGS), len(coco_stuff.STUFF)) == (80, 91)


def test_the_32_labels_of_camvid_fall_into_11() -> None:
    assert tuple(camvid32.GROUPS) == camvid.CLASSES
    assert sorted(camvid32.TO_11) == list(range(32))
    expected = {"Truck_Bus": "car", "LaneMkgsDriv": "road", "TrafficLight": "sign", "Wall": "building"}
    for name, group in expected.items():
        assert camvid.CLASSES[camvid32.TO_11[camvid32.CLASSES.index(name)]] == group
    assert [number for number, group in camvid32.TO_11.items() if group == 255] == [30, 14]
    assert (camvid32.CLASSES[14], camvid32.CLASSES[30]) == ("OtherMoving", "Void")


@pytest.mark.parametrize("name", WRITERS)
def test_layouts_are_recognized_and_read_back(tmp_path: Path, name: str) -> None:
    dataset = open_dataset("auto", WRITERS[name](tmp_path))
    assert dataset.name == name and name in DATASETS
    classes = len(dataset.classes)
    step = {"ade20k": 17, "coco-stuff": 19}.get(name, 1)
    # Which drawing each pair is: in the order of the writers.
    drawn = {"voc2012aug": {"train": (0, 1, 4, 5), "val": (2, 3)}, "cityscapes-coarse": {"train_extra": (4, 5)}}
    places = {"train": (0, 1), "val": (2, 3)} | drawn.get(name, {})
    assert {split: len(pairs) for split, pairs in dataset.splits.items()} == {
        split: len(numbers) for split, numbers in places.items()
    }
    for split, numbers in places.items():
        for pair, number in zip(dataset.splits[split], numbers, strict=True):
            image, mask = read_pair(pair, dataset)
            expected = draw_labels(step * number, classes, 48, 64)
            if name == "camvid32":
                expected[expected == 30] = 255
            assert image.shape == (48, 64, 3)
            assert np.array_equal(mask, expected)
    quick_check(dataset, places)
    report = check(dataset)
    assert report.errors == 0 and "(Void)" not in str(report.problems)
    # Three of 48 rows; one block of CamVid's Void in each of the two images, one of them below those rows.
    void = {"camvid32": (64 + 64) / (2 * 48 * 64)}.get(name, 0)
    assert report.ignored_fraction("train") == pytest.approx(3 / 48 + void)


def test_maps_of_coco_stuff_where_their_publishers_unpack_them(tmp_path: Path) -> None:
    wanted = open_dataset("auto", write_coco_stuff(tmp_path))
    (tmp_path / "stuffthingmaps").rename(tmp_path / "annotations")
    found = open_dataset("auto", tmp_path)
    for split in ("train", "val"):
        for one, other in zip(found.split(split), wanted.split(split), strict=True):
            assert other.mask == tmp_path / "stuffthingmaps" / one.mask.relative_to(tmp_path / "annotations")
            assert one.mask.is_file()


def test_train_ids_are_preferred_once_all_are_there(tmp_path: Path) -> None:
    dataset = open_dataset("cityscapes", write_cityscapes(tmp_path))
    wanted = {pair.name: read_pair(pair, dataset)[1] for pairs in dataset.splits.values() for pair in pairs}
    for pairs in dataset.splits.values():
        for pair in pairs:
            assert pair.mask.name == f"{pair.name}_gtFine_labelIds.png"
            save(pair.mask.with_name(f"{pair.name}_gtFine_labelTrainIds.png"), wanted[pair.name])
    prepared = open_dataset("cityscapes", tmp_path)
    assert prepared.labels is None
    for pairs in prepared.splits.values():
        for pair in pairs:
            assert pair.mask.name.endswith("labelTrainIds.png")
            assert np.array_equal(read_pair(pair, prepared)[1], wanted[pair.name])
    # One that is missing, as after a stopped conversion, and label ids serve again.
    prepared.split("val")[0].mask.unlink()
    assert open_dataset("cityscapes", tmp_path).labels is not None


def test_the_test_split_of_cityscapes_opens_with_its_dummies(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    stem = "berlin_000000_000019"
    save(tmp_path / "leftImg8bit/test/berlin" / f"{stem}_leftImg8bit.png", np.zeros((8, 8, 3), np.uint8))
    assert "test" not in open_dataset("cityscapes", tmp_path).splits
    save(tmp_path / "gtFine/test/berlin" / f"{stem}_gtFine_labelIds.png", np.full((8, 8), 3, np.uint8))
    dataset = open_dataset("cityscapes", tmp_path)
    assert (read_pair(dataset.split("test")[0], dataset)[1] == 255).all()
    # Where train and val have train ids and test has none, the two kinds are not mixed.
    for split in ("train", "val"):
        for pair in dataset.split(split):
            save(pair.mask.with_name(pair.mask.name.replace("labelIds", "labelTrainIds")), read_pair(pair, dataset)[1])
            pair.mask.unlink()
    mixed = open_dataset("cityscapes", tmp_path)
    assert list(mixed.splits) == ["train", "val"]
    assert mixed.note == "test is left out: it has no labelTrainIds.png"


def test_voc_alone_beside_its_augmented_form(tmp_path: Path) -> None:
    write_voc2012aug(tmp_path)
    for root in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit" / "VOC2012"):
        plain, augmented = open_dataset("voc2012", root), open_dataset("auto", root)
        assert [pair.mask.parent.name for pair in plain.split("train")] == ["SegmentationClass"] * 2
        assert [pair.mask.parent.name for pair in augmented.split("train")] == [
            *["SegmentationClass"] * 2,
            *["SegmentationClassAug"] * 2,
        ]
        assert augmented.name == "voc2012aug"
    lists = tmp_path / "VOCdevkit" / "VOC2012" / voc.LISTS
    (lists / "trainval.txt").write_text((lists / "train.txt").read_text() + (lists / "val.txt").read_text())
    whole = open_dataset("voc2012", tmp_path)
    assert {split: len(pairs) for split, pairs in whole.splits.items()} == {"train": 2, "val": 2, "trainval": 4}
    # One split holds the two others by design, which is no leak.
    assert check(whole).errors == 0
    quick_check(whole, ["train", "val"])


@pytest.mark.parametrize("line", ["{}", "/JPEGImages/{}.jpg /SegmentationClassAug/{}.png"])
def test_lists_of_all_augmented_images_as_others_hand_out(tmp_path: Path, line: str) -> None:
    root = write_voc2012aug(tmp_path)
    wanted = open_dataset("auto", root).split("train")
    lists = root / "VOCdevkit" / "VOC2012" / voc.LISTS
    (lists / "aug.txt").unlink()
    (lists / "trainaug.txt").write_text("\n".join(line.format(pair.name, pair.name) for pair in wanted))
    assert open_dataset("auto", root).split("train") == wanted


def test_the_eleven_classes_of_the_full_resolution_labels(tmp_path: Path) -> None:
    fine = open_dataset("auto", write_camvid32(tmp_path))
    coarse = open_dataset("camvid", tmp_path)
    assert (fine.name, coarse.name, coarse.classes) == ("camvid32", "camvid", camvid.CLASSES)
    for first, second in zip(fine.split("train"), coarse.split("train"), strict=True):
        masks = read_pair(first, fine)[1], read_pair(second, coarse)[1]
        for number, name in enumerate(camvid.CLASSES):
            members = [camvid32.CLASSES.index(member) for member in camvid32.GROUPS[name]]
            assert np.array_equal(masks[1] == number, np.isin(masks[0], members))
        assert np.array_equal(masks[1] == 255, np.isin(masks[0], (14, 255)))


def test_lists_of_lip_and_camvid_choose_the_images(tmp_path: Path) -> None:
    write_lip(tmp_path / "lip")
    (tmp_path / "lip" / "train_id.txt").write_text("101_4000\n")
    assert [pair.name for pair in open_dataset("lip", tmp_path / "lip").split("train")] == ["101_4000"]
    write_camvid32(tmp_path / "camvid")
    (tmp_path / "camvid" / "train.txt").write_text("0016E5_007961.png\n")
    assert {s: len(p) for s, p in open_dataset("camvid32", tmp_path / "camvid").splits.items()} == {"train": 1}
    (tmp_path / "camvid" / "train.txt").write_text("nobody.png\n")
    assert "no image named 'nobody'" in refusal(open_dataset, "camvid32", tmp_path / "camvid")


def test_flipping_swaps_left_and_right() -> None:
    y, x = np.mgrid[:4, :20]
    mask = torch.from_numpy(np.where(y == 3, 255, x).astype(np.uint8))
    config = AugmentConfig(ratio=(1, 1), crop=(4, 20), flip=1.0, distortion=False, max_fraction=1)
    image = mask[None].expand(3, -1, -1).contiguous()
    flipped, labels = augment(image, mask, config, 255, torch.Generator(), lip.FLIP_PAIRS)
    assert labels[0].tolist() == [18, 19, 16, 17, 14, 15, *range(13, -1, -1)]
    assert labels[3].tolist() == [255] * 20
    assert flipped[0, 0].tolist() == list(range(19, -1, -1))
    # No flip, no swap; and without pairs the labels only move.
    assert torch.equal(
        augment(
            image,
            mask,
            AugmentConfig(ratio=(1, 1), crop=(4, 20), flip=0.0, distortion=False, max_fraction=1),
            255,
            torch.Generator(),
            lip.FLIP_PAIRS,
        )[1],
        mask,
    )
    assert torch.equal(augment(image, mask, config, 255, torch.Generator())[1], mask.flip(1))


def experiment(**changes: object) -> Experiment:
    still = {"augment.ratio": [1.0, 1.0], "augment.distortion": False, "augment.max_fraction": 1.0}
    return apply_overrides(Experiment(), {**still, **changes})


def test_training_samples_take_the_pairs_of_the_data_set(tmp_path: Path) -> None:
    dataset = open_dataset("lip", write_lip(tmp_path))
    chosen = with_classes(experiment(**{"augment.flip": 1.0, "augment.crop": [48, 64]}), dataset)
    assert chosen.data.flip_pairs == ((14, 15), (16, 17), (18, 19))
    samples = TrainingSamples(dataset, dataset.split("train"), chosen)
    mask = read_pair(samples.pair_at(0), dataset)[1][:, ::-1]
    swapped = mask.copy()
    for left, right in ((14, 15), (16, 17), (18, 19)):
        swapped[mask == left], swapped[mask == right] = right, left
    assert (swapped != mask).any()
    assert np.array_equal(samples[0][1].numpy(), swapped)


@pytest.mark.parametrize(("pad", "value"), [("mean", 0.0), ("black", -123.675 / 58.395)])
def test_padding_before_and_after_normalization(tmp_path: Path, pad: str, value: float) -> None:
    dataset = open_dataset("lip", write_lip(tmp_path))
    chosen = experiment(**{"augment.pad": pad, "augment.crop": [60, 70], "augment.flip": 0.0})
    image, labels, _ = TrainingSamples(dataset, dataset.split("train"), chosen)[0]
    assert image.shape == (3, 60, 70)
    outside = torch.ones(60, 70, dtype=torch.bool)
    outside[:48, :64] = False
    assert torch.allclose(image[0][outside], torch.tensor(value), atol=1e-6)
    assert (labels[outside] == 255).all()
    assert not (labels[~outside] == 255).all()


@needs_real
def test_the_splits_of_camvid_by_frame_number() -> None:
    for split in ("train", "val", "test"):
        names = [Path(line).stem for line in (REAL / "camvid" / f"{split}.txt").read_text().split()]
        assert len(names) in (367, 101, 233)
        assert {camvid32.split_of(name) for name in names} == {split}


@needs_real
def test_the_real_clip_agrees_with_the_eleven_class_labels() -> None:
    """The same frames lie near with 11 classes at half the size, made by other people."""
    clip, small = open_dataset("camvid", REAL / "camvid_fullres_clip"), open_dataset("camvid", REAL / "camvid")
    assert open_dataset("auto", REAL / "camvid_fullres_clip").name == "camvid32"
    known = {pair.name: pair for pairs in small.splits.values() for pair in pairs}
    for pair in clip.split("train"):
        mask, other = read_pair(pair, clip)[1], read_pair(known[pair.name], small)[1]
        # Which of every four pixels the others kept is not known.
        assert max((mask[y::2, x::2] == other).mean() for y in (0, 1) for x in (0, 1)) > 0.995


@needs_real
@pytest.mark.parametrize(
    ("name", "folder", "split", "count"), [("ade20k", "ade20k30", "val", 30), ("lip", "lip", "val", 1)]
)
def test_real_samples(name: str, folder: str, split: str, count: int) -> None:
    dataset: DataSet = open_dataset("auto", REAL / folder)
    assert dataset.name == name and len(dataset.split(split)) == count
    assert check(dataset).errors == 0


@needs_real
def test_a_real_voc_mask(tmp_path: Path) -> None:
    for folder in ("JPEGImages", "SegmentationClass"):
        (tmp_path / folder).symlink_to(REAL / "voc2" / folder)
    assert "train.txt: no such file; it belongs to VOCtrainval" in refusal(open_dataset, "voc2012", tmp_path)
    alone = open_dataset("auto", tmp_path)
    assert (alone.name, alone.classes) == ("folder", ("class 0", "class 9", "class 12"))
    (tmp_path / voc.LISTS).mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / voc.LISTS / f"{split}.txt").write_text("2007_000063\n")
    dataset = open_dataset("auto", tmp_path)
    pair = dataset.split("val")[0]
    # A dog on a chair, and the border.
    assert set(np.unique(read_pair(pair, dataset)[1])) == {0, 9, 12, 255}
    with Image.open(pair.mask) as image:
        stored = np.reshape(image.getpalette(), (-1, 3))
    assert stored[:21].tolist() == [list(color) for color in voc.PALETTE]
