"""CrissCrossAttention as a layer: it is the published one, however little it keeps, in any dtype and memory format."""

import numpy as np
import pytest
import torch
from torch import nn
from truth import cross, loop, spread, worst

from crisscross import CrissCrossAttention, RecurrentCrissCrossAttention
from crisscross.layers import relative_position_bias
from crisscross.measurement.memory import peak_memory
from crisscross.ops import block, criss_cross_attention_reference

SIZES = [(1, 1), (1, 7), (7, 1), (5, 8)]


def layer(channels=8, **options):
    """A layer with all weights away from their start, gate open."""
    torch.manual_seed(0)
    made = CrissCrossAttention(channels, 2, **options).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def published(made, x, **options):
    """The layer as the paper and MMCV have it: project the values first, attend, scale by the gate, add the input."""
    attended = criss_cross_attention_reference(made.query(x), made.key(x), made.value(x), **options)
    return x + made.gamma * attended


def results(function, made, x, g):
    """Output and gradients of the input and of all parameters."""
    x = x.detach().requires_grad_()
    y = function(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *made.parameters()], g)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("backend", ["eager", "composite", "reference"])
def test_is_the_published_layer_with_all_gradients(backend, memory, size, monkeypatch):
    # Several chunks even on a small map.
    monkeypatch.setattr(block, "POSITIONS", 7)
    monkeypatch.setattr("crisscross.ops.lines.lines_in_a_chunk", lambda _: 2)
    made = layer(memory=memory, backend=backend)
    x, g = torch.randn(2, 8, *size, dtype=torch.float64), torch.randn(2, 8, *size, dtype=torch.float64)
    found, expected = results(made, made, x, g), results(lambda x: published(made, x), made, x, g)
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-10, atol=1e-10)


