"""The 3-D layer: what it computes, keeps and reaches; operator and layer among torch's tools."""

import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from truth import spread
from truth_volume import cross, draw_clip

from benchmarks.compare.kept import kept_for_backward
from crisscross import (
    CrissCrossAttention,
    CrissCrossAttention3d,
    RecurrentCrissCrossAttention3d,
    criss_cross_attention_3d,
)
from crisscross.measurement.memory import peak_memory
from crisscross.ops import block, criss_cross_attention_3d_reference, registered


def layer(channels=8, **options):
    """A layer with all weights away from their start, gate open."""
    torch.manual_seed(0)
    made = CrissCrossAttention3d(channels, 2, **options).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def published(made, x):
    """The layer as described: project the values first, attend, scale by the gate, add the input."""
    return x + made.gamma * criss_cross_attention_3d_reference(made.query(x), made.key(x), made.value(x))


def results(function, made, x, g):
    """Output and gradients of the input and of all parameters."""
    x = x.detach().requires_grad_()
    y = function(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *made.parameters()], g)]


def two_clips(*shape, dtype=torch.float64):
    chance = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=chance, dtype=torch.float64).to(dtype) for _ in range(2)]


@pytest.mark.parametrize("size", [(1, 1, 1), (4, 1, 1), (3, 1, 5), (3, 4, 1), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("backend", ["eager", "composite", "reference"])
def test_is_the_published_layer_with_all_gradients(backend, memory, size, monkeypatch):
    # Several chunks even on a small clip.
    monkeypatch.setattr(block, "POSITIONS", 7)
    monkeypatch.setattr("crisscross.ops.lines.lines_in_a_chunk", lambda _: 2)
    made = layer(memory=memory, backend=backend)
    x, g = two_clips(2, 8, *size)
    found, expected = results(made, made, x, g), results(lambda x: published(made, x), made, x, g)
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-10, atol=1e-10)


def test_starts_as_the_identity_with_the_parameters_that_were_promised():
    made = RecurrentCrissCrossAttention3d(16)
    shapes = {name: tuple(x.shape) for name, x in made.attention.named_parameters()}
    assert made.recurrence == 3 and shapes == {
        "gamma": (),
        "query.weight": (2, 16, 1, 1, 1),
        "query.bias": (2,),
        "key.weight": (2, 16, 1, 1, 1),
        "key.bias": (2,),
        "value.weight": (16, 16, 1, 1, 1),
        "value.bias": (16,),
    }
    x = torch.randn(1, 16, 2, 3, 4)
    assert made.attention.gamma == 0 and torch.equal(made(x), x)


def test_one_frame_is_the_2d_layer():
    made, flat = layer(), CrissCrossAttention(8, 2).double()
    flat.load_state_dict({name: x.squeeze(-1) if x.dim() == 5 else x for name, x in made.state_dict().items()})
    x, g = two_clips(2, 8, 1, 5, 4)
    found, expected = results(made, made, x, g), results(flat, flat, x.squeeze(2), g.squeeze(2))
    for value, other in zip(found, expected, strict=True):
        assert torch.equal(value.reshape(other.shape), other)


@pytest.mark.parametrize(("recurrence", "changes"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_each_pass_reaches_one_coordinate_more(recurrence, changes):
    """Three passes reach every position, two do not."""
    torch.manual_seed(0)
    size = (3, 4, 5)
    made = RecurrentCrissCrossAttention3d(8, recurrence).double()
    nn.init.constant_(made.attention.gamma, 0.7)
    x = torch.randn(1, 8, *size, dtype=torch.float64, requires_grad=True)
    for place in ((0, 0, 0), (1, 2, 4)):
        (gradient,) = torch.autograd.grad(made(x)[(0, slice(None), *place)].sum(), x)
        reached = {tuple(found) for found in (gradient[0].abs().amax(0) > 1e-12).nonzero().tolist()}
        expected = {other for other in np.ndindex(*size) if sum(np.not_equal(other, place)) <= changes}
        assert reached == expected
        assert changes != 1 or expected == set(cross(place, size))
        assert (len(expected) == 3 * 4 * 5) == (changes == 3)


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_errs_at_most_twice_as_much_as_the_published_layer_in_the_same_dtype(dtype, memory):
    made = layer(16, memory=memory)
    names = ["y", "x", *dict(made.named_parameters())]
    # Over several draws, because the gate's gradient is one number: luck may bring an error of it near 0.
    errors = {name: [0.0, 0.0] for name in names}
    for seed in range(8):
        chance = torch.Generator().manual_seed(seed)
        # Everything starts from values that the dtype holds exactly.
        x, g = (torch.randn(2, 16, 3, 6, 5, generator=chance).to(dtype).double() for _ in range(2))
        made.to(dtype).double()
        truth = results(lambda x: published(made, x), made, x, g)
        made.to(dtype)
        found = results(made, made, x.to(dtype), g.to(dtype))
        plain = results(lambda x: published(made, x), made, x.to(dtype), g.to(dtype))
        for name, value, other, true in zip(names, found, plain, truth, strict=True):
            assert value.dtype == dtype
            errors[name][0] += spread(value.double() - true) ** 2
            errors[name][1] += spread(other.double() - true) ** 2
    for name, (ours, theirs) in errors.items():
        assert ours**0.5 <= 2 * theirs**0.5, name


@pytest.mark.parametrize("backend", ["eager", "composite"])
def test_autocast_takes_float32_inputs(backend):
    made = layer(16, backend=backend).float()
    x, g = two_clips(2, 16, 3, 5, 4, dtype=torch.float32)

    def under_autocast(x):
        with torch.autocast("cpu", torch.bfloat16):
            return made(x)

    cast, plain = results(under_autocast, made, x, g), results(made, made, x, g)
    assert all(value.dtype == torch.float32 for value in cast)
    for name, value, expected in zip(["y", "x", *dict(made.named_parameters())], cast, plain, strict=True):
        if name != "key.bias":
            torch.testing.assert_close(value, expected, rtol=0, atol=0.05 * expected.abs().max().item(), msg=name)
    assert not torch.equal(cast[0], plain[0])


@pytest.mark.parametrize("backend", ["eager", "composite", "reference"])
def test_the_output_has_the_memory_format_of_the_input(backend):
    made = layer(backend=backend).float()
    x = torch.randn(2, 8, 3, 5, 4)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    assert made(x).is_contiguous() and made(last).is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(made(last), made(x))
    sliced = torch.stack([x, x], -1)[..., 1]
    torch.testing.assert_close(made(sliced), made(x))


def test_projections_that_are_more_than_a_convolution_are_called():
    made, plain = layer(), layer()
    made.value = nn.Sequential(made.value)
    x, g = two_clips(1, 8, 2, 3, 4)
    for value, expected in zip(results(made, made, x, g), results(plain, plain, x, g), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="channels must be at least reduction, got 4 and 8"):
        CrissCrossAttention3d(4)
    with pytest.raises(ValueError, match="recurrence must be at least 1, got 0"):
        RecurrentCrissCrossAttention3d(16, 0)
    with pytest.raises(ValueError, match="memory must be one of fast, lean, got 'less'"):
        RecurrentCrissCrossAttention3d(16, memory="less")
    with pytest.raises(ValueError, match="unknown backend 'cuda'"):
        CrissCrossAttention3d(16, backend="cuda")
    for shape in ((1, 16, 3, 4), (1, 8, 2, 3, 4)):
        with pytest.raises(ValueError, match=rf"x must be \[B, 16, T, H, W\], got \({shape[0]}, {shape[1]}, "):
            CrissCrossAttention3d(16)(torch.zeros(shape))


# --- memory ---


def test_lean_keeps_two_numbers_per_position_and_fast_what_is_documented():
    x = torch.randn(1, 16, 4, 12, 10, requires_grad=True)
    made = {memory: CrissCrossAttention3d(16, 4, memory=memory) for memory in ("lean", "fast")}
    kept = {name: kept_for_backward(lambda one=one: one(x), [x, *one.parameters()]) for name, one in made.items()}
    # Query and key weights as one matrix, the value's with the gate: (8 + 16) x 16 numbers and their biases.
    weights, positions = 4 * (8 * 16 + 8 + 16 * 16 + 16), 4 * 12 * 10
    assert kept["lean"] <= weights + 4 * positions * 2
    assert 4 * positions * (8 + 16) < kept["fast"] <= weights + 4 * positions * (8 + 16 + 2)


def test_forward_takes_little_beside_its_output():
    made = CrissCrossAttention3d(64)
    x = torch.randn(1, 64, 8, 64, 64).contiguous(memory_format=torch.channels_last_3d)
    output = x.numel() * 4
    with torch.no_grad():
        peak = peak_memory(lambda: made(x), x.device).peak
    # q and k are a quarter of the output, a chunk with what is made of it a few times 3.5 MiB; the map of all logits
    # alone would be two outputs.
    assert output < peak < 1.25 * output + 4 * (7 << 19)


# --- among torch's tools ---


def open_layer():
    torch.manual_seed(0)
    made = RecurrentCrissCrossAttention3d(8, recurrence=1)
    nn.init.constant_(made.attention.gamma, 0.7)
    return made


def test_opcheck_passes_operator_and_layer():
    chance = torch.Generator().manual_seed(0)

    def some(*size):
        return torch.randn(size, generator=chance).requires_grad_()

    # Two frames of 3 x 4.
    q, k, v = some(2, 6, 4, 2), some(2, 6, 4, 2), some(2, 6, 4, 5)
    torch.library.opcheck(registered.attention, (q, k, v, None, None, "both", 2, False))
    x, *weights = some(2, 6, 4, 6), some(4, 6), some(4), some(6, 6), some(6)
    torch.library.opcheck(registered.block, (x, *weights, None, None, "both", 2, True, True, False))


def test_compiles_to_one_graph_of_any_size():
    torch.compiler.reset()
    made, compiled = open_layer(), torch.compile(open_layer(), backend="aot_eager", fullgraph=True, dynamic=True)
    for size in ((3, 5, 4), (2, 3, 7)):
        x = torch.randn(2, 8, *size, requires_grad=True)
        expected, found = made(x), compiled(x)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        (slope,) = torch.autograd.grad(expected.sum(), x)
        torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], slope, rtol=1e-5, atol=1e-5)


def test_exports_with_free_frames_height_and_width():
    made = open_layer().eval()
    free = {axis + 2: torch.export.Dim(name, max=512) for axis, name in enumerate(("frames", "height", "width"))}
    program = torch.export.export(made, (torch.randn(1, 8, 3, 5, 4),), dynamic_shapes=(free,), strict=False)
    for size in ((3, 5, 4), (2, 9, 3), (7, 2, 11)):
        x = torch.randn(1, 8, *size)
        torch.testing.assert_close(program.module()(x), made(x), rtol=1e-5, atol=1e-6)
    targets = [str(node.target) for node in program.graph.nodes]
    assert not [target for target in targets if "crisscross" in target or "diag" in target]


def test_runs_in_onnx_with_free_sizes():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    made, file = open_layer().eval(), io.BytesIO()
    free = {axis + 2: torch.export.Dim(name, max=512) for axis, name in enumerate(("frames", "height", "width"))}
    program = torch.onnx.export(made, (torch.randn(1, 8, 3, 5, 4),), dynamo=True, dynamic_shapes=(free,), verbose=False)
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for size in ((3, 5, 4), (2, 9, 3)):
        x = torch.randn(1, 8, *size)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), made(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_traced_layer_holds_for_other_sizes():
    made = open_layer()
    traced = torch.jit.trace(made, torch.randn(1, 8, 2, 5, 4))
    x = torch.randn(2, 8, 3, 6, 9)
    torch.testing.assert_close(traced(x), made(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["eager", "composite"])
def test_second_derivatives_are_right(backend):
    q, k, v, _ = (x.requires_grad_() for x in draw_clip((1, 2, 2, 2, 2, 2)))
    assert torch.autograd.gradgradcheck(lambda *x: criss_cross_attention_3d(*x, backend), (q, k, v))


def test_second_derivatives_of_the_layer_are_right():
    made = layer(4)
    x = torch.randn(1, 4, 2, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(made, (x,))


def test_torch_func_takes_the_layer():
    made, x = open_layer(), torch.randn(3, 2, 8, 2, 4, 3)
    torch.testing.assert_close(torch.func.vmap(made)(x)[2], made(x[2]))


def test_operations_are_counted_as_those_of_the_plain_expression():
    x, counts = torch.randn(2, 16, 3, 5, 7, requires_grad=True), {}
    q, v = torch.randn(1, 4, 3, 5, 7, requires_grad=True), torch.randn(1, 6, 3, 5, 7, requires_grad=True)
    for backend in ("eager", "composite"):
        made = CrissCrossAttention3d(16, 4, backend)
        with FlopCounterMode(display=False) as counter:
            made(x).sum().backward()
            criss_cross_attention_3d(q, q, v, backend).sum().backward()
        counts[backend] = counter.get_total_flops()
    assert counts["eager"] == counts["composite"] > 0
