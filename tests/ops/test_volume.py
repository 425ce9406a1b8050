"""The 3-D operator against a loop over positions in float64 (truth_volume.py), forward and every gradient."""

from functools import partial

import numpy as np
import pytest
import torch
from truth import RESULTS, draw, run, spread, worst
from truth_volume import cross, disagreements, draw_clip, loop

from crisscross import criss_cross_attention, criss_cross_attention_3d
from crisscross.ops import criss_cross_attention_3d_reference, lines

BACKENDS = ["eager", "composite", "reference"]

# (batch, query channels, value channels, frames, height, width)
SHAPES = [
    (1, 3, 4, 1, 1, 1),
    (2, 4, 5, 1, 1, 7),
    (2, 4, 3, 1, 6, 1),
    (2, 4, 3, 5, 1, 1),
    (1, 4, 3, 3, 4, 1),
    (1, 4, 3, 4, 1, 3),
    (2, 2, 4, 3, 3, 3),
    (2, 5, 3, 2, 7, 5),
    (1, 3, 4, 5, 2, 6),
    (0, 4, 5, 2, 3, 4),
    (2, 4, 5, 0, 2, 3),
    (2, 4, 5, 2, 0, 3),
    (2, 4, 5, 2, 3, 0),
]


def operator(backend):
    return partial(criss_cross_attention_3d, backend=backend)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_and_gradients_are_those_of_the_loop(backend, shape):
    assert not disagreements(operator(backend), *draw_clip(shape))


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("shape", [(2, 4, 3, 3, 4, 5), (1, 3, 4, 4, 1, 3), (1, 3, 4, 4, 3, 1)], ids=str)
def test_chunks_of_lines_change_nothing(shape, size, monkeypatch):
    monkeypatch.setattr(lines, "lines_in_a_chunk", lambda _: size)
    assert not disagreements(operator("eager"), *draw_clip(shape))


