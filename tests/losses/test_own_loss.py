"""Terms of the loss: the table of names, and functions of users, which are given the same as ours."""

import importlib.util
import math
import sys
import types

import pytest
import torch
from paths import ROOT
from small_data import write_folder
from torch.nn import functional

from crisscross.config import Experiment, import_attribute, override
from crisscross.config.loss import TERMS
from crisscross.data import open_folder
from crisscross.engine.run.log import read_log
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError
from crisscross.losses import LossInputs, create_loss, image_losses, terms

IGNORE = 9
CLASSES = 3
LABELS = torch.tensor([[[0, 1, 1, IGNORE], [2, 2, 0, IGNORE]]]).repeat_interleave(3, 2).to(torch.uint8)


def coarse(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, CLASSES, 2, 5, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def config_of(*words):
    return override(Experiment(), words).loss


@pytest.fixture
def mine(monkeypatch):
    """An empty module `mine`, for terms to be put into."""
    module = types.ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def test_every_name_of_the_table_leads_to_its_function():
    for name, term in TERMS.items():
        function = import_attribute(term.function, "loss.terms")
        assert function is getattr(terms, name, None) or function is getattr(image_losses, name)


def test_a_name_is_not_imported_before_a_loss_is_made(mine):
    del mine
    config = config_of("loss.terms=[{name: nowhere:at_all, weight: 0.5}, {name: nor:there, weight: 0}]")
    assert [(term.name, term.weight) for term in config.terms] == [("nowhere:at_all", 0.5), ("nor:there", 0.0)]
    with pytest.raises(CrissCrossError, match=r"^loss\.terms nowhere:at_all: cannot be imported: No module named"):
        create_loss(config, IGNORE)
    # What has no weight is not needed.
    create_loss(config_of("loss.terms=[{name: dice}, {name: nor:there, weight: 0}]"), IGNORE)


@pytest.mark.parametrize(("normalizer", "divisor"), [("all", 24), ("valid", 18)])
def test_a_term_of_a_user_is_given_everything(mine, normalizer, divisor):
    seen = []
    mine.term = lambda inputs: seen.append(inputs) or inputs.logits.sum()
    chosen = f"loss.normalizer={normalizer}", "loss.class_weights=[1, 2, 0.5]", "loss.focal_gamma=3"
    config = config_of("loss.terms=[{name: mine:term}]", *chosen)
    main, embedding = coarse(), torch.zeros(1, 4, 2, 5)
    create_loss(config, IGNORE, align_corners=True)(main, None, LABELS, embedding)
    (inputs,) = seen
    assert isinstance(inputs, LossInputs) and inputs.logits is main and inputs.labels is LABELS
    assert inputs.embedding is embedding and inputs.config is config
    assert (inputs.ignore, inputs.align_corners, int(inputs.divisor)) == (IGNORE, True, divisor)
    assert inputs.class_weights.tolist() == [1, 2, 0.5]
    assert torch.equal(inputs.valid, LABELS != IGNORE)
    full = functional.interpolate(main, LABELS.shape[-2:], mode="bilinear", align_corners=True)
    torch.testing.assert_close(inputs.probabilities, full.softmax(1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("align_corners", [False, True])
def test_both_ways_to_write_a_term_have_the_gradient_of_the_definition(mine, align_corners):
    """The mean over valid pixels of the squared probability of the true class."""

    def own(probabilities, labels):
        safe = labels.long().where(labels != IGNORE, 0)
        return probabilities.gather(1, safe[:, None])[:, 0].square().where(labels != IGNORE, 0).sum()

    mine.by_pixels = lambda given: given.sum_over_pixels(lambda x, y: own(x.softmax(1), y) / given.divisor)
    mine.whole = lambda given: own(given.probabilities, given.labels) / given.divisor
    full = functional.interpolate(main := coarse(), LABELS.shape[-2:], mode="bilinear", align_corners=align_corners)
    wanted = own(full.softmax(1), LABELS) / 18
    (slope,) = torch.autograd.grad(wanted, main)
    for name in ("by_pixels", "whole"):
        words = f"loss.terms=[{{name: mine:{name}, weight: 0.3}}, {{name: dice}}]", "loss.normalizer=valid"
        found = create_loss(config_of(*words), IGNORE, align_corners)(main, None, LABELS)
        dice = create_loss(config_of("loss.terms=[{name: dice}]"), IGNORE, align_corners)(main, None, LABELS).total
        assert list(found.parts) == [f"mine.{name}", "dice"]
        assert found.parts[f"mine.{name}"].item() == pytest.approx(0.3 * wanted.item(), rel=1e-12)
        (gradient,) = torch.autograd.grad(found.total - dice, main)
        torch.testing.assert_close(gradient, 0.3 * slope, rtol=1e-9, atol=1e-15)


def test_half_precision_comes_as_float32_at_full_size(mine):
    kinds = []
    mine.term = lambda given: given.sum_over_pixels(lambda x, y: kinds.append((x.dtype, y.dtype)) or x.sum())
    create_loss(config_of("loss.terms=[{name: mine:term}]"), IGNORE)(coarse(torch.bfloat16), None, LABELS)
    assert set(kinds) == {(torch.float32, torch.uint8)}


@pytest.mark.parametrize(
    ("term", "said"),
    [
        (
            lambda given: given.probabilities,
            r"mine:term must return a scalar tensor, got .* shape \[1, 3, 2, 12\]",
        ),
        (lambda given: 0.5, r"mine:term must return a scalar tensor, got 0\.5"),
        (lambda given: None, "mine:term must return a scalar tensor, got None"),
        (lambda given: {"a": given.logits.sum()}, r"mine:term must return a scalar tensor, got \{'a': tensor\("),
        (lambda given: given.logits.detach().sum(), "mine:term must return a tensor with a gradient, got one without"),
    ],
)
def test_what_is_no_loss_is_refused_by_name(mine, term, said):
    mine.term = term
    loss = create_loss(config_of("loss.terms=[{name: cross_entropy}, {name: mine:term}]"), IGNORE)
    with pytest.raises(CrissCrossError, match=rf"^loss\.terms: {said}") as caught:
        loss(coarse(), None, LABELS)
    assert "\n" not in str(caught.value)


def test_where_nothing_trains_no_gradient_is_asked_for(mine):
    mine.term = lambda given: given.probabilities.mean()
    found = create_loss(config_of("loss.terms=[{name: mine:term}]"), IGNORE)(coarse().detach(), None, LABELS)
    assert found.total.item() == pytest.approx(1 / CLASSES)


def test_the_tversky_loss_of_the_example_by_hand():
    path = ROOT / "examples" / "own_loss.py"
    spec = importlib.util.spec_from_file_location("own_loss_example", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    # Four pixels in a row, of the classes 0, 1, 1 and ignored.
    odds = [[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]]
    logits = torch.tensor(odds, dtype=torch.float64).T.reshape(1, 3, 1, 4).log()
    given = LossInputs(logits, torch.tensor([[[0, 1, 1, IGNORE]]]), IGNORE, False, 4, config_of())
    # (true positives, false positives, false negatives) of each class.
    counts = [(0.5, 0.1 + 0.2, 0.5), (0.8 + 0.2, 0.25, 0.2 + 0.8), (0.0, 0.25 + 0.1 + 0.6, 0.0)]
    each = [1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1) for tp, fp, fn in counts]
    assert example.tversky(given).item() == pytest.approx(math.fsum(each) / 3, rel=1e-12)


@pytest.fixture
def dataset(tmp_path):
    return open_folder(write_folder(tmp_path / "data", {"train": 4}))


def experiment(*words):
    model = "model={backbone: test_resnet, head: {channels: 16}, aux_head: {channels: 8}}"
    steps = "train={iterations: 3, batch: 2, validate_every: 0, checkpoint_every: 2}"
    return override(Experiment(), [model, steps, "augment.crop=[24, 32]", "optim.warmup=0", *words])


def test_a_training_with_a_term_of_a_user_resumes_bit_for_bit(mine, dataset, tmp_path):
    mine.term = lambda given: given.probabilities.square().mean()
    chosen = experiment("loss.terms=[{name: cross_entropy}, {name: mine:term, weight: 0.5}]")

    class Crash(Exception):
        pass

    def crash(step):
        if step.iteration == 3:
            raise Crash

    train(chosen, dataset, tmp_path / "whole")
    with pytest.raises(Crash):
        train(chosen, dataset, tmp_path / "run", listener=crash)
    assert train(chosen, dataset, tmp_path / "run", resume=True).finished
    first, second = (read_log(tmp_path / name) for name in ("whole", "run"))
    names = ("loss", "loss_cross_entropy", "loss_mine.term", "loss_aux")
    assert [[line[name] for name in names] for line in first] == [[line[name] for name in names] for line in second]
    assert all(0 < line["loss_mine.term"] < 0.5 for line in first) and len(first) == 3
    assert (tmp_path / "whole/last.safetensors").stat().st_size == (tmp_path / "run/last.safetensors").stat().st_size


def test_a_missing_term_is_reported_before_anything_is_written(dataset, tmp_path):
    for name, reason in (
        ("nowhere:term", "No module named 'nowhere'"),
        ("math:term", "module 'math' has no"),
    ):
        with pytest.raises(CrissCrossError, match=rf"^loss\.terms {name}: cannot be imported: {reason}"):
            train(experiment(f"loss.terms=[{{name: {name}}}]"), dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()
