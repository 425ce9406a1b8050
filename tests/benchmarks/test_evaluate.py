"""`python -m benchmarks evaluate` compares what it says, and says what it found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.compare import evaluate as evaluation
from benchmarks.compare.evaluate import NOISE, SEGMENTS, Field, _Field, measure, noise, segments
from crisscross.data import scenes

CPU = torch.device("cpu")


def field_of(maps, height=64, width=96, classes=5):
    truth = torch.from_numpy(np.random.default_rng(0).integers(0, classes + 1, (height, width)).astype(np.uint8))
    return _Field([maps], [torch.zeros(1, 3, height, width)], [truth], False)


def test_both_ways_of_counting_agree():
    field = field_of(noise(64, 96, 5, 0))
    counts, (hits, found, truth) = field.count(0), field.plain_count(0)
    assert counts.sum() > 3000
    assert hits.tolist() == counts.diagonal().tolist()
    assert (found.tolist(), truth.tolist()) == (counts.sum(0).tolist(), counts.sum(1).tolist())
    # Whatever is no class of the network counts nowhere.
    assert counts.sum() == (field.truths[0] < 5).sum() == (field.truths[0] != 255).sum()


def test_changed_labels_are_counted_apart_from_ties(monkeypatch):
    field = field_of(noise(64, 96, 5, 0))
    seconds = {f"x: {piece}": 1.0 for piece in field.works()}
    row = field.row("x", seconds)
    assert (row.pixels, row.differing, row.ties) == (64 * 96, 0, 0)
    wrong = field.found[0].clone()
    wrong[3, 4] = (wrong[3, 4] + 1) % 5
    field.found[0] = wrong
    assert (field.row("x", seconds).differing, field.row("x", seconds).ties) == (1, 0)
    monkeypatch.setattr(evaluation, "ROUNDING", 10.0)
    assert field.row("x", seconds).ties == 1


def test_the_ratio_is_that_of_labels_and_counts_together():
    row = Field(
        "x", (2, 3, 4), labels=0.01, plain_labels=0.2, count=0.03, plain_count=0.04, pixels=1, differing=0, ties=0
    )
    assert row.ratio == pytest.approx(0.24 / 0.04)
    assert replace(row, count=0.11).ratio == pytest.approx(0.24 / 0.12)


def test_made_up_segments_are_mostly_the_drawn_ones():
    _, truth = scenes.draw_scene(0, 128, 256)
    logits = segments(torch.from_numpy(truth), 19, 0)
    assert logits.shape == (1, 19, 16, 32)
    small = truth[::8, ::8]
    assert (logits[0].argmax(0).numpy() == small)[small != 255].mean() > 0.8


def test_a_small_run(monkeypatch):
    turns = []
    times = measure("demo", 64, 96, 7, 2, 1, CPU, lambda: turns.append(1))
    assert len(turns) == 30 and min(times.decode, times.preprocess, times.network) > 0
    assert [field.name for field in times.fields] == ["demo", SEGMENTS, NOISE]
    # The demo's own recipe names no classes: the published 19 at stride 8.
    assert [field.coarse for field in times.fields] == [(19, 8, 12), (7, 8, 12), (7, 8, 12)]
    for field in times.fields:
        assert field.pixels == 2 * 64 * 96 and field.differing == field.ties and field.ratio > 0


def test_from_the_command_line(capsys):
    words = ["evaluate", "demo", "--size", "64x96", "--images", "1", "--rounds", "1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for text in ("decode", "resize, normalize", "upsample, argmax", "both", "of 6144 labels differ", "goal 3x"):
        assert text in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--size 16x64", "--size must be at least 32x32, got '16x64'"),
        ("--size 64x64,96x96", "--size: '64x64,96x96' is not a size"),
        ("--classes 256", "--classes must be at most 255, got 256"),
        ("nothing", "nothing: no such file"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys):
    assert main(["evaluate", *words.split()]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("crisscross")]
    assert message in line
