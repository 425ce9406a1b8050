"""Measures the criss-cross layer beside other implementations: time, memory and error, one size at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.compare.contestants import FAST, FLOAT32, LEAN, MMCV, Contestant
from benchmarks.compare.kept import kept_for_backward
from benchmarks.compare.rows import Row, Size, layer_gflop, matrix_product
from crisscross.layers import CrissCrossAttention
from crisscross.measurement.memory import peak_memory
from crisscross.measurement.timing import Work, interleave
from crisscross.ops import criss_cross_attention, criss_cross_attention_reference

# Up to this many positions the truth is the definition itself; beyond, the plain expression in float64.
REFERENCE_POSITIONS = 64 * 64
GEMM = "matrix product"
# Whose times the goals compare.
JUDGED = (GEMM, FAST, LEAN, FLOAT32, MMCV)
Report = Callable[[str], object]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        dtype: what the contestants compute in.
        device: where.
        rounds: turns that each contestant takes.
        passes: how often a criss-cross layer is applied where time is measured; a non-local block once.
        quadratic_limit: bytes that matrices of positions x positions may take; those that need more are skipped.
        batch: images in the input.
    """

    dtype: torch.dtype
    device: torch.device
    rounds: int
    passes: int
    quadratic_limit: float
    batch: int = 1

    def passes_of(self, contestant: Contestant) -> int:
        """How often this one is applied where time is measured."""
        return self.passes if contestant.criss_cross else 1


@dataclass(frozen=True)
class Entry:
    """A contestant with its own copy of the input and of the upstream gradient, in the layout and type it takes."""

    contestant: Contestant
    x: Tensor
    upstream: Tensor

    def forward(self, passes: int = 1) -> Tensor:
        """The output, without a graph."""
        with torch.no_grad():
            return self.contestant.run(self.x, passes)

    def step(self, passes: int = 1) -> Tensor:
        """Forward and backward into fresh gradients; gives the output."""
        self.forget()
        y = self.contestant.run(self.x, passes)
        y.backward(self.upstream)
        return y

    def forget(self) -> None:
        """Drop the gradients of the step before."""
        self.x.grad = None
        self.contestant.layer.zero_grad(set_to_none=True)


def measure(
    size: Size,
    weights: CrissCrossAttention,
    contestants: Sequence[Contestant],
    plan: Plan,
    report: Report = lambda what: None,
) -> list[Row]:
    """Measure all contestants at one size: memory and error one after the other, then time in turns.

    Args:
        size: of the input.
        weights: the common weights.
        contestants: from `contestants.create`.
        plan: how to measure.
        report: called with a word on what was just done, at most `steps(contestants, plan)` times.

    Returns:
        One row for each contestant, in their order.
    """
    generator = torch.Generator().manual_seed(size.positions)
    shape = (plan.batch, size.channels, size.height, size.width)
    x, upstream = (torch.randn(shape, generator=generator).to(plan.dtype).to(plan.device) for _ in range(2))
    expected = truth(weights, x, upstream)
    rows: dict[str, Row] = {}
    entries: dict[str, Entry] = {}
    for one in contestants:
        entry = entries[one.name] = Entry(one, one.prepare(x).requires_grad_(one.trains), one.prepare(upstream))
        rows[one.name] = _examine(entry, expected, plan)
        report(f"memory of {one.name}")
    del expected
    work = {one.name: plan.batch * plan.passes_of(one) * layer_gflop(size, one.criss_cross) for one in contestants}
    for name, (time, best) in _race_forward(rows, entries, plan, report).items():
        speed = work[name] / time
        rows[name] = replace(rows[name], forward=time, gflops=speed, share=speed / best)
    for name, (time, best) in _race_training(rows, entries, plan, report).items():
        rows[name] = replace(rows[name], training=time, training_share=3 * work[name] / time / best)
    return list(rows.values())


def steps(contestants: Sequence[Contestant], plan: Plan) -> int:
    """How often `measure` reports at most."""
    return len(contestants) + 2 * (len(contestants) + 1) * (plan.rounds + 1)


