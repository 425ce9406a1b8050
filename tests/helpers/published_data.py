"""The published data sets in miniature, drawn by formula, each in its own layout. No file of theirs is copied.

Every writer takes (root, count, height, width), writes `count` images for train and for val (and for what else the
layout needs), and returns the folder to open. Every mask holds several classes and some ignored pixels.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crisscross.data.palette import voc_palette
from crisscross.data.sets import ade20k, camvid32, cityscapes, coco_stuff, lip, voc

# The rows of every mask that count nowhere.
IGNORED_ROWS = 3


def draw_labels(index: int, classes: int, height: int, width: int) -> np.ndarray:
    """uint8 [H, W]: class numbers in blocks of 8 x 8; the top rows are 255."""
    y, x = np.mgrid[:height, :width]
    labels = ((x // 8 + 9 * (y // 8) + 5 * index) % classes).astype(np.uint8)
    labels[:IGNORED_ROWS] = 255
    return labels


def draw_image(labels: np.ndarray, index: int) -> np.ndarray:
    """uint8 RGB [H, W, 3]: a color for each class under a slow wave, so that there is something to learn."""
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    wave = (24 * np.sin(x / 9 + index) * np.cos(y / 7))[..., None]
    return (np.array(voc_palette(256))[(labels.astype(int) + 1) % 256] * 0.8 + 24 + wave).clip(0, 255).astype(np.uint8)


def save(path: Path, array: np.ndarray, colors: tuple[tuple[int, int, int], ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if colors:
        image.putpalette([channel for color in colors for channel in color])
    image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def stored(labels: np.ndarray, values: dict[int, int]) -> np.ndarray:
    """The labels as a data set stores them: each class and 255 by the value of `values`."""
    table = np.zeros(256, np.uint8)
    for number, value in values.items():
        table[number] = value
    return table[labels]


def write_cityscapes(root: Path, count: int = 2, height: int = 48, width: int = 64, kind: str = "gtFine") -> Path:
    """Label ids, as downloaded; ignored pixels are `ego vehicle` (1)."""
    values = dict(enumerate(cityscapes.LABEL_IDS)) | {255: 1}
    cities = {"train": "aachen", "val": "frankfurt"} | ({"train_extra": "bayreuth"} if kind == "gtCoarse" else {})
    for place, (split, city) in enumerate(cities.items()):
        for number in range(count):
            labels = draw_labels(place * count + number, 19, height, width)
            name = f"{city}_{number:06}_000019"
            save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", draw_image(labels, number))
            save(root / kind / split / city / f"{name}_{kind}_labelIds.png", stored(labels, values))
    return root


def write_ade20k(root: Path, count: int = 2, height: int = 48, width: int = 64) -> Path:
    """0 is `other`, 1..150 are the classes."""
    values = {number: number + 1 for number in range(150)} | {255: 0}
    for place, (split, folder) in enumerate(ade20k.FOLDERS.items()):
        for number in range(count):
            labels = draw_labels(17 * (place * count + number), 150, height, width)
            name = f"ADE_{split}_{number + 1:08}"
            save(root / "images" / folder / f"{name}.jpg", draw_image(labels, number))
            save(root / "annotations" / folder / f"{name}.png", stored(labels, values))
    return root


def write_voc2012aug(root: Path, count: int = 2, height: int = 48, width: int = 64) -> Path:
    """VOCdevkit/VOC2012 with palette masks, and as many images again with gray masks of SBD."""
    voc2012 = root / "VOCdevkit" / "VOC2012"
    for place, (split, masks) in enumerate({"train": voc.MASKS, "val": voc.MASKS, "aug": voc.AUGMENTED}.items()):
        names = [f"{2007 + place}_{number:06}" for number in range(count)]
        for number, name in enumerate(names):
            labels = draw_labels(place * count + number, 21, height, width)
            save(voc2012 / "JPEGImages" / f"{name}.jpg", draw_image(labels, number))
            save(voc2012 / masks / f"{name}.png", labels, voc_palette(256) if masks == voc.MASKS else ())
        (voc2012 / voc.LISTS).mkdir(parents=True, exist_ok=True)
        (voc2012 / voc.LISTS / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return root


def write_lip(root: Path, count: int = 2, height: int = 48, width: int = 64) -> Path:
    """Every second image is grayscale, as some of LIP's are."""
    for place, split in enumerate(lip.PUBLISHED):
        for number in range(count):
            labels = draw_labels(place * count + number, 20, height, width)
            image = draw_image(labels, number)
            name = f"{100 + number}_{4000 + place}"
            save(root / f"{split}_images" / f"{name}.jpg", image[..., 1] if number % 2 else image)
            save(root / f"{split}_segmentations" / f"{name}.png", labels)
    return root


def write_camvid32(root: Path, count: int = 2, height: int = 48, width: int = 64) -> Path:
    """The release: images and color labels; and the index labels that `data prepare` makes of them."""
    colors = np.array(camvid32.PALETTE, np.uint8)
    for place, (sequence, start) in enumerate({"0001TP": 6690, "0016E5": 7959}.items()):
        for number in range(count):
            labels = draw_labels(place * count + number, 32, height, width)
            labels[labels == 255] = camvid32.VOID
            name = f"{sequence}_{start + number * (30, 2)[place]:06}"
            save(root / camvid32.RELEASE / f"{name}.png", draw_image(labels, number))
            save(root / camvid32.COLORS / f"{name}_L.png", colors[labels])
            save(root / camvid32.INDEX / f"{name}_L.png", labels)
    return root


def write_coco_stuff(root: Path, count: int = 2, height: int = 48, width: int = 64) -> Path:
    """The maps of things and stuff: COCO's number minus 1, and 255."""
    values = dict(enumerate(coco_stuff.STORED)) | {255: 255}
    for place, folder in enumerate(coco_stuff.SPLITS.values()):
        for number in range(count):
            labels = draw_labels(19 * (place * count + number), 171, height, width)
            name = f"{place * 1000 + number + 1:012}"
            save(root / "images" / folder / f"{name}.jpg", draw_image(labels, number))
            save(root / coco_stuff.MASKS / folder / f"{name}.png", stored(labels, values))
    return root


def draw_camvid(root: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    for number, split in enumerate(splits):
        (root / split).mkdir(parents=True)
        (root / f"{split}annot").mkdir()
        for name in ("b", "a"):
            labels = ((np.arange(48) + number) % 12).astype(np.uint8).reshape(6, 8)
            Image.fromarray(labels).save(root / f"{split}annot" / f"{split}_{name}.png")
            Image.fromarray(np.repeat(labels[..., None] * 20, 3, axis=2)).save(root / split / f"{split}_{name}.jpg")
        (root / split / "._hidden.jpg").touch()
    return root


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
