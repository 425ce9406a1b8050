"""The drawn islands: whose they are, the sail says, and nothing else."""

import zlib

import numpy as np
import pytest
import yaml
from PIL import Image

from crisscross.data.scenes import draw_islands, write_scenes
from crisscross.data.scenes.islands import CLASSES, COUNTRIES, KINDS, PALETTE, SAILS

SIZE = 144, 256
# What a position of the demo's network sees without attention: 31 pixels of its backbone, and three 3 x 3 convolutions
# at stride 8.
REACH = 15 + 3 * 8


@pytest.fixture(scope="module")
def scenes():
    return [draw_islands(seed, *SIZE) for seed in range(40)]


def kind(labels):
    """0 for the sea, else 1 + the index into `KINDS`."""
    return np.where(labels == 0, 0, 1 + (labels.astype(int) - 1) % len(KINDS))


def test_a_scene_is_the_same_bytes_on_every_machine():
    image, labels = draw_islands(7, *SIZE)
    assert (zlib.crc32(image.tobytes()), zlib.crc32(labels.tobytes())) == (1003432752, 227598101)


def test_kinds_and_labels_are_legal(scenes):
    assert CLASSES[1:5] == ("red ship", "red meadow", "red forest", "red town") and len(CLASSES) == 13
    assert len(PALETTE) == len(CLASSES) == len(set(PALETTE)) and len(SAILS) == len(COUNTRIES)
    for image, labels in scenes:
        assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
        assert labels.shape == SIZE and labels.dtype == np.uint8
        assert set(np.unique(kind(labels))) >= {0, 1, 2, 3}
        # All of a scene belongs to one country.
        assert len({(label - 1) // len(KINDS) for label in np.unique(labels) if label}) == 1


def test_another_country_changes_the_sail_and_the_labels_alone():
    for seed in range(5):
        drawn = [draw_islands(seed, *SIZE, country=country) for country in range(len(COUNTRIES))]
        first, labels = drawn[0]
        for country, (image, others) in enumerate(drawn[1:], 1):
            assert (kind(others) == kind(labels)).all()
            assert (others[labels > 0] - labels[labels > 0] == country * len(KINDS)).all()
            y, x = np.nonzero((image != first).any(2))
            inside_y, inside_x = np.nonzero(kind(labels) == 1)
            # The lens mixes the sail with the pixel beside it.
            assert inside_y.min() - 1 <= y.min() and y.max() <= inside_y.max() + 1
            assert inside_x.min() - 1 <= x.min() and x.max() <= inside_x.max() + 1
            assert len(y) > 200


def test_the_country_of_a_seed_is_fair_and_independent_of_the_ground(scenes):
    countries = np.array([(labels.max() - 1) // len(KINDS) for _, labels in scenes])
    assert (np.bincount(countries, minlength=len(COUNTRIES)) >= 8).all()
    for seed, (image, labels) in enumerate(scenes[:5]):
        again = draw_islands(seed, *SIZE, country=int(countries[seed]))
        assert (again[0] == image).all() and (again[1] == labels).all()


def test_the_cue_is_neither_near_nor_in_the_row_or_column_of_most_pixels(scenes):
    owned = crossing = near = 0
    places = []
    for _, labels in scenes:
        what = kind(labels)
        unclear, ship = what >= 2, what == 1
        rows, columns = np.nonzero(ship.any(1))[0], np.nonzero(ship.any(0))[0]
        places.append((rows.mean() / SIZE[0], columns.mean() / SIZE[1]))
        y, x = np.nonzero(unclear)
        dy = np.maximum(np.maximum(rows[0] - y, y - rows[-1]), 0)
        dx = np.maximum(np.maximum(columns[0] - x, x - columns[-1]), 0)
        owned, near = owned + len(y), near + (np.maximum(dy, dx) <= REACH).sum()
        crossing += ((dy == 0) | (dx == 0)).sum()
    pixels = len(scenes) * SIZE[0] * SIZE[1]
    assert 0.6 < owned / pixels < 0.85
    assert crossing / owned < 0.33 and near / owned < 0.3
    # At a random place: spread as evenly as 0.16 ... 0.84 of the height and nearly the whole width are.
    assert (np.array(places).std(0) > 0.15).all()


def test_at_least_half_of_the_classes_need_the_cue():
    assert sum(name.split()[-1] in ("meadow", "forest", "town") for name in CLASSES) / len(CLASSES) > 0.5


@pytest.mark.parametrize("size", [(32, 32), (33, 97), (100, 60)])
def test_odd_sizes_are_drawn(size):
    image, labels = draw_islands(1, *size)
    assert image.shape == (*size, 3) and labels.shape == size


def test_a_scene_too_small_is_refused():
    with pytest.raises(ValueError, match="16 x 256"):
        draw_islands(0, height=16)


def test_the_folder_holds_what_was_drawn(tmp_path):
    write_scenes(tmp_path, {"train": 1, "test": 1}, seed=3, height=48, width=64, kind="islands")
    description = yaml.safe_load((tmp_path / "dataset.yaml").read_text(encoding="utf-8"))
    assert description["classes"] == list(CLASSES) and description["palette"] == [list(color) for color in PALETTE]
    image, labels = draw_islands(3_000_001, 48, 64)
    mask = Image.open(tmp_path / "masks" / "test_0000.png")
    assert mask.getpalette()[: 3 * len(PALETTE)] == [channel for color in PALETTE for channel in color]
    assert (np.asarray(mask) == labels).all()
    assert (np.asarray(Image.open(tmp_path / "images" / "test_0000.png")) == image).all()
