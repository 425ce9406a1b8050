"""The criss-cross operator against a loop over positions in float64, forward and every gradient.

The loop is the truth: it was written from the definition, uses no matrix product over positions and derives its
gradients by hand. One comparison serves the real operators and a row of broken ones, which it must all tell apart.
"""

import numpy as np
import pytest
import torch
from torch import nn

from crisscross.layers import CrissCrossAttention, RecurrentCrissCrossAttention
from crisscross.ops import BACKENDS, criss_cross_attention, criss_cross_attention_reference

# (batch, query channels, value channels, height, width)
SHAPES = [(1, 3, 4, 1, 1), (3, 4, 5, 1, 7), (2, 4, 3, 7, 1), (2, 2, 4, 5, 5), (3, 8, 6, 13, 7), (0, 4, 5, 3, 4)]
RESULTS = ("output", "gradient of q", "gradient of k", "gradient of v")


def cross(h, w, height, width):
    """The H + W - 1 positions of a row and a column, the centre once."""
    return [(h, j) for j in range(width)] + [(i, w) for i in range(height) if i != h]


def loop(q, k, v, g):
    """Output and gradients (for an incoming gradient g) by definition, one position at a time: float64 arrays."""
    q, k, v, g = (x.detach().double().numpy() for x in (q, k, v, g))
    out, dq, dk, dv = (np.zeros(x.shape) for x in (v, q, k, v))
    for b, h, w in np.ndindex(q.shape[0], *q.shape[2:]):
        places = cross(h, w, *q.shape[2:])
        logits = np.array([q[b, :, h, w] @ k[b, :, i, j] for i, j in places])
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        gain = np.array([g[b, :, h, w] @ v[b, :, i, j] for i, j in places])
        slope = weights * (gain - weights @ gain)
        for (i, j), weight, rise in zip(places, weights, slope, strict=True):
            out[b, :, h, w] += weight * v[b, :, i, j]
            dv[b, :, i, j] += weight * g[b, :, h, w]
            dq[b, :, h, w] += rise * k[b, :, i, j]
            dk[b, :, i, j] += rise * q[b, :, h, w]
    return [torch.from_numpy(x) for x in (out, dq, dk, dv)]


def draw(shape, dtype=torch.float64, seed=0):
    """q, k, v and an incoming gradient; values that `dtype` holds exactly, so that all share one truth."""
    batch, inner, outer, height, width = shape
    chance = torch.Generator().manual_seed(seed)
    sizes = [(batch, channels, height, width) for channels in (inner, inner, outer, outer)]
    return [torch.randn(size, generator=chance, dtype=torch.float64).to(dtype) for size in sizes]


def run(operator, q, k, v, g):
    """Output and gradients of an operator, as float64."""
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    out = operator(q, k, v)
    assert out.dtype == v.dtype and out.shape == v.shape
    # A broken operator may leave an input unused: its gradient is 0.
    gradients = torch.autograd.grad(out, (q, k, v), g, allow_unused=True, materialize_grads=True)
    return [x.detach().double() for x in (out, *gradients)]


def worst(found, truth):
    return (found - truth).abs().max().item() if truth.numel() else 0.0


def spread(x):
    """Root of the mean square."""
    return x.square().mean().sqrt().item() if x.numel() else 0.0


def disagreements(operator, q, k, v, g):
    """What of output and gradients is further from the float64 truth than allowed; an empty list is agreement.

    float64: no value off by more than 1e-12 of the largest. Below that: root-mean-square error at most twice that of
    the definition computed in the same dtype, and never asked to be below one unit in the last place of the values'
    own root mean square, because luck may bring the other's error near 0.
    """
    double = q.dtype == torch.float64
    found, truths = run(operator, q, k, v, g), loop(q, k, v, g)
    plain = truths if double else run(criss_cross_attention_reference, q, k, v, g)
    wrong = []
    for name, value, other, truth in zip(RESULTS, found, plain, truths, strict=True):
        if double:
            error, limit = worst(value, truth), 1e-12 * max(1.0, worst(truth, 0 * truth))
        else:
            error, limit = (
                spread(value - truth),
                max(2 * spread(other - truth), torch.finfo(q.dtype).eps * spread(truth)),
            )
        # Written so that NaN disagrees.
        if not error <= limit:
            wrong.append(f"{name}: {error:.3g}, allowed {limit:.3g}")
    return wrong


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_forward_and_gradients_are_those_of_the_loop(backend, shape):
    assert not disagreements(BACKENDS[backend][1], *draw(shape))