def truth(weights: CrissCrossAttention, x: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """Output and input gradient of one pass in float64."""
    layer = CrissCrossAttention(weights.value.out_channels)
    layer.load_state_dict(weights.state_dict())
    layer.to(x.device, torch.float64)
    x = x.double().requires_grad_()
    q, k, v = layer.query(x), layer.key(x), layer.value(x)
    if q.shape[-2] * q.shape[-1] <= REFERENCE_POSITIONS:
        attended = criss_cross_attention_reference(q, k, v)
    else:
        attended = criss_cross_attention(q, k, v, backend="composite")
    y = x + layer.gamma * attended
    (gradient,) = torch.autograd.grad(y, x, upstream.double())
    return y.detach(), gradient


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest absolute value expected."""
    return float((found.detach().double() - expected.detach()).abs().max() / expected.detach().abs().max())


def _examine(entry: Entry, expected: tuple[Tensor, Tensor], plan: Plan) -> Row:
    """Memory and error of one contestant, or the reason why it cannot run. Ours has to run."""
    one, row = entry.contestant, Row(entry.contestant.name)
    positions = entry.x.shape[-2] * entry.x.shape[-1]
    if one.most_positions is not None and positions > one.most_positions:
        return replace(row, note=f"skipped: too slow on {plan.device.type} beyond {one.most_positions} positions")
    matrix = plan.batch * positions**2 * entry.x.element_size()
    if one.quadratic * matrix > plan.quadratic_limit:
        need, limit = one.quadratic * matrix / 2**30, plan.quadratic_limit / 2**30
        return replace(row, note=f"skipped: needs about {need:.3g} GiB, the limit is {limit:.3g} GiB")
    try:
        row = _forward_facts(entry, row, expected[0])
        if not one.trains:
            return replace(row, note=f"forward only on {plan.device.type}")
        return _training_facts(entry, row, expected[1])
    except Exception as error:
        if one.ours:
            raise
        return replace(row, note=f"refuses: {_first_line(error)}")
    finally:
        entry.forget()


def _first_line(error: Exception) -> str:
    text = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _forward_facts(entry: Entry, row: Row, expected: Tensor) -> Row:
    _warm_up(entry)
    found: list[Tensor] = []
    usage = peak_memory(lambda: found.append(entry.forward(1)), entry.x.device)
    (y,) = found
    error = difference(y, expected) if entry.contestant.criss_cross else None
    return replace(row, forward_peak=usage.peak, left=usage.left - y.untyped_storage().nbytes(), error=error)


def _warm_up(entry: Entry) -> None:
    """Let a first call load libraries and make workspaces, at a tiny size, so that what a size leaves is counted."""
    one = entry.contestant
    part = 1 if one.compiled else 8
    tiny = [one.prepare(tensor.detach()[..., ::part, ::part]) for tensor in (entry.x, entry.upstream)]
    warm = Entry(one, tiny[0].requires_grad_(one.trains), tiny[1])
    warm.forward(1)
    if one.trains:
        warm.step(1)
        warm.forget()


def _training_facts(entry: Entry, row: Row, expected: Tensor) -> Row:
    one = entry.contestant
    usage = peak_memory(lambda: entry.step(one.passes), entry.x.device)
    entry.forget()
    kept = kept_for_backward(lambda: one.run(entry.x), [entry.x, *one.layer.parameters()])
    entry.step(1)
    error = difference(entry.x.grad, expected) if one.criss_cross and entry.x.grad is not None else None
    return replace(row, training_peak=usage.peak + max(row.left or 0, 0), kept=kept, gradient_error=error)


def _race_forward(
    rows: dict[str, Row], entries: dict[str, Entry], plan: Plan, report: Report
) -> dict[str, tuple[float, float]]:
    """Seconds of a forward pass and GFLOP per second of a matrix product in the same race, by name."""
    works: dict[str, Work] = {}
    for name, entry in entries.items():
        if rows[name].forward_peak is not None:
            works[name] = partial(entry.forward, plan.passes_of(entry.contestant))
    return _race(works, plan, lambda: report("forward"))


def _race_training(
    rows: dict[str, Row], entries: dict[str, Entry], plan: Plan, report: Report
) -> dict[str, tuple[float, float]]:
    """The same of forward and backward."""
    works: dict[str, Work] = {}
    for name, entry in entries.items():
        if rows[name].training_peak is not None:
            works[name] = partial(entry.step, plan.passes_of(entry.contestant))
    return _race(works, plan, lambda: report("forward and backward"))


def _race(works: dict[str, Work], plan: Plan, on_turn: Callable[[], object]) -> dict[str, tuple[float, float]]:
    gflop, product = matrix_product(plan.device, plan.dtype)
    times = interleave({GEMM: product, **works}, plan.rounds, plan.device, on_turn, JUDGED)
    best = gflop / times.pop(GEMM)
    return {name: (time, best) for name, time in times.items()}