def test_is_the_loop_over_positions():
    made = layer()
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64)
    with torch.no_grad():
        attended = loop(made.query(x), made.key(x), made.value(x), x)[0]
        torch.testing.assert_close(made(x), x + made.gamma * attended, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("axis", ["both", "row", "column"])
def test_axis_scale_and_position_bias(axis, memory):
    made = layer(axis=axis, scale=0.5, position_bias=2, memory=memory)
    x, g = torch.randn(2, 8, 4, 6, dtype=torch.float64), torch.randn(2, 8, 4, 6, dtype=torch.float64)

    def expected(x):
        biases = {}
        if axis != "column":
            biases["row_bias"] = relative_position_bias(made.row_bias, 6)
        if axis != "row":
            biases["column_bias"] = relative_position_bias(made.column_bias, 4)
        attended = criss_cross_attention_reference(made.query(x) / 2, made.key(x), made.value(x), axis, **biases)
        return x + made.gamma * attended

    for value, truth in zip(results(made, made, x, g), results(expected, made, x, g), strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-10, atol=1e-10)


def test_position_bias_depends_on_the_offset_and_ends_at_the_outermost():
    bias = relative_position_bias(torch.tensor([10.0, 20.0, 30.0, 40.0, 50.0]), 4)
    # Row: the asking position; column: the answering one. Offsets -3 and 3 take the values of -2 and 2.
    assert bias.tolist() == [[30, 40, 50, 50], [20, 30, 40, 50], [10, 20, 30, 40], [10, 10, 20, 30]]


def test_a_closed_gate_is_the_identity_but_learns():
    made = layer()
    nn.init.zeros_(made.gamma)
    x, g = torch.randn(1, 8, 3, 4, dtype=torch.float64), torch.randn(1, 8, 3, 4, dtype=torch.float64)
    y, slope, *parameters = results(made, made, x, g)
    assert torch.equal(y, x) and torch.equal(slope, g)
    named = dict(zip((name for name, _ in made.named_parameters()), parameters, strict=True))
    attended = criss_cross_attention_reference(made.query(x), made.key(x), made.value(x))
    torch.testing.assert_close(named["gamma"], (attended * g).sum(), rtol=1e-10, atol=1e-10)
    assert not any(value.any() for name, value in named.items() if name != "gamma")


def kept(made, x):
    """Bytes that a forward pass keeps for the backward one, beside the input and the parameters."""
    known = {x.untyped_storage().data_ptr(), *(p.untyped_storage().data_ptr() for p in made.parameters())}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = made(x)
    assert y.requires_grad
    return sum(storages.values())


@pytest.mark.parametrize("channels_last", [False, True])
def test_lean_keeps_two_numbers_per_position_and_fast_what_is_documented(channels_last):
    x = torch.randn(2, 16, 12, 10, requires_grad=True)
    if channels_last:
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    made = {memory: CrissCrossAttention(16, 4, memory=memory) for memory in ("lean", "fast")}
    # Query and key weights as one matrix, the value's with the gate: (8 + 16) x 16 numbers and their biases.
    weights = 4 * (8 * 16 + 8 + 16 * 16 + 16)
    positions = 2 * 12 * 10
    assert kept(made["lean"], x) <= weights + 4 * positions * 2
    assert kept(made["fast"], x) <= weights + 4 * positions * (8 + 16 + 2)
    assert kept(made["fast"], x) > 4 * positions * (8 + 16)


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_a_graph_can_be_used_twice(memory):
    made = layer(memory=memory)
    x = torch.randn(1, 8, 3, 4, dtype=torch.float64, requires_grad=True)
    y = made(x)
    (first,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    assert torch.equal(first, torch.autograd.grad(y.sum(), x)[0])


@pytest.mark.parametrize("backend", ["eager", "composite", "reference"])
def test_the_output_has_the_memory_format_of_the_input(backend):
    made = RecurrentCrissCrossAttention(8, backend=backend)
    x = torch.randn(2, 8, 5, 4)
    assert made(x).is_contiguous()
    assert made(x.contiguous(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("recurrence", "reaches_all"), [(1, False), (2, True), (3, True)])
def test_two_passes_reach_every_position(recurrence, reaches_all):
    torch.manual_seed(0)
    height, width = 5, 6
    layer = RecurrentCrissCrossAttention(8, recurrence).double()
    nn.init.constant_(layer.attention.gamma, 0.7)
    x = torch.randn(1, 8, height, width, dtype=torch.float64, requires_grad=True)
    for h, w in ((0, 0), (3, 4)):
        (gradient,) = torch.autograd.grad(layer(x)[0, :, h, w].sum(), x)
        reached = {tuple(place) for place in (gradient[0].abs().amax(0) > 1e-12).nonzero().tolist()}
        everything = set(np.ndindex(height, width))
        assert reached == (everything if reaches_all else set(cross(h, w, height, width)))


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_errs_at_most_twice_as_much_as_the_published_layer_in_the_same_dtype(dtype, memory):
    made = layer(16, memory=memory)
    x, g = torch.randn(2, 16, 6, 7, dtype=torch.float64), torch.randn(2, 16, 6, 7, dtype=torch.float64)
    # Everything starts from values that the dtype holds exactly.
    made.to(dtype).double()
    x, g = x.to(dtype).double(), g.to(dtype).double()
    truth = results(lambda x: published(made, x), made, x, g)
    made.to(dtype)
    found = results(made, made, x.to(dtype), g.to(dtype))
    plain = results(lambda x: published(made, x), made, x.to(dtype), g.to(dtype))
    names = ["output", "input", *(name for name, _ in made.named_parameters())]
    for name, value, other, true in zip(names, found, plain, truth, strict=True):
        assert value.dtype == dtype
        if name == "key.bias":
            # Its gradient is 0: a bias of the keys moves all logits of a position alike.
            continue
        error, allowed = spread(value.double() - true), 2 * spread(other.double() - true)
        assert error <= max(allowed, torch.finfo(dtype).eps * spread(true)), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_layer_runs_in_half_precision(dtype):
    torch.manual_seed(0)
    layer = RecurrentCrissCrossAttention(16)
    nn.init.constant_(layer.attention.gamma, 0.5)
    x = torch.randn(2, 16, 5, 4)
    expected = layer(x)
    found = layer.to(dtype)(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.float(), expected, rtol=0, atol=8 * torch.finfo(dtype).eps * expected.abs().max().item()
    )
    assert worst(found.float(), x) > 0.1


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_autocast_takes_float32_inputs(memory):
    torch.manual_seed(0)
    layer = CrissCrossAttention(16, memory=memory)
    nn.init.constant_(layer.gamma, 0.5)
    x, g = torch.randn(2, 16, 5, 4), torch.randn(2, 16, 5, 4)

    def under_autocast(x):
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)

    plain, cast = results(layer, layer, x, g), results(under_autocast, layer, x, g)
    assert all(value.dtype == torch.float32 for value in cast)
    for name, value, expected in zip(["y", "x", *dict(layer.named_parameters())], cast, plain, strict=True):
        if name != "key.bias":
            torch.testing.assert_close(value, expected, rtol=0, atol=0.03 * expected.abs().max().item())
    # The casts are real: rounding to bfloat16 leaves a trace.
    assert worst(cast[0], plain[0]) > 1e-5


def test_layers_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="channels must be at least reduction, got 4 and 8"):
        CrissCrossAttention(4)
    with pytest.raises(ValueError, match="recurrence must be at least 1, got 0"):
        RecurrentCrissCrossAttention(16, 0)
    with pytest.raises(ValueError, match="memory must be one of fast, lean, got 'less'"):
        CrissCrossAttention(16, memory="less")
    with pytest.raises(ValueError, match="axis must be one of both, row, column, got 'time'"):
        CrissCrossAttention(16, axis="time")
    with pytest.raises(ValueError, match="position_bias must be at least 1, got 0"):
        CrissCrossAttention(16, position_bias=0)
    with pytest.raises(ValueError, match=r"x must be \[B, 16, H, W\], got \(1, 8, 3, 4\)"):
        CrissCrossAttention(16)(torch.zeros(1, 8, 3, 4))
    with pytest.raises(ValueError, match=r"x must be \[B, 16, H, W\], got \(16, 3, 4\)"):
        CrissCrossAttention(16)(torch.zeros(16, 3, 4))
    with pytest.raises(ValueError, match="reduction must be at least 1, got 0"):
        CrissCrossAttention(16, 0)
    with pytest.raises(ValueError, match="unknown backend 'cuda'"):
        CrissCrossAttention(16, backend="cuda")
    with pytest.raises(ValueError, match=r"x is torch\.float64, the layer torch\.float32: convert one of them"):
        CrissCrossAttention(16)(torch.zeros(1, 16, 2, 2).double())


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_checkpointing_gives_the_same_gradients(memory):
    made = layer(memory=memory)
    x, g = torch.randn(1, 8, 4, 5, dtype=torch.float64), torch.randn(1, 8, 4, 5, dtype=torch.float64)

    def checkpointed(x):
        return torch.utils.checkpoint.checkpoint(made, x, use_reentrant=False)

    for value, expected in zip(results(checkpointed, made, x, g), results(made, made, x, g), strict=True):
        assert torch.equal(value, expected)


def test_forward_takes_little_beside_its_output():
    """Nothing is kept without gradients, and chunks are small."""
    made = CrissCrossAttention(64)
    x = torch.randn(1, 64, 160, 160).contiguous(memory_format=torch.channels_last)
    output = x.numel() * 4
    with torch.no_grad():
        peak = peak_memory(lambda: made(x), x.device).peak
    # q and k are a quarter of the output, a chunk of values and logits with what is made of them a few times 3.5 MiB;
    # the map of all logits alone would be five outputs.
    assert output < peak < 1.25 * output + 4 * (7 << 19)


def test_projections_that_are_more_than_a_convolution_are_called():
    made, plain = layer(), layer()
    made.value = nn.Sequential(made.value)
    x, g = torch.randn(1, 8, 3, 4, dtype=torch.float64), torch.randn(1, 8, 3, 4, dtype=torch.float64)
    for value, expected in zip(results(made, made, x, g), results(plain, plain, x, g), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    seen = []
    plain.key.register_forward_hook(lambda *_: seen.append(True))
    plain(x)
    assert seen
    nn.utils.spectral_norm(plain.query)
    plain(x).sum().backward()
    assert plain.query.weight_orig.grad is not None
