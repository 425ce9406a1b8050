"""`python -m benchmarks clips`: the plain expression is the definition, and the command says what it measured."""

import pytest
import torch
from torch import nn

from benchmarks.__main__ import main
from benchmarks.compare.clips import FAST, LEAN, PLAIN, PLAIN_LAST, measure, steps
from benchmarks.compare.peers import PlainCrissCross3d
from crisscross.layers import CrissCrossAttention3d


def test_the_plain_expression_is_the_definition() -> None:
    torch.manual_seed(0)
    plain = PlainCrissCross3d(8, 2).double()
    ours = CrissCrossAttention3d(8, 2, "reference").double()
    nn.init.constant_(plain.gamma, 0.7)
    ours.load_state_dict(plain.state_dict())
    for size in ((3, 4, 5), (1, 2, 3), (4, 1, 1)):
        x = torch.randn(2, 8, *size, dtype=torch.float64)
        torch.testing.assert_close(plain(x), ours(x), rtol=1e-12, atol=1e-12)


def test_all_are_measured_and_agree() -> None:
    turns: list[None] = []
    rows = measure((1, 16, 3, 8, 16), torch.float32, torch.device("cpu"), 1, lambda: turns.append(None))
    assert [row.name for row in rows] == [FAST, LEAN, PLAIN, PLAIN_LAST]
    assert len(turns) == steps(1)
    by_name = {row.name: row for row in rows}
    for row in rows:
        assert row.forward and row.training and row.forward_peak and row.training_peak
        assert row.error is not None and row.error < 1e-5
        assert row.gradient_error is not None and row.gradient_error < 1e-5
    kept = [by_name[name].kept or 0 for name in (LEAN, FAST, PLAIN)]
    assert kept == sorted(kept) and kept[0] > 0
    # The output is counted.
    assert (by_name[LEAN].forward_peak or 0) >= 16 * 3 * 8 * 16 * 4


def test_the_command_prints_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clips", "--size", "2x8x8", "--channels", "16", "--rounds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "1 x 16 x 2 x 8 x 8, medians of 1 rounds" in printed
    assert "x plain" in printed and "training, 3 passes" in printed and printed.count("ours, lean") == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "45x60"], "--size: '45x60' is no clip; write frames x height x width, as in 5x45x60"),
        (["--size", "0x4x4"], "--size: '0x4x4' is no clip"),
        (["--channels", "4"], "--channels must be at least 8, got 4"),
        (["--dtype", "int8"], "--dtype: unknown int8; known: float32, bfloat16, float16"),
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clips", *options]) == 2
    assert words in capsys.readouterr().err
