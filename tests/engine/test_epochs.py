"""`train.epochs` in the place of `train.iterations`."""

from collections import Counter

import pytest
import yaml
from shapes_data import experiment, write_shapes

from crisscross.checkpoints import native
from crisscross.cli import main
from crisscross.config import load_experiment, override, to_yaml
from crisscross.config.training import OptimConfig, TrainConfig, in_iterations
from crisscross.data import open_folder
from crisscross.engine.run.log import read_log
from crisscross.engine.schedule import learning_rate
from crisscross.engine.semantic.task import SemanticSegmentation
from crisscross.engine.task import Start
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.mark.parametrize(
    ("epochs", "images", "batch", "iterations"),
    [(1, 8, 4, 2), (3, 10, 4, 8), (20, 367, 8, 918), (1, 3, 8, 1), (2, 3, 8, 1)],
)
def test_the_last_iteration_completes_the_epochs(epochs, images, batch, iterations):
    _, found = in_iterations(OptimConfig(), TrainConfig(epochs=epochs, batch=batch), images)
    assert found.iterations == iterations
    # One iteration less would not do.
    assert iterations * batch >= epochs * images > (iterations - 1) * batch


def test_a_training_without_epochs_stays_as_it_is():
    given = TrainConfig(iterations=7)
    assert in_iterations(OptimConfig(), given, 100)[1] is given


def test_every_image_is_drawn_as_often_as_there_are_epochs(folder):
    data = open_folder(folder)
    images = len(data.splits["train"])
    chosen = override(experiment(), ["train.epochs=3", "train.batch=3"])
    chosen = SemanticSegmentation().settle(chosen, data, Start()).experiment
    _, settled = in_iterations(chosen.optim, chosen.train, images)
    samples = SemanticSegmentation().samples(chosen, data)
    drawn = Counter(samples[n][2] for n in range(settled.iterations * settled.batch))
    assert set(drawn.values()) == {3} and len(drawn) == images


def test_two_lengths_are_one_line_wherever_they_are_given(tmp_path):
    said = "train.iterations=9 and train.epochs=2 are two lengths of one training: give one of them"
    for words in (["train.iterations=9", "train.epochs=2"], ["train={iterations: 9, epochs: 2}"]):
        with pytest.raises(CrissCrossError, match=said):
            override(experiment(), words)
    (tmp_path / "both.yaml").write_text("train: {iterations: 9, epochs: 2}\n")
    with pytest.raises(CrissCrossError, match=f"both.yaml: {said}"):
        load_experiment(tmp_path / "both.yaml")


def test_the_last_word_decides_which_length_counts(tmp_path):
    by_epochs = override(experiment("train.iterations=9"), ["train.epochs=2"])
    assert by_epochs.train.epochs == 2
    assert override(by_epochs, ["train.iterations=5"]).train.epochs == 0
    assert override(by_epochs, ["train.seed=5"]).train.epochs == 2
    # The file names one length, so that it can be trained again as it is.
    written = yaml.safe_load(to_yaml(by_epochs))["train"]
    assert written["epochs"] == 2 and "iterations" not in written
    assert yaml.safe_load(to_yaml(experiment("train.iterations=9")))["train"]["iterations"] == 9


def test_a_warm_up_longer_than_the_epochs_is_refused():
    # Before the data are known nothing can be said.
    chosen = override(experiment("optim.warmup=3"), ["train.epochs=1", "optim.warmup=50000"])
    with pytest.raises(CrissCrossError, match=r"optim.warmup must be below train.iterations \(5\)"):
        in_iterations(chosen.optim, chosen.train, 5 * chosen.train.batch)


def test_a_warm_up_that_nobody_chose_ends_after_a_tenth(folder, tmp_path, capsys):
    optim, train = OptimConfig(warmup=50), TrainConfig(epochs=30, batch=4)
    assert in_iterations(optim, train, 8, keep_warmup=False)[0].warmup == 6
    assert in_iterations(optim, train, 80, keep_warmup=False)[0].warmup == 50
    words = ["train", "ccnet-light", "--data", str(folder), "--out", str(tmp_path / "run"), "--device", "cpu"]
    words += ["--workers", "0", "--set", "augment.crop=[32,32]", "--set", "train.batch=2", "--set", "train.epochs=1"]
    assert main([*words, "--set", "model.backbone=test_resnet", "--set", "model.pretrained=false"]) == 0
    stored = native.read_header(tmp_path / "run" / "last.safetensors")[0]
    assert stored.optim.warmup == stored.train.iterations // 10
    assert f"optim.warmup: {stored.optim.warmup}, a tenth of the iterations" in capsys.readouterr().err


def test_a_run_of_epochs_is_recorded_resumed_and_extended(folder, tmp_path, capsys):
    images, run = len(open_folder(folder).splits["train"]), tmp_path / "run"
    (tmp_path / "tiny.yaml").write_text(to_yaml(experiment()))
    words = ["train", str(tmp_path / "tiny.yaml"), "--data", str(folder), "--out", str(run), "--device", "cpu"]
    words += ["--workers", "0", "--set", "train.batch=4", "--set", "train.epochs=2", "--set", "optim.warmup=0"]
    assert main(words) == 0
    total = -(-2 * images // 4)
    assert f"training {total} iterations of 4 images, " in capsys.readouterr().err
    stored = native.read_header(run / "last.safetensors")[0]
    assert (stored.train.epochs, stored.train.iterations) == (2, total)
    assert load_experiment(run / "experiment.yaml").train.epochs == 2
    rates = [entry["lr"] for entry in read_log(run) if "lr" in entry]
    assert rates == pytest.approx([learning_rate(stored.optim, t, total) for t in range(total)])
    # Finished: nothing to do, until it gets more epochs.
    assert main(["train", "--resume", str(run)]) == 0
    assert "this run goes on" not in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--set", "train.epochs=3"]) == 0
    longer = -(-3 * images // 4)
    line = f"this run goes on with train.iterations={longer} (was {total}), train.epochs=3 (was 2); the learning rate"
    assert line in capsys.readouterr().err
    assert native.read_header(run / "last.safetensors")[1]["position"]["iteration"] == longer


def test_validations_are_counted_in_iterations(folder, tmp_path):
    chosen = override(experiment("train.validate_every=2", "train.batch=4"), ["train.epochs=1"])
    outcome = train(chosen, open_folder(folder), tmp_path / "run")
    validated = [entry["iteration"] for entry in read_log(tmp_path / "run") if "val_miou" in entry]
    total = outcome.position.iteration
    assert validated == sorted({*range(2, total, 2), total})
