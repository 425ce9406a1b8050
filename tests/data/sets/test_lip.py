"""Human parsing from the command line on drawn LIP miniatures and the two real samples, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from paths import SHARED
from PIL import Image
from published_data import save, write_lip

from crisscross.cli import main
from crisscross.data.sets.lip import CLASSES, PALETTE
from crisscross.engine.run.log import read_log
from crisscross.zoo.lip import LIP

pytestmark = pytest.mark.usefixtures("one_thread")

REAL = SHARED / "data" / "lip"
SMALL = (
    *("model.backbone=test_resnet", "model.pretrained=false", "model.head.channels=16", "train.iterations=3"),
    *("train.batch=2", "train.validate_every=0", "train.checkpoint_every=0", "optim.warmup=0"),
    *("augment.scale=[64, 64]", "augment.crop=[64, 64]", "preprocess.scale=[64, 64]"),
)


def command(*words: object) -> int:
    return main([str(word) for word in words])


def train(data: Path, out: Path, *changes: str, recipe: str = "lip-light") -> int:
    words = [part for change in (*SMALL, *changes) for part in ("--set", change)]
    return command("train", recipe, "--data", data, "--out", out, "--workers", 0, "--device", "cpu", *words)


def mode(path: Path) -> str:
    with Image.open(path) as image:
        return image.mode


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_lip(tmp_path_factory.mktemp("lip"))


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "lip"
    assert train(folder, out) == 0
    return out


def test_the_log_names_every_part_of_the_loss(run):
    entries = [entry for entry in read_log(run) if "loss" in entry]
    assert len(entries) == 3
    for entry in entries:
        parts = [entry[f"loss_{name}"] for name in ("cross_entropy", "aux", "edge")]
        assert min(parts) > 0 and sum(parts) == pytest.approx(entry["loss"], abs=1e-4)


def test_evaluation_agrees_with_a_count_of_single_pixels(run, folder, tmp_path, capsys):
    words = ("--data", folder, "--device", "cpu", "--workers", 0, "--json", tmp_path / "a.json")
    assert command("evaluate", run, *words, "--save-predictions", tmp_path / "saved") == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "a.json").read_text())
    right, labeled, hits, truths, guesses = 0, 0, [0] * 20, [0] * 20, [0] * 20
    for mask in sorted((folder / "val_segmentations").iterdir()):
        (saved,) = (tmp_path / "saved").rglob(mask.name)
        for truth, guess in zip(Image.open(mask).tobytes(), Image.open(saved).tobytes(), strict=True):
            if truth != 255:
                labeled, right = labeled + 1, right + (truth == guess)
                truths[truth] += 1
                guesses[guess] += 1
                hits[truth] += truth == guess
    ious = [h / (t + g - h) for h, t, g in zip(hits, truths, guesses, strict=True) if t + g]
    recalls = [h / t for h, t in zip(hits, truths, strict=True) if t]
    assert found["images"] == 2 and found["split"] == "val"
    assert found["pixel_accuracy"] == pytest.approx(right / labeled, abs=1e-12)
    assert found["mean_accuracy"] == pytest.approx(sum(recalls) / len(recalls), abs=1e-12)
    assert found["miou"] == pytest.approx(sum(ious) / len(ious), abs=1e-12)
    for name, value in (("mIoU", "miou"), ("pixel accuracy", "pixel_accuracy"), ("mean accuracy", "mean_accuracy")):
        assert f"{name} {100 * found[value]:.2f}" in printed


def test_predictions_are_drawn_in_lips_colors(run, folder, tmp_path):
    gray = folder / "val_images" / "101_4001.jpg"
    assert mode(gray) == "L"
    assert command("predict", run, gray, "--out", tmp_path, "--device", "cpu") == 0
    labels = np.asarray(Image.open(tmp_path / "labels" / "101_4001.png"))
    colors = np.asarray(Image.open(tmp_path / "color" / "101_4001.png"))
    assert labels.shape == (48, 64) and labels.max() < 20
    assert (colors == np.array(PALETTE, np.uint8)[labels]).all()


@pytest.mark.parametrize("recipe", [name for name in LIP if name != "lip-light"])
def test_each_recipe_trains(recipe, folder, tmp_path):
    assert train(folder, tmp_path / "run", "train.iterations=1", recipe=recipe) == 0


def test_without_attention(folder, tmp_path):
    assert train(folder, tmp_path / "b", "model.head.recurrence=0") == 0


# --- bad input: one line that names the file, the value and what to do; training and the check say it ---


def smaller_mask(root: Path) -> None:
    save(root / "train_segmentations" / "100_4000.png", np.zeros((48, 63), np.uint8))


def label_20(root: Path) -> None:
    mask = np.array(Image.open(root / "train_segmentations" / "100_4000.png"))
    mask[:2, :3] = 20
    save(root / "train_segmentations" / "100_4000.png", mask)


def missing_mask(root: Path) -> None:
    (root / "train_segmentations" / "100_4000.png").unlink()


def no_masks(root: Path) -> None:
    for path in (root / "train_segmentations").iterdir():
        path.unlink()
    (root / "train_segmentations").rmdir()


def color_mask(root: Path) -> None:
    save(
        root / "train_segmentations" / "100_4000.png", np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    )


def cut_image(root: Path) -> None:
    path = root / "train_images" / "100_4000.jpg"
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (smaller_mask, "100_4000.png: the mask is 63 x 48, its image 64 x 48"),
        (label_20, "100_4000.png: label 20 at 6 pixels, but"),
        (missing_mask, "100_4000.jpg: image without mask; looked for"),
        (no_masks, "train_segmentations: no such folder; unpack the single-person LIP into"),
        (color_mask, "100_4000.png: a color mask (mode RGB); masks must be index or palette images"),
        (cut_image, "100_4000.jpg: "),
    ],
)
def test_bad_input_is_one_clear_line(damage, message, tmp_path, capsys):
    damage(write_lip(tmp_path / "lip"))
    assert train(tmp_path / "lip", tmp_path / "run") == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("crisscross: ")]
    assert len(lines) == 1 and message in lines[0] and "Traceback" not in error
    assert command("data", "check", tmp_path / "lip") != 0
    caught = capsys.readouterr()
    assert message in caught.out + caught.err


@pytest.mark.skipif(not REAL.is_dir(), reason="no real samples beside this repository (../shared/data)")
def test_the_real_samples_train_and_evaluate(tmp_path, capsys):
    # The image of val is grayscale.
    assert mode(next((REAL / "val_images").iterdir())) == "L"
    assert command("data", "check", REAL) == 0
    assert "lip" in capsys.readouterr().out
    assert train(REAL, tmp_path / "run", "train.iterations=2", "train.validate_every=2") == 0
    assert command("evaluate", tmp_path / "run", "--data", REAL, "--device", "cpu", "--workers", 0, "--tta") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*CLASSES, "pixel accuracy", "mean accuracy", "mIoU"))
