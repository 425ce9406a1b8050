"""`python -m benchmarks train`: the plain network is the same function, every piece is timed, ratios are printed."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from small_data import write_folder

from benchmarks.__main__ import main
from benchmarks.compare import train as subject
from benchmarks.compare.steps import PIECES, StepRow
from benchmarks.compare.train import GOALS, LEAN, OURS, PLAIN, measure, plain_network
from crisscross import criss_cross_attention
from crisscross.checkpoints import native
from crisscross.config import Experiment, from_dict, override
from crisscross.data import open_folder
from crisscross.engine.setup import Machine
from crisscross.engine.train import train
from crisscross.layers import CrissCrossAttention
from crisscross.losses import pixel_losses
from crisscross.models import Segmenter

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CONFIG = {
    "model": {"backbone": "test_resnet", "output_stride": 8, "head": {"channels": 16}, "aux_head": {"channels": 8}}
}


def segmenter(*changes: str) -> Segmenter:
    named = CONFIG | {"data": {"classes": [f"class {index}" for index in range(9)]}}
    return Segmenter(override(from_dict(Experiment, named), changes))


def test_the_plain_attention_is_the_definition() -> None:
    net = segmenter()
    layer = net.head.attend.attention
    torch.nn.init.constant_(layer.gamma, 0.7)
    plain = plain_network(net.double()).head.attend.attention
    assert not isinstance(plain, CrissCrossAttention)
    x = torch.randn(2, 16, 5, 7, dtype=torch.float64)
    truth = x + layer.gamma * criss_cross_attention(layer.query(x), layer.key(x), layer.value(x), "reference")
    assert (plain.double()(x) - truth).abs().max() < 1e-12


@pytest.mark.slow
def test_all_contestants_compute_the_same_and_say_where_the_time_goes(monkeypatch) -> None:
    turns: list[int] = []
    # As with images of a usual size: the loss takes one at a time.
    monkeypatch.setattr(pixel_losses, "BAND_BYTES", 2**19)
    rows = measure(segmenter(), 160, 128, 2, 1, CPU, lambda: turns.append(1))
    assert [row.name for row in rows] == subject.contestants(CPU) and len(turns) == len(rows) * 3
    plain = rows[0]
    for row in rows:
        assert abs(row.loss - plain.loss) < 1e-5 * plain.loss
        assert list(row.seconds) == list(PIECES) and min(row.seconds.values()) > 0
        # Weights, statistics and one momentum for each weight.
        assert row.held == plain.held > 0
    peaks = {row.name: row.peak for row in rows}
    assert peaks[LEAN] < peaks[OURS] < peaks[PLAIN]


def test_another_function_is_called_out(monkeypatch, capsys) -> None:
    def broken(network: Segmenter) -> Segmenter:
        plain = deepcopy(network)
        torch.nn.init.constant_(plain.head.attend.attention.gamma, -3.0)
        return plain

    monkeypatch.setattr(subject, "plain_network", broken)
    arguments = ["train", "demo", "--size", "32x32", "--rounds", "1", "--only", "lean"]
    assert main(arguments) == 0
    assert "NOT THE SAME FUNCTION" in capsys.readouterr().out


def test_the_command_prints_ratios(capsys) -> None:
    arguments = ["train", "demo", "--size", "32x32", "--rounds", "1", "--only", "lean+winograd"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "NOT THE SAME" not in out
    assert "lean+winograd: time beside plain" in out and "0.9x" in out


def test_goals_are_ratios_to_the_plain_network() -> None:
    def row(name: str, total: float, peak: int) -> StepRow:
        return StepRow(name, {}, total, total, peak, 100, 1.0, 1e-4)

    rows = [row(PLAIN, 10.0, 900), row(GOALS[0].name, 8.0, 400)]
    assert GOALS[0].found(rows) == 0.8 and GOALS[1].found(rows) == 0.5 and GOALS[2].found(rows) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "8x8"], "at least 32x32"),
        (["--only", "nobody"], "known: plain, ours, lean"),
    ],
)
def test_bad_input(arguments: list[str], words: str, capsys) -> None:
    assert main(["train", "demo", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_lean_run_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Through the whole engine: the same up to rounding after three iterations."""
    dataset = open_folder(write_folder(tmp_path / "data", {"train": 4}, 48, 48))
    short = {"augment": {"crop": [48, 48]}, "train": {"iterations": 3, "batch": 4, "validate_every": 0}}
    found = {}
    for memory in ("fast", "lean"):
        experiment = override(from_dict(Experiment, CONFIG | short), [f"train.memory={memory}"])
        train(experiment, dataset, tmp_path / memory, Machine(device="cpu"))
        found[memory] = native.read(tmp_path / memory / "last.safetensors")[0]
    assert found["fast"].keys() == found["lean"].keys()
    for name, tensor in found["fast"].items():
        torch.testing.assert_close(found["lean"][name], tensor, rtol=1e-4, atol=1e-6, msg=name)
