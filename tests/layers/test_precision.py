"""What a GPU multiplies: one setting for matrix products and convolutions, and no precision that it only emulates."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from shapes_data import experiment, write_shapes

from crisscross import hardware
from crisscross.data import DataSet, open_folder
from crisscross.engine import setup
from crisscross.engine import train as training
from crisscross.engine.setup import Machine, algorithms, create_accelerator
from crisscross.engine.train import train
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.layers.precision import check_precision, float32_products, warn_of_emulation
from crisscross.losses import TrainingLoss
from crisscross.models import Segmenter

pytestmark = pytest.mark.usefixtures("one_thread")

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


def rounded() -> tuple[bool, bool]:
    """Whether matrix products and convolutions of float32 may be rounded to TF32, by both of torch's names."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    found = matmul.allow_tf32, cudnn.allow_tf32
    assert found == (matmul.fp32_precision == "tf32", cudnn.conv.fp32_precision == "tf32")
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> DataSet:
    return open_folder(write_shapes(tmp_path_factory.mktemp("data") / "shapes"))


@pytest.fixture
def card(monkeypatch):
    """Let torch tell of a card of this compute capability."""

    def tell(*capability: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")

    monkeypatch.setattr(torch.version, "hip", None)
    return tell


def test_both_products_are_set_and_come_back():
    assert rounded() == (False, True)
    with float32_products(tf32=True):
        assert rounded() == (True, True)
        with pytest.raises(StopIteration), float32_products(tf32=False):
            next(iter(()) if rounded() == (False, False) else iter("x"))
        assert rounded() == (True, True)
    assert rounded() == (False, True)


@pytest.mark.parametrize("wanted", ["highest", "high", "medium"])
def test_the_older_name_can_be_read_inside_and_afterwards(wanted):
    settings = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, torch.backends.cudnn.rnn
    former = [setting.fp32_precision for setting in settings]
    try:
        torch.set_float32_matmul_precision(wanted)
        torch.backends.cudnn.rnn.fp32_precision = "ieee"
        own = [setting.fp32_precision for setting in settings]
        for tf32 in (True, False):
            with float32_products(tf32):
                # torch raises where its names contradict each other.
                assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
                assert rounded() == (tf32, tf32)
            assert torch.get_float32_matmul_precision() == wanted
            assert [setting.fp32_precision for setting in settings] == own
    finally:
        torch.set_float32_matmul_precision("highest")
        for setting, value in zip(settings, former, strict=True):
            setting.fp32_precision = value


def test_of_overlapping_threads_the_last_one_undoes_it():
    first, second = float32_products(tf32=False), float32_products(tf32=False)
    with contextlib.ExitStack() as rest:
        with contextlib.ExitStack() as beside:
            beside.enter_context(first)
            rest.enter_context(second)
        # The first to come has gone: the other goes on as it began.
        assert rounded() == (False, False)
    assert rounded() == (False, True)


def test_steps_are_rounded_where_that_is_asked_for_and_labels_never(dataset, tmp_path, monkeypatch):
    seen: list[tuple[str, bool, bool]] = []
    loss, coarse = TrainingLoss.__call__, Segmenter.coarse

    def noted(kind, function):
        def call(*given, **named):
            seen.append((kind, *rounded()))
            return function(*given, **named)

        return call

    monkeypatch.setattr(TrainingLoss, "__call__", noted("step", loss))
    monkeypatch.setattr(Segmenter, "coarse", noted("label", coarse))
    # This machine has a CPU alone, which is refused.
    monkeypatch.setattr(setup, "check_precision", lambda precision, device: None)
    for precision, wanted in (("fp32", False), ("tf32", True)):
        chosen = experiment(f"train.precision={precision}", "train.iterations=2", "train.validate_every=1")
        train(chosen, dataset, tmp_path / precision)
        assert set(seen) >= {("step", wanted, wanted), ("label", False, False)}
        assert {entry for entry in seen if entry[0] == "step"} == {("step", wanted, wanted)}
        assert rounded() == (False, True)
        seen.clear()


def test_a_prediction_is_exact_whatever_the_process_has_set():
    network, seen = Segmenter(experiment("data.classes=[a, b, c]")), []
    network.register_forward_pre_hook(lambda *given: seen.append(rounded()))
    network.backbone.register_forward_pre_hook(lambda *given: seen.append(rounded()))
    with float32_products(tf32=True):
        network.predict(np.zeros((48, 48, 3), np.uint8))
        assert rounded() == (True, True)
    assert set(seen) == {(False, False)}


@pytest.mark.parametrize(("precision", "instead"), [("bf16", "fp16"), ("tf32", "fp32")])
def test_a_card_that_emulates_is_refused(card, precision, instead):
    card(7, 5)
    with pytest.raises(CrissCrossError) as caught:
        check_precision(precision, GPU)
    assert str(caught.value) == (
        f"train.precision={precision} is not available on this device: Tesla T4 has compute capability 7.5, "
        f"{precision} needs 8.0; set train.precision={instead}"
    )
    check_precision(instead, GPU)
    check_precision("fp32", GPU)
    card(8, 0)
    check_precision(precision, GPU)
    card(12, 0)
    check_precision(precision, GPU)


def test_cards_of_other_makers_are_not_judged_by_their_numbers(card, monkeypatch):
    card(7, 5)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    check_precision("bf16", GPU)


def test_the_option_that_asked_is_named(card):
    card(7, 0)
    with pytest.raises(CrissCrossError, match=r"^--precision=bf16 .* set --precision=fp16$"):
        check_precision("bf16", GPU, "--precision")


def test_a_cpu_takes_bf16_and_neither_fp16_nor_tf32():
    for precision in ("fp32", "bf16"):
        check_precision(precision, CPU)
    for precision in ("fp16", "tf32"):
        with pytest.raises(CrissCrossError, match=rf"{precision} is not available on this device: a CPU comp"):
            check_precision(precision, CPU)


def test_training_checks_the_precision_before_it_begins(card, dataset, tmp_path, monkeypatch):
    card(6, 1)
    told = {}

    def accelerator(**given):
        told.update(given)
        return SimpleNamespace(device=GPU)

    monkeypatch.setattr(setup, "Accelerator", accelerator)
    with pytest.raises(
        CrissCrossError, match=r"train\.precision=bf16 .* capability 6\.1, .* set train\.precision=fp16"
    ):
        create_accelerator("bf16", Machine(), tmp_path)
    card(8, 9)
    for precision, mixed in (("fp32", "no"), ("tf32", "no"), ("bf16", "bf16"), ("fp16", "fp16")):
        create_accelerator(precision, Machine(), tmp_path)
        assert told["mixed_precision"] == mixed
    monkeypatch.undo()
    with pytest.raises(CrissCrossError, match=r"train\.precision=tf32 is not available on this device"):
        training.train(experiment("train.precision=tf32"), dataset, tmp_path / "run", Machine(device="cpu"))


@pytest.mark.parametrize(("features", "said"), [({"avx2"}, ["train.precision=bf16"]), ({"avx512_bf16"}, [])])
def test_training_in_a_precision_that_the_processor_emulates_is_warned_of(
    features, said, dataset, tmp_path, monkeypatch, recwarn
):
    monkeypatch.setattr(hardware, "processor", lambda: ("some", features))
    for precision in ("bf16", "fp32"):
        create_accelerator(precision, Machine(device="cpu"), tmp_path)
    warn_of_emulation("bf16", GPU)
    found = [str(one.message) for one in recwarn if one.category is CrissCrossWarning]
    assert [text.partition(":")[0] for text in found] == said
    assert all("no instructions for it" in text for text in found)


def test_repeating_bit_for_bit_is_undone_afterwards():
    former = torch.are_deterministic_algorithms_enabled()
    with algorithms(experiment("train.deterministic=true").train):
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled() == former
