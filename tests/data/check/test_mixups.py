"""The usual mix-ups of masks: each is told once, with what to do, before training and by the full check."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crisscross.data import open_folder
from crisscross.data.check.alignment import edges, misaligned
from crisscross.data.check.checks import check, quick_check
from crisscross.data.check.copies import look_of
from crisscross.data.check.report import Problem, grouped
from crisscross.errors import CrissCrossError, CrissCrossWarning

HEIGHT, WIDTH, COUNT = 24, 32, 10


def photo(number: int) -> np.ndarray:
    """uint8 RGB: noise around smooth waves, another for every number."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = np.sin(x / random.uniform(2, 5) + random.uniform(0, 6)) + np.cos(y / random.uniform(2, 5))
    return (waves[..., None] * 40 + 128 + random.normal(0, 8, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8)


def labels(number: int) -> np.ndarray:
    """uint8 with the values 0, 1 and 2."""
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    found[4 + number : 16, 6:20] = 1
    found[-3:, :9] = 2
    return found


def folder(root: Path, mask: Callable[[int], np.ndarray], text: str, ending: str = "png", **options: int) -> Path:
    """Ten images with masks, and dataset.yaml."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(COUNT):
        Image.fromarray(photo(number)).save(root / "images" / f"{number}.png")
        Image.fromarray(mask(number)).save(root / "masks" / f"{number}.{ending}", **options)
    (root / "dataset.yaml").write_text(text, encoding="utf-8")
    return root


def both(root: Path) -> str:
    """The one error of the quick and of the full check."""
    dataset = open_folder(root)
    (problem,) = [problem for problem in check(dataset).problems if problem.severity == "error"]
    with pytest.raises(CrissCrossError) as caught:
        quick_check(dataset, ["train", "val"])
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{problem.file}: {problem.text}")
    assert "more in this quick check" not in str(caught.value)
    return problem.full_text


THREE, TWO = "names: [a, b, c]\n", "names: [a, b]\n"


@pytest.mark.parametrize(
    ("mask", "text", "message"),
    [
        (lambda n: (labels(n) == 1) * np.uint8(255), TWO, "255 is ignored by default, so that 'b' would never be seen"),
        (lambda n: (labels(n) == 1) * np.uint8(255), TWO, "write `labels: {0: 0, 255: 1}` in ROOT/dataset.yaml"),
        (lambda n: (labels(n) == 1) * np.uint8(1 + n % 2 * 254), TWO, "write `labels: {0: 0, 1: 1, 255: 1}` in ROOT/"),
        (lambda n: labels(n) + 1, THREE, "masks count the classes from 1: write `labels: {1: 0, 2: 1, 3: 2}`"),
        (
            labels,
            TWO,
            "write `background: background` in ROOT/dataset.yaml, which adds it as class 0, or `background: ignore`",
        ),
        (lambda n: labels(n) * 7, THREE, "in order, write `labels: {0: 0, 7: 1, 14: 2}` in ROOT/dataset.yaml"),
        (lambda n: np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH), TWO, "masks with soft edges"),
        (
            lambda n: np.eye(3, dtype=np.uint8)[labels(n)] * 255,
            THREE,
            "3 colors; write `palette: {NAME: [255, 0, 0], ",
        ),
        (lambda n: np.dstack([photo(0) * 0, labels(n)]), THREE, "a mask that lies in the transparency: `crisscross"),
        (lambda n: labels(n) % 2, THREE, "no pixel of class 2 (c) in 'train', so that it cannot be learned"),
    ],
)
def test_an_error_says_what_to_do(tmp_path: Path, mask: Callable[[int], np.ndarray], text: str, message: str) -> None:
    root = folder(tmp_path / "set", mask, text)
    assert message.replace("ROOT", str(root)) in both(root)


def test_lossy_masks_are_told_with_the_command_that_mends_them(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", lambda n: (labels(n) == 1) * np.uint8(255), TWO, "jpg", quality=70)
    text = both(root)
    assert "a mask compressed with loss (JPEG): " in text
    assert f"`crisscross data prepare masks {root}/masks --classes-at 0,255 --out {root}/masks-png`" in text
    assert "and 9 more files alike" in text


def test_exchanged_images_and_masks(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", labels, THREE)
    (root / "images").rename(root / "other")
    (root / "masks").rename(root / "images")
    (root / "other").rename(root / "masks")
    assert both(root).startswith("images and masks look exchanged: this image has 3 colors, its mask ")
    (root / "dataset.yaml").unlink()
    with pytest.raises(CrissCrossError, match="images and masks look exchanged"):
        open_folder(root)


def test_masks_that_are_ignored_nearly_everywhere_are_a_warning(tmp_path: Path) -> None:
    def mask(number: int) -> np.ndarray:
        return labels(number) if number else np.full((HEIGHT, WIDTH), 255, np.uint8)

    dataset = open_folder(folder(tmp_path / "set", mask, THREE))
    with pytest.warns(CrissCrossWarning, match="1 of 10 masks are ignored nearly everywhere"):
        quick_check(dataset, ["train", "val"])
    assert [problem.severity for problem in check(dataset).problems] == ["warning"]


def test_a_class_without_a_pixel_is_an_error_beside_warnings(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", lambda n: np.where(labels(0) == n, 1, 255).astype(np.uint8), TWO)
    refused = pytest.raises(CrissCrossError, match=r"no pixel of class 0 \(a\) in 'train'")
    with pytest.warns(CrissCrossWarning, match="ignored nearly everywhere"), refused:
        quick_check(open_folder(root), ["train", "val"])


def test_a_copy_in_another_split(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", labels, THREE)
    (root / "train.txt").write_text("".join(f"{n}\n" for n in range(8)))
    (root / "val.txt").write_text("8\n9\n")
    assert check(open_folder(root)).problems == ()
    # Saved anew with loss: other bytes, the same look.
    Image.fromarray(photo(3)).save(root / "images" / "9.jpg", quality=80)
    (root / "images" / "9.png").unlink()
    (problem,) = check(open_folder(root)).problems
    assert problem.severity == "warning"
    assert problem.text.startswith("1 of 2 images in 'val' look like one in 'train' (9.jpg like 3.png)")
    (root / "images" / "9.jpg").unlink()
    (root / "images" / "9.png").write_bytes((root / "images" / "3.png").read_bytes())
    with pytest.warns(CrissCrossWarning, match=r"1 image is in two splits \(9\.png is a copy of .*3\.png\)"):
        quick_check(open_folder(root), ["train", "val"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda mask: mask, ""),
        (lambda mask: mask[:, ::-1], "mirrored left to right"),
        (lambda mask: mask[::-1], "upside down"),
        (lambda mask: mask[::-1, ::-1], "turned by half"),
        (lambda mask: np.roll(mask, 10, 1), "shifted by +10% of the width and +0% of the height"),
        (lambda mask: np.roll(mask, -10, 0), "shifted by +0% of the width and -10% of the height"),
        (lambda mask: np.roll(mask, 1, 0), ""),
    ],
)
def test_masks_that_are_mirrored_or_shifted(change: Callable[[np.ndarray], np.ndarray], text: str) -> None:
    found = []
    for number in range(20):
        random = np.random.default_rng(number)
        mask = np.zeros((96, 96), np.uint8)
        for _ in range(4):
            top, left = random.integers(5, 60, 2)
            mask[top : top + random.integers(8, 30), left : left + random.integers(8, 30)] += 1
        image = (mask[..., None] * 40 + 60 + random.normal(0, 15, (96, 96, 3))).clip(0, 255).astype(np.uint8)
        found.append(edges(image, np.ascontiguousarray(change(mask)), 255))
    assert misaligned(found) == text
    assert misaligned(found[:5]) == ""


def test_masks_that_have_nothing_to_do_with_their_images_are_no_shift() -> None:
    random = np.random.default_rng(0)
    found = []
    for _ in range(40):
        noise = random.integers(0, 256, (24, 32, 3), np.uint8)
        found.append(edges(noise, random.integers(0, 3, (24, 32), np.uint8), 255))
    assert misaligned(found) == ""


def test_mirrored_masks_are_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(16):
        mask = np.zeros((60, 80), np.uint8)
        mask[10 + number : 40, 5 + number : 30] = 1
        image = (mask[..., None] * 120 + np.random.default_rng(number).integers(0, 60, (60, 80, 3))).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{number}.png")
        Image.fromarray(mask[:, ::-1]).save(root / "masks" / f"{number}.png")
    (root / "dataset.yaml").write_text(TWO)
    (problem,) = check(open_folder(root)).problems
    assert (problem.severity, problem.file) == ("warning", root)
    assert problem.text.startswith("masks look mirrored left to right against their images (16 were compared")


def test_the_look_of_an_image() -> None:
    first, other = look_of(photo(1)), look_of(photo(2))
    assert first is not None
    assert other is not None
    assert (first ^ other).bit_count() > 40
    twice = np.asarray(Image.fromarray(photo(1)).resize((WIDTH * 2, HEIGHT * 2), Image.Resampling.BICUBIC))
    again = look_of(twice)
    assert again is not None
    assert (first ^ again).bit_count() <= 10
    assert look_of(np.full((8, 8, 3), 90, np.uint8)) is None


def test_many_problems_of_one_cause_become_one(tmp_path: Path) -> None:
    def problems(count: int) -> list[Problem]:
        return [Problem("error", tmp_path / f"{n}.png", f"the mask is {n} x 4, its image 5 x 5") for n in range(count)]

    assert grouped(problems(3)) == problems(3)
    (one,) = grouped(problems(6))
    assert (one.file, len(one.more)) == (tmp_path / "0.png", 5)
    assert str(one).endswith(
        "0.png: the mask is 0 x 4, its image 5 x 5 (and 5 more files alike: 1.png, 2.png, 3.png, ...)"
    )
    other = Problem("warning", tmp_path / "z.png", "something else")
    assert grouped([*problems(6), other]) == [one, other]
