"""The weights that come with the package: they load without a network and know a street when they see one."""

import numpy as np
import pytest

import crisscross
from crisscross import zoo
from crisscross.checkpoints import native
from crisscross.config import differences
from crisscross.data import scenes
from crisscross.data.sets import camvid

MEGABYTE = 10**6
# What CamVid calls the classes of the drawn scenes.
CAMVID_NAME = {"sidewalk": "pavement", "person": "pedestrian"}


@pytest.fixture(scope="module")
def segmenter() -> crisscross.Segmenter:
    return crisscross.load("camvid-light")


def test_the_file_is_small_half_precision_and_made_by_the_recipe(segmenter):
    path = zoo.shipped_weights("camvid-light")
    assert path is not None and path.stat().st_size < 20 * MEGABYTE
    tensors, experiment, facts = native.read(path)
    assert {str(value.dtype) for value in tensors.values()} == {"torch.float16", "torch.int64"}
    assert experiment is not None
    # What training adds to the recipe is what the data set's labels mean; it was trained twice, with seeds 0 and 1.
    changes = differences(zoo.recipe("camvid-light"), experiment)
    assert set(changes) == {"data.classes", "data.palette", "train.seed"} and experiment.train.seed == 1
    assert (segmenter.classes, segmenter.palette) == (camvid.CLASSES, camvid.PALETTE)
    assert 0.5 < facts["val_miou"] < 1


def test_the_model_card_speaks_of_this_file():
    path = zoo.shipped_weights("camvid-light")
    assert path is not None
    card, facts = path.with_suffix(".md").read_text(), native.read(path)[2]
    assert f"iteration {facts['iteration']}" in card
    for word in ("CamVid", "CC BY-NC 4.0", "not commercially", "mIoU"):
        assert word in card


def test_the_gate_of_the_attention_is_the_trained_one(segmenter):
    """It is almost shut: docs/results/camvid.md."""
    assert segmenter.head.attend.attention.gamma.item() == pytest.approx(-0.0079, abs=1e-4)


def test_drawn_streets_are_recognized(segmenter):
    """Far from what it was trained on, and truth is known to the pixel."""
    names = [CAMVID_NAME.get(name, name) for name in scenes.CLASSES]
    hits, pixels = np.zeros(len(names)), np.zeros(len(names))
    for seed in range(3):
        image, truth = scenes.draw_scene(1000 + seed, 256, 512)
        labels = segmenter.predict(image).labels
        assert labels.shape == truth.shape
        for index, name in enumerate(names):
            here = truth == index
            pixels[index] += here.sum()
            hits[index] += (labels[here] == segmenter.classes.index(name)).sum()
    found = dict(zip(names, hits / pixels, strict=True))
    assert min(found["road"], found["building"], found["sky"]) > 0.4
    # Chance level for one of eleven classes is 0.09.
    assert hits.sum() / pixels.sum() > 0.5
