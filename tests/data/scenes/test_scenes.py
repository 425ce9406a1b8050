"""The drawn streets: the same everywhere, complete, and not to be told by color alone."""

import zlib

import numpy as np
import pytest
import yaml
from PIL import Image

from crisscross.data.scenes import CLASSES, IGNORE, PALETTE, draw_scene, scene_seeds, write_scenes

POLE, PERSON = CLASSES.index("pole"), CLASSES.index("person")


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(seed) for seed in range(24)]


def test_a_scene_is_the_same_bytes_on_every_machine():
    image, labels = draw_scene(7)
    assert (zlib.crc32(image.tobytes()), zlib.crc32(labels.tobytes())) == (3121921197, 1622234753)


def test_seeds_differ(scenes):
    assert len({zlib.crc32(labels.tobytes()) for _, labels in scenes}) == len(scenes)


def test_kinds_sizes_and_labels_are_legal(scenes):
    for image, labels in scenes:
        assert image.shape == (128, 256, 3) and image.dtype == np.uint8
        assert labels.shape == (128, 256) and labels.dtype == np.uint8
        assert set(np.unique(labels)) <= {*range(len(CLASSES)), IGNORE}
    assert len(PALETTE) == len(CLASSES) == len(set(PALETTE))


def test_nearly_every_scene_holds_every_class(scenes):
    for index, name in enumerate(CLASSES):
        holding = sum((labels == index).sum() >= 60 for _, labels in scenes)
        assert holding >= 0.9 * len(scenes), name


def test_ignored_pixels_are_few_and_rim_poles_and_persons_only(scenes):
    for _, labels in scenes:
        assert (labels == IGNORE).mean() < 0.06
        thin = (labels == POLE) | (labels == PERSON)
        other = ~thin & (labels != IGNORE)
        assert not (thin[:, 1:] & other[:, :-1]).any() and not (thin[:-1] & other[1:]).any()


def test_no_scene_is_black_or_burnt_out(scenes):
    means = np.array([image.mean() for image, _ in scenes])
    assert means.min() > 35 and means.max() < 190 and means.std() > 10


def colors(scenes, name):
    """How often each of 8 x 8 x 8 colors occurs in a class: shares that sum to 1."""
    pixels = np.concatenate([image[labels == CLASSES.index(name)] for image, labels in scenes])
    return np.bincount((pixels // 32).astype(int) @ (64, 8, 1), minlength=512) / len(pixels)


def common(scenes, one, other):
    return float(np.minimum(colors(scenes, one), colors(scenes, other)).sum())


@pytest.mark.parametrize(("one", "other"), [("road", "sidewalk"), ("building", "car")])
def test_pairs_that_only_context_tells_apart_share_their_colors(scenes, one, other):
    assert common(scenes, one, other) > 0.65
    assert common(scenes, "sky", "tree") < 0.25, "the measure must tell different colors apart"


def test_road_and_sidewalk_share_their_texture(scenes):
    """The steps between neighboring pixels are as large on the one as on the other."""
    steps = {}
    for name in ("road", "sidewalk", "tree"):
        found = []
        for image, labels in scenes:
            inside = (labels[:, 1:] == CLASSES.index(name)) & (labels[:, :-1] == CLASSES.index(name))
            found.append(abs(np.diff(image[..., 1].astype(int), axis=1))[inside])
        steps[name] = np.concatenate(found).mean()
    assert 0.7 < steps["road"] / steps["sidewalk"] < 1.4, steps


def test_the_best_guess_from_a_pixel_s_color_is_poor(scenes):
    """A table color -> class, drawn up from half of the scenes and tried on the other half."""
    votes = np.zeros((512, len(CLASSES)), int)
    right = total = 0
    for index, (image, labels) in enumerate(scenes):
        code, known = (image // 32).astype(int) @ (64, 8, 1), labels != IGNORE
        if index < len(scenes) // 2:
            np.add.at(votes, (code[known], labels[known]), 1)
        else:
            right += (votes.argmax(1)[code[known]] == labels[known]).sum()
            total += known.sum()
    assert 0.3 < right / total < 0.65


def test_a_scene_is_the_same_street_at_twice_the_size():
    for seed in range(4):
        small, large = draw_scene(seed, 96, 192)[1], draw_scene(seed, 192, 384)[1][::2, ::2]
        known = (small != IGNORE) & (large != IGNORE)
        assert (small == large)[known].mean() > 0.93


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (100, 60)])
def test_odd_sizes_are_drawn(size):
    image, labels = draw_scene(1, *size)
    assert image.shape == (*size, 3) and labels.shape == size


def test_a_scene_too_small_is_refused():
    with pytest.raises(ValueError, match="16 x 256"):
        draw_scene(0, height=16)


def test_splits_and_seeds_share_no_scene():
    counts = {"train": 40, "val": 5, "test": 7}
    ranges = [*scene_seeds(counts, 0).values(), *scene_seeds(counts, 1).values()]
    drawn = [seed for seeds in ranges for seed in seeds]
    assert len(set(drawn)) == len(drawn) == 104


@pytest.mark.parametrize("counts", [{"train": -1}, {"train": 1_000_000, "val": 1}])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="counts"):
        scene_seeds(counts)


def test_the_folder_holds_what_was_drawn(tmp_path):
    counts = {"train": 2, "val": 1, "test": 1}
    write_scenes(tmp_path / "streets", counts, seed=3, height=32, width=64)
    root = tmp_path / "streets"
    description = yaml.safe_load((root / "dataset.yaml").read_text(encoding="utf-8"))
    assert description == {
        "classes": list(CLASSES),
        "palette": [list(color) for color in PALETTE],
        "ignore": 255,
        "splits": {"train": "train.txt", "val": "val.txt", "test": "test.txt"},
    }
    for split, seeds in scene_seeds(counts, 3).items():
        names = (root / f"{split}.txt").read_text(encoding="utf-8").split()
        assert len(names) == counts[split]
        for name, seed in zip(names, seeds, strict=True):
            image, labels = draw_scene(seed, 32, 64)
            mask = Image.open(root / "masks" / f"{name}.png")
            assert mask.mode == "P" and mask.getpalette()[:3] == list(PALETTE[0])
            assert (np.asarray(mask) == labels).all()
            assert (np.asarray(Image.open(root / "images" / f"{name}.png")) == image).all()
    assert len(list((root / "images").iterdir())) == len(list((root / "masks").iterdir())) == 4
