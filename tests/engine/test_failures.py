"""What a run leaves behind where something breaks in it: the last good checkpoint, and one line."""

import math

import numpy as np
import pytest
import torch
from instances_data import TINY, write_coco
from shapes_data import experiment, write_shapes
from torch import nn

from crisscross import losses
from crisscross.checkpoints import native
from crisscross.cli import main
from crisscross.config import LossConfig, override, to_yaml
from crisscross.data import DataSet, open_folder
from crisscross.engine import train as training
from crisscross.engine.run.log import read_log
from crisscross.engine.semantic import evaluate as evaluation
from crisscross.engine.semantic.evaluate import evaluate
from crisscross.engine.setup import Machine
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError
from crisscross.instances import evaluate as instance_scores
from crisscross.instances import task as instance_task
from crisscross.instances.annotations import open_coco_instances
from crisscross.instances.config import InstanceExperiment
from crisscross.losses import Losses
from crisscross.models import Segmenter

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = Machine(device="cpu")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> DataSet:
    return open_folder(write_shapes(tmp_path_factory.mktemp("data") / "shapes"))


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return open_coco_instances(write_coco(tmp_path_factory.mktemp("coco")))


def differing(first, second) -> list[str]:
    ours, theirs = native.read_tensors(first), native.read_tensors(second)
    assert ours.keys() == theirs.keys()
    return [key for key in ours if not torch.equal(ours[key], theirs[key])]


# --- numbers that are none ---


def test_a_training_of_hard_pixels_that_diverges_ends_with_an_error(dataset, tmp_path, capsys):
    words = ("loss.terms=[{name: ohem}]", "model.aux_head.channels=0", "optim.lr=1e6", "train.iterations=8")
    with pytest.raises(CrissCrossError, match=r"^the loss became nan at iteration \d with the images p"):
        train(experiment(*words), dataset, tmp_path / "run", CPU)
    assert not list((tmp_path / "run").glob("*.safetensors"))
    # How far it came is said where no line of it was due yet.
    assert any(line.startswith("train ") for line in capsys.readouterr().err.splitlines())


def breaking_at(iteration: int):
    """A loss of 0 whose gradient is NaN at one iteration, for `create_loss`."""
    calls = iter(range(1, 100))

    def loss(main, *rest):
        total = main.square().mean()
        if next(calls) == iteration:
            # The slope of the root at 0 is infinite, and infinity times 0 is NaN.
            total = (main * 0).square().sum().sqrt()
        return Losses(total, {"main": total.detach()})

    return lambda *_: loss


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        # A checkpoint is due at 4, a validation at 4, the end at 4.
        (("train.checkpoint_every=1", "train.validate_every=2"), "last.safetensors is not written"),
        (("train.checkpoint_every=3", "train.validate_every=2"), "last.safetensors is not written"),
        (("train.checkpoint_every=3", "train.iterations=4"), "last.safetensors is not written"),
        (("train.checkpoint_every=3", "train.iterations=4", "train.ema=0.5"), "last.safetensors is not written"),
        (("train.checkpoint_every=3", "optim.clip=1"), "the norm of the gradients became nan"),
    ],
)
def test_weights_that_are_no_numbers_never_take_the_place_of_good_ones(dataset, tmp_path, monkeypatch, words, refused):
    monkeypatch.setattr(losses, "create_loss", breaking_at(4))
    run, kept = tmp_path / "run", {}

    def keep(step):
        if step.iteration == 4:
            kept.update({path.name: path.read_bytes() for path in run.glob("*.safetensors")})

    with pytest.raises(CrissCrossError, match=rf"^.*{refused}.*try a smaller optim\.lr.*$") as error:
        train(experiment(*words), dataset, run, CPU, listener=keep)
    assert "\n" not in str(error.value)
    for name, content in kept.items():
        assert (run / name).read_bytes() == content, name
    assert native.read(run / "last.safetensors")[2]["position"]["iteration"] == 3
    native.check_finite(native.read_tensors(run / "last.safetensors"), "last")