@pytest.mark.parametrize("shape", [(3, 8, 6, 13, 7), (1, 16, 16, 1, 7), (2, 4, 8, 5, 5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_eager_errs_at_most_twice_as_much_as_the_definition_in_the_same_dtype(dtype, shape):
    for seed in range(3):
        assert not disagreements(BACKENDS["eager"][1], *draw(shape, dtype, seed))


@pytest.mark.parametrize("layout", ["sliced", "transposed", "channels last", "expanded"])
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_any_memory_layout_gives_the_same(backend, layout):
    inputs = draw((2, 4, 6, 5, 3))
    truth = run(BACKENDS[backend][1], *inputs)
    if layout == "expanded":
        inputs = [x[:1, :1].expand(2, x.shape[1], -1, -1) for x in inputs]
        assert not inputs[0].is_contiguous()
        assert not disagreements(BACKENDS[backend][1], *inputs)
        return
    relaid = {
        "sliced": lambda x: torch.stack([x, x.flip(0)], dim=-1)[..., 0],
        "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    }[layout]
    inputs = [relaid(x) for x in inputs]
    assert not any(x.is_contiguous() for x in inputs)
    for found, expected in zip(run(BACKENDS[backend][1], *inputs), truth, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", list(BACKENDS))
def test_gradcheck(backend):
    q, k, v, _ = draw((2, 3, 2, 3, 2))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    assert torch.autograd.gradcheck(BACKENDS[backend][1], (q, k, v))


# --- the comparison itself: it must tell every broken operator from a right one ---


def broken(mutation):
    """The operator once more, in einsum notation, with one fault; `none` is without any."""

    def operator(q, k, v):
        _, inner, height, width = q.shape
        if mutation == "scaled by 1/sqrt(d)":
            q = q / inner**0.5
        if mutation == "q and k swapped":
            q, k = k, q
        if mutation == "no gradient through k":
            k = k.detach()
        if mutation == "keys of the first picture":
            k = k[:1].expand_as(k)
        column = torch.einsum("bchw,bciw->bhwi", q, k)
        row = torch.einsum("bchw,bchj->bhwj", q, k)
        same_row = torch.eye(height, dtype=torch.bool)[:, None, :]
        hidden = torch.tensor(-torch.inf, dtype=q.dtype)
        if mutation == "self left out":
            row = row.where(~torch.eye(width, dtype=torch.bool), hidden)
        if mutation == "column mask on rows":
            wrong = torch.arange(height)[:, None, None] == torch.arange(width)
            row = row.where(~wrong, hidden)
        elif mutation == "masked with 0":
            column = column.where(~same_row, torch.zeros_like(hidden))
        elif mutation != "self counted twice":
            column = column.where(~same_row, hidden)
        if mutation == "row only":
            column = column + hidden
        if mutation == "column only":
            row = row + hidden
            column = torch.einsum("bchw,bciw->bhwi", q, k)
        weights = torch.cat([column, row], -1).softmax(-1)
        if mutation == "a softmax for each part":
            weights = torch.cat([column.softmax(-1), row.softmax(-1)], -1) / 2
        if mutation == "no gradient through the softmax":
            weights = weights.detach()
        column, row = weights.split([height, width], -1)
        gather = "bihw,bciw->bchw" if mutation == "wrong transpose" else "bhwi,bciw->bchw"
        if mutation == "wrong transpose":
            column = column.permute(0, 1, 3, 2)
        return torch.einsum(gather, column, v) + torch.einsum("bhwj,bchj->bchw", row, v)

    return operator


MUTATIONS = [
    "self counted twice",
    "self left out",
    "masked with 0",
    "a softmax for each part",
    "row only",
    "column only",
    "wrong transpose",
    "column mask on rows",
    "scaled by 1/sqrt(d)",
    "q and k swapped",
    "keys of the first picture",
    "no gradient through k",
    "no gradient through the softmax",
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_comparison_catches_a_broken_operator(mutation, dtype):
    inputs = draw((2, 8, 6, 5, 5), dtype)
    assert disagreements(broken(mutation), *inputs), f"{mutation} went unnoticed"


def test_the_comparison_passes_the_same_operator_without_a_fault():
    assert not disagreements(broken("none"), *draw((2, 8, 6, 5, 5)))


# --- what it means ---


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize("moved", ["q", "k", "v"])
def test_one_moved_value_disturbs_one_row_and_one_column(backend, moved):
    height, width, h, w = 6, 5, 4, 1
    tensors = dict(zip("qkv", draw((1, 3, 2, height, width)), strict=False))
    before = criss_cross_attention(**tensors, backend=backend)
    tensors[moved] = tensors[moved].clone()
    tensors[moved][0, 1, h, w] += 1
    changed = (criss_cross_attention(**tensors, backend=backend) - before)[0].abs().amax(0) > 1e-9
    reached = {(h, w)} if moved == "q" else set(cross(h, w, height, width))
    assert {tuple(place) for place in changed.nonzero().tolist()} == reached


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


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize(("height", "width"), [(4, 3), (1, 5), (5, 1), (1, 1)])
def test_with_equal_logits_every_position_weighs_the_same_and_the_centre_once(backend, height, width):
    places = height * width
    q, k = torch.zeros(1, 2, height, width), torch.randn(1, 2, height, width)
    # Channel p of the values is 1 at position p alone, so the output's channel p is the weight of position p.
    indicator = torch.eye(places).view(1, places, height, width)
    weights = criss_cross_attention(q, k, indicator, backend).view(places, places)
    expected = torch.zeros(places, places)
    for h, w in np.ndindex(height, width):
        for i, j in cross(h, w, height, width):
            expected[i * width + j, h * width + w] = 1 / (height + width - 1)
    torch.testing.assert_close(weights, expected)


# --- half precision ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_logits_beyond_half_precision_stay_finite_and_right(dtype):
    q, k, v, g = draw((1, 8, 6, 5, 4), dtype)
    # One channel lifts all logits beyond what float16 holds and bfloat16 resolves; the others tell positions apart.
    q[:, 0], k[:, 0] = 260, 260
    products = torch.einsum("bchw,bcij->bhwij", q.double(), k.double())
    assert products.min() > 65504
    found, truth = run(BACKENDS["eager"][1], q, k, v, g), loop(q, k, v, g)
    for name, value, expected in zip(RESULTS, found, truth, strict=True):
        # float32 steps by 1/128 there, so weights are right to about 1/128; q's gradient holds 260 times that.
        scale = 260.0 if name in RESULTS[1:3] else 1.0
        assert worst(value, expected) <= 2 / 128 * scale, name
    # The same in the inputs' own dtype is lost, so this test can fail.
    plain = run(criss_cross_attention_reference, q, k, v, g)
    assert not worst(plain[0], truth[0]) <= 0.2


def test_autocast_leaves_logits_and_softmax_in_float32():
    q, k, v, _ = draw((1, 8, 6, 5, 4), torch.bfloat16)
    q[:, 0], k[:, 0] = 260, 260
    truth = loop(q, k, v, v)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = criss_cross_attention(q.float(), k.float(), v.float())
    assert worst(found.double(), truth) <= 2 / 128


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


def test_autocast_takes_float32_inputs():
    torch.manual_seed(0)
    layer = CrissCrossAttention(16)
    nn.init.constant_(layer.gamma, 0.5)
    x = torch.randn(2, 16, 5, 4, requires_grad=True)
    expected = layer(x)
    (slope,) = torch.autograd.grad(expected.square().sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    (cast_slope,) = torch.autograd.grad(found.square().sum(), x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * expected.abs().max().item())
    torch.testing.assert_close(cast_slope, slope, rtol=0, atol=0.03 * slope.abs().max().item())
    # The casts are real: rounding to bfloat16 leaves a trace.
    assert worst(found, expected) > 1e-5


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_autocast_settles_mixed_dtypes_and_leaves_float64_alone(backend):
    q, k, v, _ = draw((1, 4, 3, 3, 4), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert criss_cross_attention(q, k.bfloat16(), v, backend).dtype == torch.bfloat16
        assert criss_cross_attention(q.double(), k.double(), v.double(), backend).dtype == torch.float64
    assert criss_cross_attention(q, k, v, backend).dtype == torch.float32


# --- compiling and exporting ---


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


# --- refusals ---


def test_unknown_backend_is_refused_by_name():
    q, k, v, _ = draw((1, 2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"unknown backend 'cuda'; known: auto, eager, reference"):
        criss_cross_attention(q, k, v, "cuda")


def test_a_backend_that_cannot_run_says_why_and_auto_passes_it_over(monkeypatch):
    q, k, v, _ = draw((1, 2, 2, 2, 2))

    def refuse(*_):
        raise AssertionError("ran although it cannot")

    others = dict(BACKENDS)
    monkeypatch.setattr(
        "crisscross.ops.dispatch.BACKENDS", {"moon": (lambda q, k, v: "no moon tonight", refuse), **others}
    )
    with pytest.raises(ValueError, match=r"'moon' cannot run here: no moon tonight"):
        criss_cross_attention(q, k, v, "moon")
    torch.testing.assert_close(criss_cross_attention(q, k, v), loop(q, k, v, v)[0])


@pytest.mark.parametrize(
    ("q", "k", "v", "words"),
    [
        ((2, 3, 4), (2, 3, 4), (2, 3, 4), r"must be \[B, channels, H, W\]"),
        ((1, 2, 3, 4), (1, 2, 4, 3), (1, 2, 3, 4), "q and k must have one shape"),
        ((1, 2, 3, 4), (1, 3, 3, 4), (1, 2, 3, 4), "q and k must have one shape"),
        ((1, 2, 3, 4), (1, 2, 3, 4), (2, 2, 3, 4), "v must share batch, height and width"),
        ((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 5), "v must share batch, height and width"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(q, k, v, words):
    with pytest.raises(ValueError, match=words):
        criss_cross_attention(torch.zeros(q), torch.zeros(k), torch.zeros(v))


def test_dtypes_that_do_not_fit_are_refused():
    x = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"one floating dtype, got torch\.float32, torch\.float64"):
        criss_cross_attention(x, x.double(), x)
    with pytest.raises(ValueError, match=r"one floating dtype, got torch\.int64"):
        criss_cross_attention(x.long(), x.long(), x.long())
    with pytest.raises(ValueError, match="on one device, got cpu, meta"):
        criss_cross_attention(x, x.to("meta"), x)


def test_layers_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="channels must be at least reduction, got 4 and 8"):
        CrissCrossAttention(4)
    with pytest.raises(ValueError, match="recurrence must be at least 1, got 0"):
        RecurrentCrissCrossAttention(16, 0)
