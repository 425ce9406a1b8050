"""The criss-cross operator against a loop over positions in float64 (truth.py), forward and every gradient.

One comparison serves the real operators and rows of broken ones, which it must all tell apart (test_mutations.py).
"""

from functools import partial

import numpy as np
import pytest
import torch
from truth import RESULTS, cross, disagreements, draw, loop, run, spread, worst

from crisscross.ops import criss_cross_attention, criss_cross_attention_reference, lines

# The Triton kernels are tested in a process of their own, test_fused.py.
BACKENDS = ["eager", "composite", "reference"]

# (batch, query channels, value channels, height, width)
SHAPES = [
    (1, 3, 4, 1, 1),
    (3, 4, 5, 1, 7),
    (2, 4, 3, 7, 1),
    (2, 2, 4, 5, 5),
    (3, 8, 6, 13, 7),
    (0, 4, 5, 3, 4),
    (2, 4, 5, 0, 3),
    (2, 4, 5, 3, 0),
]


def operator(backend, **options):
    return partial(criss_cross_attention, backend=backend, **options)


@pytest.fixture(params=[1, 3, None], ids=["one line a chunk", "three lines a chunk", "one chunk"])
def chunk(request, monkeypatch):
    """How many lines `eager` takes at a time."""
    if request.param is not None:
        monkeypatch.setattr(lines, "lines_in_a_chunk", lambda _: request.param)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_and_gradients_are_those_of_the_loop(backend, shape):
    assert not disagreements(operator(backend), *draw(shape))


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("shape", [(2, 4, 3, 7, 1), (2, 3, 4, 5, 8), (1, 2, 3, 1, 4)], ids=str)
@pytest.mark.parametrize("axis", ["both", "row", "column"])
def test_chunks_of_lines_change_nothing(axis, shape):
    assert not disagreements(operator("eager"), *draw(shape), axis=axis)


