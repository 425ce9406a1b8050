"""Each published row as one uses it: built, filled with a checkpoint in the published layout, trained, evaluated, used.

Checkpoints are made by formula in MMSegmentation's names and shapes; data sets are drawn in their own layouts. The
default run takes one row of each family at a small size; `-m slow` takes all sixteen, on a real image at the
published scale.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from forward_passes import value
from networks import narrow
from paths import SHARED
from PIL import Image
from published_data import write_ade20k, write_cityscapes, write_voc2012aug
from published_layouts import mmseg_keys

import crisscross
from crisscross import zoo
from crisscross.checkpoints.publishers.table import MMSEG
from crisscross.cli import main
from crisscross.config import to_yaml
from crisscross.data.files.reading import read_image
from crisscross.models import Segmenter

CLASSES = {"cityscapes": 19, "ade20k": 150, "voc2012aug": 21}
BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
WRITERS = {"cityscapes": write_cityscapes, "ade20k": write_ade20k, "voc2012aug": write_voc2012aug}
ONE_OF_EACH = [
    "ccnet_r50-d8_4xb2-40k_cityscapes-512x1024",
    "ccnet_r50-d8_4xb2-80k_cityscapes-769x769",
    "ccnet_r50-d8_4xb4-160k_ade20k-512x512",
    "ccnet_r50-d8_4xb4-20k_voc12aug-512x512",
]
# The same recipe at a size that a test can afford.
SMALL = {"cityscapes": "[160, 80]", "ade20k": "[128, 48]", "voc2012aug": "[128, 48]"}
SHARED = SHARED / "data"
REAL = {
    "cityscapes": SHARED / "camvid_fullres_clip" / "images" / "0006R0_f02310.png",
    "ade20k": SHARED / "ade20k30" / "images" / "ADE_val_00000123.jpg",
    "voc2012aug": SHARED / "voc2" / "JPEGImages" / "2007_000063.jpg",
}


@pytest.mark.parametrize("name", list(zoo.PUBLISHED))
def test_the_published_state_dict_fits_one_to_one(name):
    row = zoo.PUBLISHED[name]
    keys = mmseg_keys(BLOCKS[row.depth], CLASSES[row.data])
    tensors = {key: torch.empty(shape, device="meta") for key, shape in keys.items()}
    renamed = MMSEG.convert(tensors)[0]
    with torch.device("meta"):
        network = Segmenter(zoo.with_known_classes(zoo.recipe(name)), initialize=False).state_dict()
    assert {key: entry.shape for key, entry in renamed.items()} == {key: entry.shape for key, entry in network.items()}
    assert len(network) == {50: 365, 101: 671}[row.depth]


@pytest.fixture
def checkpoint(tmp_path):
    """A file as they were published in 2020: a pickle of the older kind with `meta` and `state_dict`."""

    def make(name, channels=512, aux_channels=256):
        row = zoo.PUBLISHED[name]
        keys = mmseg_keys(BLOCKS[row.depth], CLASSES[row.data], channels, aux_channels)
        content = {"meta": {"epoch": 1}, "state_dict": {key: value(key, shape) for key, shape in keys.items()}}
        torch.save(content, tmp_path / row.file, _use_new_zipfile_serialization=False)
        return tmp_path / row.file

    return make


def small_recipe(name, tmp_path):
    """The published recipe with small images, small heads and ten iterations, as a file."""
    experiment, row = zoo.recipe(name), zoo.PUBLISHED[name]
    scale = tuple(map(int, SMALL[row.data].strip("[]").split(",")))
    experiment = replace(
        experiment,
        model=replace(experiment.model, pretrained=False, **narrow(16, 8)),
        preprocess=replace(experiment.preprocess, scale=scale),
        augment=replace(experiment.augment, scale=scale, crop=(33, 33)),
        train=replace(experiment.train, iterations=10, batch=2, validate_every=0, checkpoint_every=0),
        inference=replace(experiment.inference, window=(49, 49), stride=(33, 33)),
    )
    path = tmp_path / "small.yaml"
    path.write_text(to_yaml(experiment), encoding="utf-8")
    return path


def train_and_evaluate(name, tmp_path, capsys):
    data = WRITERS[zoo.PUBLISHED[name].data](tmp_path / "data")
    run = tmp_path / "run"
    words = ["train", str(small_recipe(name, tmp_path)), "--data", str(data), "--out", str(run)]
    assert main([*words, "--workers", "0", "--device", "cpu"]) == 0
    stored = crisscross.load(run).experiment
    assert stored.name == name and len(stored.data.classes) == CLASSES[zoo.PUBLISHED[name].data]
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(data), "--workers", "0", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "mean" in shown and " images)" in shown


@pytest.mark.parametrize("name", ONE_OF_EACH[::2])
def test_ten_steps_in_its_own_layout(name, tmp_path, capsys):
    train_and_evaluate(name, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo.PUBLISHED if name not in ONE_OF_EACH[::2]])
def test_ten_steps_of_every_other_row(name, tmp_path, capsys):
    train_and_evaluate(name, tmp_path, capsys)


def test_evaluate_by_name_with_a_file_at_hand(tmp_path, checkpoint, capsys, monkeypatch):
    """The whole network at a small test scale, by the published name."""
    name = ONE_OF_EACH[3]
    data = write_voc2012aug(tmp_path / "data", count=1)
    row = dict(zoo.RECIPES[name], preprocess={"scale": [128, 48]})
    monkeypatch.setitem(zoo.RECIPES, name, row)
    words = ["evaluate", zoo.PUBLISHED[name].older_name, "--data", str(data), "--workers", "0", "--device", "cpu"]
    assert main([*words, "--weights", str(checkpoint(name))]) == 0
    shown = capsys.readouterr().out
    assert "aeroplane" in shown and "; 1 images)" in shown
    assert main([*words, "--offline"]) == 2
    assert "downloads are off" in capsys.readouterr().err


def test_a_checkpoint_of_another_data_set_is_refused_in_one_line(checkpoint, capsys, tmp_path):
    file = checkpoint(ONE_OF_EACH[2])
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    words = ["predict", ONE_OF_EACH[0], str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*words, "--weights", str(file)]) == 2
    message = capsys.readouterr().err
    assert "150 classes" in message and "19" in message and message.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", list(zoo.PUBLISHED))
def test_a_real_image_at_the_published_scale(name, checkpoint):
    image = REAL[zoo.PUBLISHED[name].data]
    if not image.is_file():
        pytest.skip("no real images beside this checkout (../shared/data)")
    segmenter = crisscross.load(name, weights=checkpoint(name))
    assert segmenter.experiment == zoo.with_known_classes(zoo.recipe(name))
    given = read_image(image)
    labels = segmenter.predict(given).labels
    assert labels.shape == given.shape[:2] and labels.max() < len(segmenter.classes)
    # Weights by formula know nothing, but they do tell one part of an image from another.
    assert len(np.unique(labels)) > 1
