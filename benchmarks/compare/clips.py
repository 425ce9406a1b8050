"""Measures the 3-D criss-cross layer beside the plain expression of it: time, memory and error, over one clip."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.compare.attention import Entry, difference
from benchmarks.compare.contestants import FAST, GATE, LEAN, Contestant
from benchmarks.compare.kept import kept_for_backward
from benchmarks.compare.peers import PlainCrissCross3d
from benchmarks.compare.rows import Row
from crisscross.layers import CrissCrossAttention3d
from crisscross.measurement.memory import peak_memory
from crisscross.measurement.timing import Clock, interleave

PLAIN, PLAIN_LAST = "plain", "plain, channels-last"
# What `RecurrentCrissCrossAttention3d` does by default.
PASSES = 3


def measure(
    shape: tuple[int, int, int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    rounds: int,
    report: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
) -> list[Row]:
    """Memory and error one after the other, then time in turns; the last two rows are the plain expression's.

    Args:
        shape: of the input, [B, C, T, H, W].
        dtype: what is computed in.
        device: where.
        rounds: turns that each takes.
        report: called after every step, at most `steps(rounds)` times.
        clock: tells seconds, see `timing.interleave`.

    Returns:
        Times of one pass; the forward peak of one pass, the training peak of `PASSES` with shared weights.
    """
    entries = _entries(shape, dtype, device)
    truth, slope = _truth(entries[PLAIN])
    rows = []
    for name, entry in entries.items():
        rows.append(_examine(name, entry, truth, slope, device))
        report()
    options = rounds, device, report, entries, clock
    forward = interleave({name: one.forward for name, one in entries.items()}, *options)
    training = interleave({name: one.step for name, one in entries.items()}, *options)
    return [replace(row, forward=forward[row.name], training=training[row.name]) for row in rows]


def steps(rounds: int) -> int:
    """How often `measure` reports at most."""
    return 4 + 2 * 4 * (rounds + 1)


def _entries(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> dict[str, Entry]:
    generator = torch.Generator().manual_seed(0)
    x, upstream = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: dict[str, nn.Module] = {
            name: CrissCrossAttention3d(shape[1], memory=memory) for name, memory in _OURS.items()
        }
        layers |= {name: PlainCrissCross3d(shape[1]) for name in (PLAIN, PLAIN_LAST)}
    nn.init.constant_(layers[PLAIN].get_parameter("gamma"), GATE)
    entries = {}
    for name, layer in layers.items():
        layer.load_state_dict(layers[PLAIN].state_dict())
        one = Contestant(name, layer.to(device, dtype), channels_last=name != PLAIN, passes=PASSES)
        entries[name] = Entry(one, one.prepare(x).requires_grad_(), one.prepare(upstream))
    return entries


_OURS = {FAST: "fast", LEAN: "lean"}


def _truth(entry: Entry) -> tuple[Tensor, Tensor]:
    """Output and input gradient in float64, by the plain expression; the tests tie that to the definition."""
    layer = PlainCrissCross3d(entry.x.shape[1]).to(entry.x.device, torch.float64)
    layer.load_state_dict(entry.contestant.layer.state_dict())
    made = Entry(Contestant(PLAIN, layer), entry.x.detach().double().requires_grad_(), entry.upstream.double())
    y = made.step()
    assert made.x.grad is not None
    return y.detach(), made.x.grad


def _examine(name: str, entry: Entry, truth: Tensor, slope: Tensor, device: torch.device) -> Row:
    """Memory and error of one."""
    # A first call loads libraries and makes workspaces: at a size that is nothing.
    small = (entry.x.detach()[..., ::8, ::8].clone().requires_grad_(), entry.upstream[..., ::8, ::8])
    Entry(entry.contestant, *small).step()
    error = difference(entry.forward(), truth)
    forward = peak_memory(entry.forward, device).peak
    entry.step()
    assert entry.x.grad is not None
    slope_error = difference(entry.x.grad, slope)
    entry.forget()
    training = peak_memory(lambda: entry.step(PASSES), device).peak
    entry.forget()
    layer = entry.contestant.layer
    kept = kept_for_backward(lambda: layer(entry.x), [entry.x, *layer.parameters()])
    return Row(name, forward_peak=forward, training_peak=training, kept=kept, error=error, gradient_error=slope_error)