@pytest.mark.parametrize("backend", ["eager", "composite"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_errs_at_most_twice_as_much_as_the_definition_in_the_same_dtype(backend, dtype):
    for seed, shape in enumerate([(2, 8, 6, 3, 7, 5), (1, 16, 16, 5, 1, 9), (1, 16, 32, 4, 6, 5)]):
        assert not disagreements(operator(backend), *draw_clip(shape, dtype, seed))


def test_large_clips_agree_with_the_plain_expression_in_float64():
    """Too large for the loop, past any chunk that a small clip fills."""
    inputs = draw_clip((1, 8, 64, 9, 33, 70), torch.float32)
    truth = run(operator("composite"), *(x.double() for x in inputs))
    plain, found = run(operator("composite"), *inputs), run(operator("eager"), *inputs)
    assert lines.lines_in_a_chunk(inputs[2][0].permute(1, 2, 3, 0).flatten(1, 2).transpose(0, 1)) < 33 * 70
    for value, other, true in zip(found, plain, truth, strict=True):
        assert spread(value - true) <= max(2 * spread(other - true), 1e-7 * spread(true))


@pytest.mark.parametrize("layout", ["sliced", "transposed", "channels last", "expanded"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_memory_layout_gives_the_same(backend, layout):
    relaid = {
        "sliced": lambda x: torch.stack([x, x.flip(0)], dim=-1)[..., 0],
        "transposed": lambda x: x.transpose(2, 4).contiguous().transpose(2, 4),
        "channels last": lambda x: x.contiguous(memory_format=torch.channels_last_3d),
        "expanded": lambda x: x[:1, :, :1].expand(2, -1, 3, -1, -1),
    }[layout]
    inputs = [relaid(x) for x in draw_clip((2, 4, 6, 3, 5, 2))]
    assert not any(x.is_contiguous() for x in inputs)
    assert not disagreements(operator(backend), *inputs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend):
    q, k, v, _ = draw_clip((1, 2, 2, 2, 3, 2))
    assert torch.autograd.gradcheck(operator(backend), [x.requires_grad_() for x in (q, k, v)])


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_frame_is_the_2d_operator(backend):
    q, k, v, g = draw((2, 4, 6, 7, 5), torch.float32)
    expected = run(partial(criss_cross_attention, backend=backend), q, k, v, g)
    found = run(operator(backend), *(x.unsqueeze(2) for x in (q, k, v, g)))
    for value, other in zip(found, expected, strict=True):
        if backend == "eager":
            assert torch.equal(value.squeeze(2), other)
        torch.testing.assert_close(value.squeeze(2), other, rtol=1e-6, atol=1e-6)


# --- what it means ---


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("moved", ["q", "k", "v"])
def test_one_moved_value_disturbs_its_row_its_column_and_its_time_line(backend, moved):
    size, place = (4, 6, 5), (2, 4, 1)
    tensors = dict(zip(("q", "k", "v"), draw_clip((1, 3, 2, *size)), strict=False))
    before = criss_cross_attention_3d(**tensors, backend=backend)
    tensors[moved] = tensors[moved].clone()
    tensors[moved][(0, 1, *place)] += 1
    changed = (criss_cross_attention_3d(**tensors, backend=backend) - before)[0].abs().amax(0) > 1e-9
    reached = {place} if moved == "q" else set(cross(place, size))
    assert len(reached) == (1 if moved == "q" else 4 + 6 + 5 - 2)
    assert {tuple(found) for found in changed.nonzero().tolist()} == reached


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(3, 4, 2), (1, 1, 5), (1, 5, 1), (5, 1, 1), (2, 2, 2), (1, 1, 1)])
def test_with_equal_logits_every_position_weighs_the_same_and_the_centre_once(backend, size):
    places = int(np.prod(size))
    q, k = torch.zeros(1, 2, *size), torch.randn(1, 2, *size)
    # Channel p of the values is 1 at position p alone, so the output's channel p is the weight of position p.
    indicator = torch.eye(places).view(1, places, *size)
    weights = criss_cross_attention_3d(q, k, indicator, backend).reshape(places, places)
    expected = torch.zeros(places, places)
    for place in np.ndindex(*size):
        for other in cross(place, size):
            expected[np.ravel_multi_index(other, size), np.ravel_multi_index(place, size)] = 1 / (sum(size) - 2)
    torch.testing.assert_close(weights, expected)


# --- half precision ---


@pytest.mark.parametrize("backend", ["eager", "composite"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_logits_beyond_half_precision_stay_finite_and_right(dtype, backend):
    q, k, v, g = draw_clip((1, 8, 6, 3, 5, 4), dtype)
    # One channel lifts all logits beyond what float16 holds and bfloat16 resolves; the others tell positions apart.
    q[:, 0], k[:, 0] = 260, 260
    found, truth = run(operator(backend), q, k, v, g), loop(q, k, v, g)
    for name, value, expected in zip(RESULTS[:4], found, truth, strict=True):
        # float32 steps by 1/128 there, so weights are right to about 1/128; q's gradient holds 260 times that.
        allowed = 2 / 128 * (260.0 if name in RESULTS[1:3] else 1.0)
        assert worst(value, expected) <= allowed + torch.finfo(dtype).eps * expected.abs().max(), name
    plain = run(criss_cross_attention_3d_reference, q, k, v, g)
    assert not worst(plain[0], truth[0]) <= 0.2


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_autocast_settles_mixed_dtypes_and_leaves_float64_alone(backend):
    q, k, v, _ = draw_clip((1, 4, 3, 2, 3, 4), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert criss_cross_attention_3d(q, k.bfloat16(), v, backend).dtype == torch.bfloat16
        assert criss_cross_attention_3d(q.double(), k.double(), v.double(), backend).dtype == torch.float64
    assert criss_cross_attention_3d(q, k, v, backend).dtype == torch.float32


# --- refusals ---


def test_what_cannot_run_is_refused_by_name_and_auto_passes_it_over():
    q, k, v, _ = draw_clip((1, 2, 2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"unknown backend 'cuda'; known: auto, fused, eager, composite, reference"):
        criss_cross_attention_3d(q, k, v, "cuda")
    with pytest.raises(ValueError, match=r"backend 'fused' cannot run here: "):
        criss_cross_attention_3d(q, k, v, "fused")
    torch.testing.assert_close(criss_cross_attention_3d(q, k, v), loop(q, k, v, v)[0])


@pytest.mark.parametrize(
    ("q", "k", "v", "words"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), r"must be \[B, channels, T, H, W\]"),
        ((1, 2, 5, 3, 4), (1, 2, 5, 4, 3), (1, 2, 5, 3, 4), "q and k must have one shape"),
        ((1, 2, 5, 3, 4), (1, 2, 5, 3, 4), (1, 2, 6, 3, 4), "v must share batch, time, height and width"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(q, k, v, words):
    with pytest.raises(ValueError, match=words):
        criss_cross_attention_3d(torch.zeros(q), torch.zeros(k), torch.zeros(v))