def test_statistics_that_are_no_numbers_are_refused_too(dataset, tmp_path, monkeypatch):
    original = training._Run._record

    def overflow(self, step):
        original(self, step)
        self.network.head.reduce.norm.running_var[0] = math.inf

    monkeypatch.setattr(training._Run, "_record", overflow)
    with pytest.raises(
        CrissCrossError, match=r"head\.reduce\.norm\.running_var holds NaN or infinity after iteration 6"
    ):
        train(experiment(), dataset, tmp_path / "run", CPU)
    assert not list((tmp_path / "run").glob("*.safetensors"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_make_no_labels(dataset, value):
    torch.manual_seed(0)
    segmenter = Segmenter(experiment("data.classes=[ground, disc, square]", "inference.ratios=[1.0, 1.5]"))
    image = np.zeros((40, 56, 3), np.uint8)

    # As where half precision overflows: the weights are finite, what comes out is not.
    def overflow(_, inputs, output):
        return output._replace(main=output.main.index_fill(1, torch.tensor(1), value))

    hook = segmenter.head.register_forward_hook(overflow)
    for label in (
        lambda: segmenter.predict(image),
        lambda: segmenter.predict(image, tta=True),
        lambda: segmenter.predict(image, probabilities=True),
        lambda: segmenter.predict_big(image),
        lambda: list(segmenter.predictor.label_frames([image])),
        lambda: segmenter.predictor.logits(image),
        lambda: evaluate(segmenter, dataset, "val"),
    ):
        with pytest.raises(CrissCrossError, match=r"^the network gives NaN or infinity where .*$"):
            label()
    hook.remove()
    assert segmenter.predict(image).labels.shape == (40, 56)


def instances(*changes: str) -> InstanceExperiment:
    return override(InstanceExperiment(), [*TINY, *changes])


def test_instances_with_weights_that_are_no_numbers_are_not_stored(coco, tmp_path, monkeypatch):
    original = training._Run._record

    def break_it(self, step):
        original(self, step)
        if step.iteration == 3:
            next(self.network.roi_heads.parameters()).data[0] = math.nan

    monkeypatch.setattr(training._Run, "_record", break_it)
    changes = ("train.checkpoint_every=1", "train.validate_every=3")
    with pytest.raises(
        CrissCrossError, match=r"last\.safetensors is not written: roi_heads\.\S+ holds NaN .* iteration 3"
    ):
        train(instances(*changes), coco, tmp_path / "run", CPU, task=instance_task.InstanceSegmentation())
    assert native.read_tensors(tmp_path / "run" / "last.safetensors")["roi_heads.box_head.fc6.weight"].isfinite().all()
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_weights_of_classes_that_are_no_numbers_are_refused():
    for weights in ((math.nan, 1.0), (1.0, math.nan)):
        with pytest.raises(CrissCrossError, match=r"loss\.class_weights must be at least 0, got \[.*nan.*\]"):
            LossConfig(class_weights=weights)


def test_an_average_precision_that_is_no_number_is_no_score():
    assert instance_scores._known(math.nan) is None
    assert (instance_scores._known(-1.0), instance_scores._known(0.25)) == (None, 0.25)


# --- validation ---


WORDS = ("train.iterations=4", "train.validate_every=3")


@pytest.fixture(scope="module")
def whole_run(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(experiment(*WORDS), dataset, out, CPU)
    return out


@pytest.mark.parametrize("error", [RuntimeError("sizes differ"), CrissCrossError("p09.png: gone")])
def test_an_error_in_validation_costs_no_step(dataset, whole_run, tmp_path, monkeypatch, error):
    run, there = tmp_path / "run", []

    def broken(*_):
        # A process that is killed here has lost nothing either.
        there.append(native.read(run / "last.safetensors")[2]["position"]["iteration"])
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate", broken)
        with pytest.raises(type(error)) as raised:
            train(experiment(*WORDS), dataset, run, CPU)
    said = "last.safetensors is saved at iteration 3, continue with `crisscross train --resume "
    assert there == [3] and said in "\n".join([str(raised.value), *getattr(raised.value, "__notes__", [])])
    assert not (run / "best.safetensors").exists()
    assert train(experiment(*WORDS), dataset, run, CPU, resume=True).finished
    for name in ("last.safetensors", "best.safetensors"):
        assert differing(whole_run / name, run / name) == []
    # The validation that failed was made up for.
    assert [entry["iteration"] for entry in read_log(run) if "val_miou" in entry] == [3, 4]


def test_a_validation_that_was_logged_but_not_saved_is_logged_once(dataset, whole_run, tmp_path, monkeypatch):
    original = training._Run._save

    def killed(self):
        # As a kill between the line of the log and the checkpoint.
        if self.position.validated == 3:
            raise SystemExit
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(training._Run, "_save", killed)
        with pytest.raises(SystemExit):
            train(experiment(*WORDS), dataset, tmp_path / "run", CPU)
    assert [entry["iteration"] for entry in read_log(tmp_path / "run") if "val_miou" in entry] == [3]
    assert train(experiment(*WORDS), dataset, tmp_path / "run", CPU, resume=True).finished
    logs = [[{**entry, "seconds": 0} for entry in read_log(folder)] for folder in (whole_run, tmp_path / "run")]
    assert logs[0] == logs[1]
    # Where training stands is a fact of `last.safetensors` alone, whether or not it was resumed.
    assert "position" not in native.read(tmp_path / "run" / "best.safetensors")[2]


class OneSize(nn.Module):
    """A backbone that takes the crops of training, but not the data set's own images."""

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=8, padding=1)
        self.stage = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        if x.shape[-2:] == (64, 80):
            raise RuntimeError("the sizes of tensors must match")
        first = self.stem(x)
        return [first, self.stage(first)]


def test_a_network_that_cannot_take_the_validation_images_keeps_its_training(dataset, tmp_path):
    (tmp_path / "tiny.yaml").write_text(to_yaml(experiment(f"model.backbone={__name__}:OneSize", "train.iterations=2")))
    words = [
        "train",
        str(tmp_path / "tiny.yaml"),
        "--data",
        str(dataset.root),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    with pytest.raises(RuntimeError, match="the sizes of tensors must match"):
        main(words)
    assert native.read(tmp_path / "run" / "last.safetensors")[2]["position"]["iteration"] == 2


def test_an_error_in_the_validation_of_instances_costs_no_step(coco, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("sizes differ")

    monkeypatch.setattr(instance_task, "evaluate_instances", broken)
    with pytest.raises(RuntimeError, match="sizes differ") as raised:
        train(
            *(instances("train.iterations=2", "optim.warmup=0"), coco, tmp_path / "run", CPU),
            task=instance_task.InstanceSegmentation(),
        )
    assert "saved at iteration 2, continue with `crisscross train --resume " in raised.value.__notes__[0]
    assert (
        native.read_header_as(InstanceExperiment, tmp_path / "run" / "last.safetensors")[1]["position"]["iteration"]
        == 2
    )


def test_an_image_that_cannot_be_read_at_once_leaves_no_run(tmp_path, capsys):
    data, run = write_shapes(tmp_path / "data", 2, 1), tmp_path / "run"
    image = data / "images" / "p00.png"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "tiny.yaml").write_text(to_yaml(experiment("train.iterations=2", "train.batch=2")))
    words = ["train", str(tmp_path / "tiny.yaml"), "--data", str(data), "--out", str(run), "--workers", "0"]
    assert main([*words, "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert image.name in said and "nothing was trained yet: mend it and start again" in said
    image.write_bytes(whole)
    assert main([*words, "--device", "cpu"]) == 0
    # Finished: a second time nothing is trained, and the report stays as it is.
    before = (run / "report.html").stat().st_mtime_ns
    assert main(["train", "--resume", str(run), "--device", "cpu"]) == 0
    assert "finished already; to train on, add --set train.iterations=4" in capsys.readouterr().err
    assert (run / "report.html").stat().st_mtime_ns == before
