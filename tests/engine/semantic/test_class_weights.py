"""Class weights from the training split, and the loss's parts in a run's log."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from crisscross.config import Experiment, from_dict, override
from crisscross.data import open_folder
from crisscross.engine.run.log import read_log
from crisscross.engine.run.state import stored_experiment
from crisscross.engine.semantic.class_weights import median_frequency_weights
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError

pytestmark = pytest.mark.usefixtures("one_thread")

EXPERIMENT = {
    "model": {"backbone": "test_resnet", "head": {"channels": 16}, "aux_head": {"channels": 8}},
    "augment": {"crop": [32, 32]},
    "train": {"iterations": 2, "batch": 2, "validate_every": 0, "accumulate": 2},
}
# Two images of 32 x 32: class -> number of rows.
ROWS = [{0: 16, 1: 8, 255: 8}, {0: 8, 2: 2, 255: 22}]


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "data"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for index, rows in enumerate(ROWS):
        mask = np.repeat(np.repeat(list(rows), list(rows.values()))[:, None], 32, axis=1).astype(np.uint8)
        image = (mask[..., None] * 60 + np.arange(32)[None, :, None]).astype(np.uint8).repeat(3, axis=2)
        Image.fromarray(mask).save(root / "masks" / f"p{index}.png")
        Image.fromarray(image).save(root / "images" / f"p{index}.png")
    (root / "train.txt").write_text("p0\np1\n")
    (root / "dataset.yaml").write_text("classes: [sky, road, bird, ghost]\n")
    return open_folder(root)


def without_ghost(dataset):
    return replace(dataset, classes=dataset.classes[:3], palette=dataset.palette[:3])


def experiment(*words):
    return override(from_dict(Experiment, EXPERIMENT), words)


def test_median_frequency_by_hand(dataset):
    # Shares among valid pixels: sky 24/34, road 8/24 of the image that shows it, bird 2/10.
    shares = [24 / 34, 8 / 24, 2 / 10]
    wanted = [shares[1] / share for share in shares]
    assert median_frequency_weights(without_ghost(dataset), "train") == pytest.approx(wanted, rel=1e-3)


def test_a_class_that_training_never_sees_is_named(dataset):
    allowed = replace(dataset, allow_empty=True)
    with pytest.raises(CrissCrossError) as caught:
        train(experiment("loss.class_weights=auto"), allowed, dataset.root / "run")
    assert str(caught.value) == (
        f"loss.class_weights=auto: no pixel of ghost in the split 'train' of {dataset.root}; "
        "give 4 numbers in loss.class_weights, or leave it empty"
    )
    assert not (dataset.root / "run").exists()


def test_auto_is_printed_stored_and_resumed(dataset, tmp_path, capsys):
    dataset, out = without_ghost(dataset), tmp_path / "run"
    changes = ("loss.class_weights=auto", "train.checkpoint_every=1")

    class Crash(Exception):
        pass

    def crash(step):
        if step.iteration == 2:
            raise Crash

    with pytest.raises(Crash):
        train(experiment(*changes), dataset, out, listener=crash)
    assert "class weights by median frequency in the split 'train': sky 0.4722, road 1, bird 1.667" in (
        capsys.readouterr().err
    )
    stored = stored_experiment(Experiment, out).loss.class_weights
    assert stored == (0.4722, 1.0, 1.667)
    # The same words continue it; the masks are not read again.
    assert train(experiment(*changes), dataset, out, resume=True).finished
    assert "class weights by" not in capsys.readouterr().err


def test_every_line_of_the_log_has_the_parts_and_they_add_up(dataset, tmp_path):
    terms = "loss.terms=[{name: ohem}, {name: dice, weight: 0.5}, {name: category_consistent}]"
    seen = []
    train(experiment(terms), without_ghost(dataset), tmp_path / "run", listener=seen.append)
    names = ["ohem", "dice", "variance", "distance", "regularization", "aux"]
    lines = [entry for entry in read_log(tmp_path / "run") if "loss" in entry]
    assert len(lines) == len(seen) == 2
    for line, step in zip(lines, seen, strict=True):
        assert [key for key in line if key.startswith("loss_")] == [f"loss_{name}" for name in names]
        assert step.loss == pytest.approx(sum(step.parts.values()), rel=1e-5)
        assert line["loss_dice"] == pytest.approx(step.parts["dice"], abs=1e-5) and 0 < line["loss_dice"] < 0.5
