"""What a training step asks of the processor beside the arithmetic, counted: on a GPU that is what leaves it idle."""

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from shapes_data import experiment, write_shapes
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from crisscross import losses
from crisscross.config import LossConfig
from crisscross.data import DataSet, open_folder
from crisscross.data.samples.loader import TrainingSamples, training_batches
from crisscross.engine import train as training
from crisscross.engine.loop import Numbers, check_finite, read, training_steps
from crisscross.engine.optimizer import create_optimizer
from crisscross.engine.semantic import evaluate as evaluation
from crisscross.engine.semantic.task import SemanticLosses, SemanticSegmentation
from crisscross.engine.semantic.unseen_classes import SeenClasses
from crisscross.engine.setup import Machine, trying_convolutions
from crisscross.engine.task import Start
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError
from crisscross.layers.modes import computing_in, evaluating
from crisscross.losses import Losses, TrainingLoss, create_loss
from crisscross.models import Segmenter, create_segmenter

pytestmark = pytest.mark.usefixtures("one_thread")

# Operators for which the processor waits until the device has the number, or the number of numbers.
READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "bincount", "equal", "is_nonzero"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> DataSet:
    return open_folder(write_shapes(tmp_path_factory.mktemp("data") / "shapes"))


class Operators(TorchDispatchMode):
    """Counts operators by name, backward's among them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


TERMS = "[{name: cross_entropy}, {name: focal}, {name: dice}, {name: category_consistent}]"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("optim.clip=1", "train.accumulate=2", "loss.normalizer=valid", "loss.class_weights=[1, 2, 3]"),
        (f"loss.terms={TERMS}",),
    ],
)
def test_a_step_reads_from_the_device_once_and_copies_nothing_to_it(dataset, monkeypatch, words):
    chosen = experiment("data.classes=[ground, disc, square]", *words)
    network, accelerator = Segmenter(chosen), Accelerator(cpu=True)
    prepared = accelerator.prepare(network, create_optimizer(chosen.optim, network))
    losses = SemanticLosses(chosen)
    batches = training_batches(TrainingSamples(dataset, dataset.split("train"), chosen), 0)
    batches = iter([next(batches) for _ in range(2 * chosen.train.accumulate)])
    steps = training_steps(*prepared, batches, losses, chosen, accelerator)
    first = next(steps)
    lists: list[Tensor] = []
    tolist = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda self: lists.append(self) or tolist(self))
    with Operators() as operators:
        second = next(steps)
    assert (first.iteration, second.iteration) == (1, 2) and math.isfinite(second.loss)
    # The only list has the loss of each pass, its parts and the norm in it; nothing else is read.
    assert len(lists) == 1 and not READS & operators.counts.keys()
    # What a tensor is made of numbers by: on a GPU, a copy that waits.
    assert operators.counts["lift_fresh"] == 0 and operators.counts["convolution_backward"] > 10


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_image_is_copied_to_the_device_and_nothing_beside_it(precision):
    words = ("inference.ratios=[1.0]", "inference.mode=slide", "inference.window=[32, 32]", "inference.stride=[24, 24]")
    segmenter = Segmenter(experiment("data.classes=[ground, disc, square]", "data.flip_pairs=[[1, 2]]", *words))
    image = torch.randint(0, 256, (3, 48, 72), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with evaluating(segmenter), computing_in(precision, torch.device("cpu")):
        first = segmenter.predict(image, tta=True).labels
        with Operators() as operators:
            second = segmenter.predict(image, tta=True).labels
    assert np.array_equal(first, second) and operators.counts["lift_fresh"] == 0
    # Whether the logits are finite, of all windows and passes at once.
    assert sum(operators.counts[name] for name in READS) == 1


def test_the_modes_of_a_network_are_set_where_one_has_to_change(monkeypatch):
    network, calls = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Dropout())).eval(), []
    train = nn.Module.train
    monkeypatch.setattr(nn.Module, "train", lambda self, mode=True: calls.append(mode) or train(self, mode))
    with evaluating(network):
        pass
    assert not calls
    network[1][0].train()
    with evaluating(network):
        assert not network[1][0].training
    assert [module.training for module in network.modules()] == [False, False, False, True]


@pytest.mark.parametrize("label", ["middle", "last", "every"])
def test_clips_are_labeled_without_a_copy_to_the_device(label):
    words = ("model.frames=3", f"model.label={label}")
    segmenter = create_segmenter(experiment("data.classes=[ground, disc, square]", *words))
    with Operators() as operators:
        segmenter(torch.zeros(6, 3, 48, 48), coarse=True)
    assert operators.counts["lift_fresh"] == 0


def operators_of(count: int, side: int) -> int:
    coarse = torch.randn(count, 19, side // 8, side // 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.randint(0, 19, (count, side, side), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    loss = create_loss(LossConfig(), 255)
    with Operators() as operators:
        loss(coarse, coarse, labels).total.backward()
    return operators.counts.total()


def test_the_loss_of_a_batch_of_small_images_is_one_pass():
    # 8 x 19 x 64 x 64 float32 are 2.4 MiB: one image's number of operators, not eight times as many.
    assert operators_of(8, 64) == operators_of(1, 64)
    # Of 256 x 256 a single image takes more than is worked on at once.
    assert operators_of(2, 256) > 1.5 * operators_of(1, 256)


def test_convolutions_are_tried_in_steps_and_not_in_validation(dataset, tmp_path, monkeypatch):
    seen: list[tuple[str, bool]] = []
    evaluate, loss = evaluation.evaluate, TrainingLoss.__call__

    def noted(kind, function):
        def call(*given, **named):
            seen.append((kind, torch.backends.cudnn.benchmark))
            return function(*given, **named)

        return call

    monkeypatch.setattr(evaluation, "evaluate", noted("validation", evaluate))
    monkeypatch.setattr(TrainingLoss, "__call__", noted("step", loss))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    words = ("train.iterations=2", "train.validate_every=1")
    train(experiment(*words), dataset, tmp_path / "tried")
    assert seen == [("step", True), ("validation", False)] * 2
    assert not torch.backends.cudnn.benchmark
    seen.clear()
    train(experiment(*words, "train.deterministic=true"), dataset, tmp_path / "repeated")
    assert not any(tried for _, tried in seen)


def test_what_was_chosen_for_convolutions_comes_back_after_an_error(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    with pytest.raises(StopIteration), trying_convolutions(False):
        next(iter([]) if not torch.backends.cudnn.benchmark else iter([1]))
    assert torch.backends.cudnn.benchmark


def test_memory_is_pinned_for_a_gpu_alone(dataset, tmp_path, monkeypatch):
    pinned: list[bool] = []
    original = torch.utils.data.DataLoader

    def loader(*given, pin_memory=False, **named):
        pinned.append(pin_memory)
        return original(*given, **named)

    monkeypatch.setattr("crisscross.data.samples.loader.DataLoader", loader)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    samples = TrainingSamples(dataset, dataset.split("train"), experiment())
    next(training_batches(samples, 0))
    next(training_batches(samples, 0, pin=True))
    monkeypatch.undo()
    assert pinned == [False, True]


def test_classes_are_found_where_images_are_read(dataset):
    samples = TrainingSamples(dataset, dataset.split("train"), experiment("augment.scale=null"))
    batches = list(training_batches(samples, 4, workers=1))
    assert len(batches) == 2
    for batch in batches:
        assert batch.found == set(batch.labels.unique().tolist())
    seen = SeenClasses(("ground", "disc", "square", "ghost"))
    with Operators() as operators:
        for batch in batches:
            seen.see(batch.found)
    assert not operators.counts
    assert seen.line() == "never seen in 2 batches, so not learned: ghost"
    seen = SeenClasses(("ground", "disc"))
    seen.see(frozenset({255}))
    assert seen.line() == "no label in any of the 1 batches: everything was ignored, nothing was learned"


def test_no_step_is_taken_by_a_loss_that_is_not_finite(dataset, tmp_path, monkeypatch):
    values = iter([1.0, 1.0, 1.0, 1.0, 1.0, math.inf])
    create = losses.create_loss

    def broken(*given):
        loss = create(*given)

        def call(*inputs):
            total, parts = loss(*inputs)
            return Losses(total * next(values), parts)

        return call

    monkeypatch.setattr(losses, "create_loss", broken)
    kept = {}

    def listener(step):
        kept[step.iteration] = {name: value.clone() for name, value in run.network.named_parameters()}

    chosen = experiment("train.accumulate=2", "train.checkpoint_every=1")
    run = training._Run(SemanticSegmentation(), chosen, dataset, tmp_path / "run", Machine(device="cpu"), Start())
    samples = TrainingSamples(dataset, dataset.split("train"), run.experiment)
    *_, names = (batch.names for batch, _ in zip(training_batches(samples, 0), range(6), strict=False))
    with pytest.raises(CrissCrossError, match=f"loss became inf at iteration 3 with the images {', '.join(names)};"):
        run.go(listener)
    assert list(kept) == [1, 2]
    assert all(torch.equal(value, kept[2][name]) for name, value in run.network.named_parameters())


def test_a_norm_that_is_not_finite_is_refused(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "clip_grad_norm_", lambda *given: torch.tensor(math.nan))
    with pytest.raises(CrissCrossError, match=r"norm of the gradients became nan at iteration 1, which optim\.clip=1"):
        train(experiment("optim.clip=1"), dataset, tmp_path / "run")


def test_two_processes_share_their_numbers_and_both_stop_for_one_loss_that_is_not_finite():
    def pair(*values: float) -> list[Losses]:
        return [Losses(torch.tensor(value), {"main": torch.tensor(value / 2)}) for value in values]

    def read_beside(others: list[float], norm: float) -> Numbers:
        def reduce(mine: Tensor, how: str) -> Tensor:
            assert how == "mean"
            return (mine + torch.tensor(others)) / 2

        return read(pair(1.0, 2.0), torch.tensor(norm), SimpleNamespace(num_processes=2, reduce=reduce))

    batches = [SimpleNamespace(names=["a"]), SimpleNamespace(names=["b"])]
    # The other one's loss and its part: the mean of (3, 5), and of (0.75, 0.25).
    numbers = read_beside([5.0, 0.25], 7.0)
    assert numbers == Numbers([1.0, 2.0], 4.0, {"main": 0.5}, 7.0)
    check_finite(numbers, 0, batches, 1.0)
    with pytest.raises(CrissCrossError, match="the loss of another process became nan at iteration 3; its own message"):
        check_finite(read_beside([math.nan, 0.25], 7.0), 2, batches, 1.0)
