"""Bytes against sizes known by hand, turns against the order that they have to come in."""

import pytest
import torch

from benchmarks.compare.goals import MIB
from benchmarks.compare.kept import kept_for_backward
from crisscross.layers import CrissCrossAttention
from crisscross.measurement.memory import Usage, peak_memory, running_sum
from crisscross.measurement.timing import TURNS_OF_SLOW, interleave

CPU = torch.device("cpu")
KIB = 1024


def test_peak_memory_is_counted_to_the_byte() -> None:
    def work() -> torch.Tensor:
        first = torch.empty(3 * KIB, dtype=torch.uint8)
        second = torch.empty(5 * KIB, dtype=torch.uint8)
        del first
        third = torch.empty(1 * KIB, dtype=torch.uint8)
        del second
        return third

    assert peak_memory(work, CPU) == Usage(peak=8 * KIB, left=1 * KIB)


def test_what_existed_before_is_not_counted() -> None:
    x = torch.ones(256, KIB)
    # The sum and nothing else; the temporary x * 2 dies before the end.
    assert peak_memory(lambda: (x * 2) + x, CPU) == Usage(peak=2 * MIB, left=1 * MIB)
    assert running_sum([5, -5, 3, 4, -3]) == Usage(peak=7, left=4)


def test_kept_for_backward_counts_each_storage_once_and_not_the_input() -> None:
    x, weight = torch.ones(256, KIB, requires_grad=True), torch.ones(256, KIB, requires_grad=True)
    # exp keeps its result; the product keeps that very result again, and the weight.
    assert kept_for_backward(lambda: x.exp() * weight, [x, weight]) == 1 * MIB
    assert kept_for_backward(lambda: x * weight, [x, weight]) == 0
    assert kept_for_backward(lambda: (x * 2).exp().exp(), [x]) == 2 * MIB


def test_kept_agrees_with_the_allocator() -> None:
    """The saved tensors are what the allocator holds for them: nothing hides in a graph."""
    layer = CrissCrossAttention(64, memory="fast")
    x = torch.randn(1, 64, 24, 20).to(memory_format=torch.channels_last).requires_grad_()
    layer(x)
    outputs = []
    left = peak_memory(lambda: outputs.append(layer(x)), CPU).left
    kept = kept_for_backward(lambda: layer(x), [x, *layer.parameters()])
    # Within a few scalars.
    assert left - outputs[0].untyped_storage().nbytes() == pytest.approx(kept, abs=4 * KIB)


LENGTHS = {"A": 0.02, "B": 0.04}


class Clock:
    """Stands still until it is advanced."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def test_contestants_take_turns() -> None:
    turns: list[str] = []
    clock = Clock()
    # Each call is as long as a turn, so that no turn is filled up with repeated calls.
    works = {name: lambda name=name: turns.append(name) or clock.advance(0.02) for name in "ABC"}
    reports: list[int] = []
    times = interleave(works, 3, CPU, lambda: reports.append(1), clock=clock)
    assert "".join(turns) == "AABBCC" + "ABC" * 3
    assert times == pytest.approx({"A": 0.02, "B": 0.02, "C": 0.02})
    assert len(reports) == 3 * (3 + 1)


def test_the_median_is_not_moved_by_one_bad_turn() -> None:
    clock, lengths = Clock(), iter([0.02, 0.02, 0.02, 0.2, 0.02])
    works = {"A": lambda: clock.advance(next(lengths))}
    assert interleave(works, 3, CPU, clock=clock) == pytest.approx({"A": 0.02})


def test_slow_work_takes_fewer_turns(monkeypatch) -> None:
    monkeypatch.setattr("crisscross.measurement.timing.SLOW", 0.03)
    turns: list[str] = []
    clock = Clock()
    works = {name: lambda name=name: turns.append(name) or clock.advance(LENGTHS[name]) for name in LENGTHS}
    rounds = TURNS_OF_SLOW + 2
    interleave(works, rounds, CPU, clock=clock)
    assert turns.count("B") == 1 + TURNS_OF_SLOW and turns[-3:] == ["B", "A", "A"]
    turns.clear()
    interleave(works, rounds, CPU, always=["B"], clock=clock)
    assert turns.count("B") == 1 + rounds


def test_another_clock_can_tell_the_seconds() -> None:
    ticks = iter(range(100))
    assert interleave({"one": lambda: None}, 3, CPU, clock=lambda: float(next(ticks))) == {"one": 1.0}
