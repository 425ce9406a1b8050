"""Which images of a data set's folder are to be labeled: its images, not its masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crisscross.data import open_dataset
from crisscross.data.layouts.photos import without_masks
from crisscross.errors import CrissCrossError

# Files of a folder; those that are left out begin with "-".
FOLDERS = {
    "plain": ("images/a.png images/day/b.png -masks/a.png -masks/day/b.png", ["masks"]),
    "suffix": ("img/a.jpg -labels/a_mask.png", ["labels"]),
    "splits": ("images/train/a.jpg -masks/train/a.png images/test/b.jpg", ["masks/train"]),
    "splits first": ("train/images/a.jpg -train/masks/a.png", ["train/masks"]),
    "camvid": ("train/a.png -trainannot/a.png", ["trainannot"]),
    "cityscapes": (
        "leftImg8bit/val/x/a_leftImg8bit.png -gtFine/val/x/a_gtFine_labelIds.png -gtFine/val/x/a_gtFine_color.png",
        ["gtFine/val"],
    ),
    "voc": (
        "JPEGImages/2007_1.jpg JPEGImages/2007_2.jpg -SegmentationClass/2007_1.png -SegmentationObject/2007_1.png",
        ["SegmentationClass", "SegmentationObject"],
    ),
    "lip": ("val_images/1.jpg -val_segmentations/1.png", ["val_segmentations"]),
    "masks alone": ("masks/a.png masks/b.png", []),
    "no folder of images": ("a.png labels/a.png", []),
    "other names": ("images/a.png target/b.png", []),
}


def draw(root: Path, text: str) -> tuple[list[Path], list[Path]]:
    """All files, and those that are to be labeled."""
    words = text.split()
    files = [root / word.lstrip("-") for word in words]
    return files, [path for path, word in zip(files, words, strict=True) if word[0] != "-"]


@pytest.mark.parametrize("name", FOLDERS)
def test_masks_by_the_names_of_their_folders(tmp_path: Path, name: str) -> None:
    text, folders = FOLDERS[name]
    files, wanted = draw(tmp_path, text)
    assert without_masks(tmp_path, files) == (wanted, folders)


@pytest.mark.parametrize(
    ("description", "text", "folders"),
    [
        ("images: photos\nmasks: photos/m\n", "photos/a.png -photos/m/a.png", ["photos/m"]),
        ("images: a/b\nmasks: a\n", "a/b/1.png -a/1.png", ["a"]),
        ("images: all\nmasks: all\nmask_suffix: _x\n", "all/1.png -all/1_x.png", ["all"]),
        ("images: all\nmasks: all\nmask_suffix: .png\n", "all/1.jpg -all/1.png", ["all"]),
        ("images: {train: p, val: q}\nmasks: {train: r, val: s}\n", "p/1.png q/2.png -r/1.png -s/2.png", ["r", "s"]),
        # A description that cannot be read: names of folders tell.
        ("imags: p\n", "images/1.png -masks/1.png", ["masks"]),
    ],
)
def test_masks_by_the_description(tmp_path: Path, description: str, text: str, folders: list[str]) -> None:
    (tmp_path / "dataset.yaml").write_text(f"names: [x, y]\n{description}")
    files, wanted = draw(tmp_path, text)
    assert without_masks(tmp_path, files) == (wanted, folders)


def test_a_folder_of_binary_masks_for_each_class(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    pixels[2:5] = 255
    files = [tmp_path / folder / "1.png" for folder in ("images", "cat", "dog")]
    for path in files:
        path.parent.mkdir()
        Image.fromarray(pixels).save(path)
    assert without_masks(tmp_path, files) == (files[:1], ["cat", "dog"])
    # With a third value they are not masks of one class, and may be images.
    pixels[0] = 7
    Image.fromarray(pixels).save(files[2])
    assert without_masks(tmp_path, files) == (files, [])


def test_folders_beside_the_images_that_are_not_binary_masks(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for path in (tmp_path / "images" / "1.png", tmp_path / "small" / "1.png"):
        path.parent.mkdir()
        Image.fromarray(noise).save(path)
    with pytest.raises(CrissCrossError, match=r"files in small/ have the names of images in images/; .*move these"):
        open_dataset("auto", tmp_path)