@pytest.mark.parametrize("biased", [False, True], ids=["", "with biases"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("axis", ["both", "row", "column"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_or_columns_alone_and_biases(backend, axis, shape, biased):
    height, width = shape[3:]
    options = {"axis": axis}
    chance = torch.Generator().manual_seed(1)
    if biased and axis != "column":
        options["row_bias"] = torch.randn(width, width, generator=chance, dtype=torch.float64)
    if biased and axis != "row":
        options["column_bias"] = torch.randn(height, height, generator=chance, dtype=torch.float64)
    assert not disagreements(operator(backend), *draw(shape), **options)


@pytest.mark.parametrize("axis", ["both", "row", "column"])
def test_a_bias_of_minus_infinity_hides(axis):
    """A causal mask: for the first row the column has nobody left but the position itself, which its row counts."""
    q, k, v, g = draw((2, 4, 3, 5, 5))
    hidden = torch.zeros(5, 5, dtype=torch.float64).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    names = {"both": ("row_bias", "column_bias"), "row": ("row_bias",), "column": ("column_bias",)}[axis]
    options = {"axis": axis, **dict.fromkeys(names, hidden)}
    found = run(operator("eager"), q, k, v, g, **options)
    for value, expected in zip(found, run(operator("reference"), q, k, v, g, **options), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_scale_multiplies_the_logits(backend):
    q, k, v, g = draw((2, 4, 3, 5, 6))
    found, expected = run(operator(backend, scale=0.5), q, k, v, g), loop(q / 2, k, v, g)
    expected[1] /= 2
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["eager", "composite"])
@pytest.mark.parametrize("shape", [(3, 8, 6, 13, 7), (12, 16, 16, 1, 7), (8, 4, 8, 5, 5), (2, 64, 256, 8, 9)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_errs_at_most_twice_as_much_as_the_definition_in_the_same_dtype(backend, dtype, shape):
    # On fewer positions than these, luck decides.
    for seed in range(2):
        assert not disagreements(operator(backend), *draw(shape, dtype, seed))


@pytest.mark.parametrize(("height", "width"), [(33, 70), pytest.param(128, 256, marks=pytest.mark.slow)])
def test_large_maps_agree_with_the_plain_expression_in_float64(height, width):
    """Too large for the loop; the plain expression is tied to the loop on small maps."""
    inputs = draw((1, 8, 4, height, width), torch.float32)
    truth = run(operator("composite"), *(x.double() for x in inputs))
    plain, found = run(operator("composite"), *inputs), run(operator("eager"), *inputs)
    for value, other, true in zip(found, plain, truth, strict=True):
        assert spread(value - true) <= max(2 * spread(other - true), 1e-7 * spread(true))


@pytest.mark.parametrize("layout", ["sliced", "transposed", "channels last", "expanded"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_memory_layout_gives_the_same(backend, layout):
    inputs = draw((2, 4, 6, 5, 3))
    truth = run(operator(backend), *inputs)
    if layout == "expanded":
        inputs = [x[:1, :1].expand(2, x.shape[1], -1, -1) for x in inputs]
        assert not inputs[0].is_contiguous()
        assert not disagreements(operator(backend), *inputs)
        return
    relaid = {
        "sliced": lambda x: torch.stack([x, x.flip(0)], dim=-1)[..., 0],
        "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    }[layout]
    inputs = [relaid(x) for x in inputs]
    assert not any(x.is_contiguous() for x in inputs)
    for found, expected in zip(run(operator(backend), *inputs), truth, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend):
    q, k, v, _ = draw((2, 3, 2, 3, 2))
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    assert torch.autograd.gradcheck(operator(backend), (q, k, v))


# --- what it means ---


@pytest.mark.parametrize("backend", BACKENDS)
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


@pytest.mark.parametrize("backend", BACKENDS)
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


@pytest.mark.parametrize("backend", ["eager", "composite"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_logits_beyond_half_precision_stay_finite_and_right(dtype, backend):
    q, k, v, g = draw((1, 8, 6, 5, 4), dtype)
    # One channel lifts all logits beyond what float16 holds and bfloat16 resolves; the others tell positions apart.
    q[:, 0], k[:, 0] = 260, 260
    products = torch.einsum("bchw,bcij->bhwij", q.double(), k.double())
    assert products.min() > 65504
    found, truth = run(operator(backend), q, k, v, g), loop(q, k, v, g)
    for name, value, expected in zip(RESULTS[:4], found, truth, strict=True):
        # float32 steps by 1/128 there, so weights are right to about 1/128; q's gradient holds 260 times that.
        scale = 260.0 if name in RESULTS[1:3] else 1.0
        assert worst(value, expected) <= 2 / 128 * scale, name
    # The same in the inputs' own dtype is lost, so this test can fail.
    plain = run(criss_cross_attention_reference, q, k, v, g)
    assert not worst(plain[0], truth[0]) <= 0.2


@pytest.mark.parametrize("backend", ["eager", "composite"])
def test_autocast_leaves_logits_and_softmax_in_float32(backend):
    q, k, v, _ = draw((1, 8, 6, 5, 4), torch.bfloat16)
    q[:, 0], k[:, 0] = 260, 260
    truth = loop(q, k, v, v)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = criss_cross_attention(q.float(), k.float(), v.float(), backend)
    assert worst(found.double(), truth) <= 2 / 128


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_autocast_settles_mixed_dtypes_and_leaves_float64_alone(backend):
    q, k, v, _ = draw((1, 4, 3, 3, 4), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert criss_cross_attention(q, k.bfloat16(), v, backend).dtype == torch.bfloat16
        assert criss_cross_attention(q.double(), k.double(), v.double(), backend).dtype == torch.float64
    assert criss_cross_attention(q, k, v, backend).dtype == torch.float32


# --- refusals ---


def test_unknown_backend_is_refused_by_name():
    q, k, v, _ = draw((1, 2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"unknown backend 'cuda'; known: auto, fused, eager, composite, reference"):
        criss_cross_attention(q, k, v, "cuda")


def test_a_backend_that_cannot_run_names_the_reason_and_auto_skips_it():
    q, k, v, _ = draw((1, 2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"backend 'fused' cannot run here: "):
        criss_cross_attention(q, k, v, "fused")
    torch.testing.assert_close(criss_cross_attention(q, k, v), loop(q, k, v, v)[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"axis": "rows"}, "axis must be one of both, row, column, got 'rows'"),
        ({"row_bias": torch.zeros(3, 3)}, r"row_bias must be \[4, 4\], got \(3, 3\)"),
        ({"column_bias": torch.zeros(4, 4)}, r"column_bias must be \[3, 3\], got \(4, 4\)"),
        ({"column_bias": torch.zeros(3, 3), "axis": "row"}, "column_bias has no meaning with axis='row'"),
        ({"row_bias": torch.zeros(4, 4).long()}, "row_bias must be floating point"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    x = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match=words):
        criss_cross_attention(x, x, x, **options)


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
