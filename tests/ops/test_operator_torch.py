"""The operator among torch's tools: registration, compiling, exporting, torch.func, second derivatives, determinism."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from truth import draw

from crisscross import CrissCrossAttention, RecurrentCrissCrossAttention, criss_cross_attention
from crisscross.ops import registered


def channels_last(*sizes):
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=chance).requires_grad_() for size in sizes]


@pytest.mark.parametrize("biased", [False, True])
def test_opcheck_passes_attention(biased):
    q, k, v, row_bias, column_bias = channels_last((2, 3, 4, 2), (2, 3, 4, 2), (2, 3, 4, 5), (4, 4), (3, 3))
    biases = (row_bias, column_bias) if biased else (None, None)
    torch.library.opcheck(registered.attention, (q, k, v, *biases, "both", 1, False))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_opcheck_passes_the_layer(keep, biased):
    x, *weights, row_bias, column_bias = channels_last((2, 3, 4, 6), (4, 6), (4,), (6, 6), (6,), (4, 4), (3, 3))
    biases = (row_bias, column_bias) if biased else (None, None)
    torch.library.opcheck(registered.block, (x, *weights, *biases, "both", 1, True, keep, False))


def open_layer():
    torch.manual_seed(0)
    layer = RecurrentCrissCrossAttention(8)
    nn.init.constant_(layer.attention.gamma, 0.7)
    return layer


def check_compiled(backend):
    torch.compiler.reset()
    layer, compiled = open_layer(), torch.compile(open_layer(), backend=backend, fullgraph=True, dynamic=True)
    for size in ((5, 4), (3, 7)):
        x = torch.randn(2, 8, *size, requires_grad=True)
        expected, found = layer(x), compiled(x)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        (slope,) = torch.autograd.grad(expected.sum(), x)
        torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], slope, rtol=1e-5, atol=1e-5)


def test_compiles_to_one_graph_of_any_size():
    check_compiled("aot_eager")


@pytest.mark.slow
def test_compiles_with_inductor():
    check_compiled("inductor")


def test_exports_with_free_height_and_width():
    layer = open_layer().eval()
    free = {2: torch.export.Dim("height", max=512), 3: torch.export.Dim("width", max=512)}
    program = torch.export.export(layer, (torch.randn(1, 8, 5, 4),), dynamic_shapes=({**free},), strict=False)
    for size in ((5, 4), (9, 3), (2, 17)):
        x = torch.randn(1, 8, *size)
        torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-5, atol=1e-6)


def test_an_exported_layer_holds_plain_operations_only():
    program = torch.export.export(open_layer().eval(), (torch.randn(1, 8, 5, 4),), strict=False)
    targets = [str(node.target) for node in program.graph.nodes]
    # `diag` of infinities is what kept other implementations out of ONNX and TensorRT.
    assert not [target for target in targets if "crisscross" in target or "diag" in target]


@pytest.mark.parametrize("backend", ["eager", "composite"])
def test_second_derivatives_are_right(backend):
    q, k, v, _ = (x.requires_grad_() for x in draw((1, 2, 2, 3, 2)))
    assert torch.autograd.gradgradcheck(lambda *x: criss_cross_attention(*x, backend), (q, k, v))


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_second_derivatives_of_the_layer_are_right(memory):
    torch.manual_seed(0)
    layer = CrissCrossAttention(4, 2, memory=memory, position_bias=1).double()
    parameters = {name: torch.randn_like(p).requires_grad_() for name, p in layer.named_parameters()}
    x = torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters.values()))
    assert torch.autograd.gradgradcheck(function, (x, *parameters.values()))


def test_torch_func_takes_the_operator_and_the_layer():
    q, k, v, g = draw((1, 2, 3, 3, 4))
    q.requires_grad_()
    (expected,) = torch.autograd.grad(criss_cross_attention(q, k, v), q, g)
    found = torch.func.grad(lambda q: (criss_cross_attention(q, k, v) * g).sum())(q.detach())
    torch.testing.assert_close(found, expected)
    stacked = torch.stack([q.detach(), 2 * q.detach()])
    mapped = torch.func.vmap(criss_cross_attention, (0, None, None))(stacked, k, v)
    torch.testing.assert_close(mapped[1], criss_cross_attention(2 * q.detach(), k, v))
    _, tangent = torch.func.jvp(lambda q: criss_cross_attention(q, k, v), (q.detach(),), (k,))
    step = 1e-6 * k
    difference = criss_cross_attention(q.detach() + step, k, v) - criss_cross_attention(q.detach() - step, k, v)
    torch.testing.assert_close(tangent, difference / 2e-6, rtol=1e-6, atol=1e-8)
    layer, x = open_layer(), torch.randn(3, 2, 8, 4, 5)
    torch.testing.assert_close(torch.func.vmap(layer)(x)[2], layer(x[2]))


def test_a_registered_backend_refuses_transforms_by_name():
    q, k, v, _ = draw((1, 2, 3, 3, 4))
    with pytest.raises(ValueError, match=r"cannot run here: torch\.func transforms .* need backend='composite'"):
        torch.func.grad(lambda q: criss_cross_attention(q, k, v, "eager").sum())(q)


@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_deterministic_mode_gives_the_same_bits(memory):
    torch.manual_seed(0)
    layer = RecurrentCrissCrossAttention(16, memory=memory)
    nn.init.constant_(layer.attention.gamma, 0.7)
    x = torch.randn(2, 16, 9, 7)
    torch.use_deterministic_algorithms(True)
    try:
        runs = []
        for _ in range(3):
            x = x.detach().requires_grad_()
            y = layer(x)
            runs.append([y, *torch.autograd.grad(y.sum(), [x, *layer.parameters()])])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for other in runs[1:] for a, b in zip(runs[0], other, strict=True))


def test_transforms_survive_compilation():
    q, k, v, _ = draw((1, 2, 3, 3, 4))
    torch.compiler.reset()

    def tangent(q):
        return torch.func.jvp(lambda q: criss_cross_attention(q, k, v), (q,), (k,))[1]

    compiled = torch.compile(tangent, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(q), tangent(q))
    assert tangent(q).abs().max() > 0.01
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, k)
        found = torch.autograd.forward_ad.unpack_dual(criss_cross_attention(dual, k, v)).tangent
    torch.testing.assert_close(found, tangent(q))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_traced_layer_holds_for_other_sizes():
    layer = open_layer()
    traced = torch.jit.trace(layer, torch.randn(1, 8, 5, 4))
    x = torch.randn(2, 8, 6, 9)
    torch.testing.assert_close(traced(x), layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", ["both", "row", "column"])
def test_operations_are_counted_as_those_of_the_plain_expression(axis):
    x = torch.randn(2, 16, 5, 7, requires_grad=True)
    counts = {}
    for backend in ("eager", "composite"):
        layer = CrissCrossAttention(16, 4, backend, axis=axis)
        with FlopCounterMode(display=False) as counter:
            layer(x).sum().backward()
        counts[backend] = counter.get_total_flops()
        q, v = torch.randn(1, 4, 5, 7, requires_grad=True), torch.randn(1, 6, 5, 7, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            criss_cross_attention(q, q, v, backend, axis=axis).sum().backward()
        counts[backend] += counter.get_total_flops()
    assert counts["eager"] == counts["composite"] > 0
