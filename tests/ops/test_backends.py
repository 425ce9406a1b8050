"""Every row of `BACKENDS` is honored: by the operators and by the layers, alone, repeated, inserted and compiled."""

import pytest
import torch
from torch import nn

import crisscross
from crisscross import surgery
from crisscross.ops import BACKENDS, Backend

FLAT, CLIP = (4, 5), (3, 4, 5)
# What calls attention, how many dimensions its input has beside batch and channels, how many passes it makes.
LAYERS = {
    "2-D": (crisscross.CrissCrossAttention, FLAT, 1),
    "2-D, twice": (crisscross.RecurrentCrissCrossAttention, FLAT, 2),
    "3-D": (crisscross.CrissCrossAttention3d, CLIP, 1),
    "3-D, three times": (crisscross.RecurrentCrissCrossAttention3d, CLIP, 3),
}
# As they are before a test puts something else in their place.
DEFINITION, PLAIN = BACKENDS["reference"], BACKENDS["composite"]
OPERATORS = {"2-D": (crisscross.criss_cross_attention, FLAT), "3-D": (crisscross.criss_cross_attention_3d, CLIP)}


class Counting:
    """A backend that computes by the definition and keeps what it was asked."""

    def __init__(self, reason=None, with_block=False):
        self.reason, self.calls, self.asked, self.blocks, self.reaches = reason, [], [], [], []
        self.row = Backend(self.why_not, self.attention, self.block if with_block else None)

    def why_not(self, q, k, v, reach):
        self.asked.append(([x.shape for x in (q, k, v)], v.dtype, reach.frames))
        return self.reason

    def attention(self, q, k, v, reach):
        self.calls.append(([x.shape for x in (q, k, v)], v.dtype, reach.frames))
        self.reaches.append(reach)
        return DEFINITION.attention(q, k, v, reach)

    def block(self, x, weights, reach, residual, memory):
        self.blocks.append((x.shape, x.dtype, reach.frames, residual, memory))
        return PLAIN.layer(x, weights, reach, residual, memory)


@pytest.fixture
def put(monkeypatch):
    """A function that makes a counting backend a row, of a new name or in the place of one that is there."""

    def add(name, *args, **options):
        made = Counting(*args, **options)
        monkeypatch.setitem(BACKENDS, name, made.row)
        return made

    return add


def drawn(channels, size, dtype=torch.float64):
    chance = torch.Generator().manual_seed(len(size))
    return torch.randn(2, channels, *size, generator=chance, dtype=dtype).requires_grad_()


def opened(kind, backend, **options):
    """A layer of 8 channels with an open gate, the same weights for every backend."""
    torch.manual_seed(0)
    made = kind(8, reduction=4, backend=backend, **options).double()
    nn.init.constant_(getattr(made, "attention", made).gamma, 0.7)
    return made


def shapes(size):
    return [(2, 2, *size), (2, 2, *size), (2, 8, *size)]


def results(layer, x):
    """Output and gradients, of the input first."""
    y = layer(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])]


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["a row of my own", *BACKENDS])
@pytest.mark.parametrize("kind", OPERATORS)
def test_the_operators_ask_the_row_and_call_it(put, name, kind):
    operator, size = OPERATORS[kind]
    q, k, v = drawn(2, size), drawn(2, size), drawn(8, size)
    expected = operator(q, k, v, "composite")
    row = put(name)
    assert_close(operator(q, k, v, name), expected)
    frames = size[0] if len(size) == 3 else 1
    assert row.asked == row.calls == [(shapes(size), torch.float64, frames)]


@pytest.mark.parametrize("name", ["a row of my own", *BACKENDS])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_projects_and_calls_a_row_without_a_block(put, name, kind):
    made, size, passes = LAYERS[kind]
    x = drawn(8, size)
    expected = results(opened(made, "reference"), x)
    row = put(name)
    assert_close(results(opened(made, name), x), expected)
    frames = size[0] if len(size) == 3 else 1
    assert row.asked == row.calls == [(shapes(size), torch.float64, frames)] * passes


@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_calls_the_block_of_a_row_that_has_one(put, kind, memory):
    made, size, passes = LAYERS[kind]
    x = drawn(8, size)
    expected = results(opened(made, "reference"), x)
    row = put("mine", with_block=True)
    assert_close(results(opened(made, "mine", memory=memory), x), expected)
    frames = size[0] if len(size) == 3 else 1
    assert row.blocks == [((2, 8, *size), torch.float64, frames, True, memory)] * passes and not row.calls


@pytest.mark.parametrize("backend", ["eager", "composite", "reference"])
@pytest.mark.parametrize("kind", ["2-D", "3-D"])
def test_auto_goes_through_the_rows_too(put, kind, backend):
    """`eager` on a CPU; the others are not taken there."""
    made, size, _ = LAYERS[kind]
    operator, _ = OPERATORS[kind]
    row = put(backend)
    opened(made, "auto")(drawn(8, size))
    operator(drawn(2, size), drawn(2, size), drawn(8, size))
    assert len(row.calls) == (2 if backend == "eager" else 0)


@pytest.mark.parametrize("kind", ["2-D", "3-D"])
def test_a_layer_whose_projection_is_hooked_calls_the_row(put, kind):
    made, size, _ = LAYERS[kind]
    x = drawn(8, size)
    expected = opened(made, "reference")(x)
    row, layer = put("mine"), opened(made, "mine")
    layer.key.register_forward_hook(lambda *_: None)
    assert_close(layer(x), expected)
    assert len(row.calls) == 1


def test_attention_inserted_into_a_network_calls_the_row(put):
    row = put("mine")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).double()
    surgery.insert_attention(network, after="0", backend="mine", recurrence=2)
    x = drawn(3, FLAT)
    (inserted,) = surgery.inserted_attention(network).values()
    nn.init.constant_(inserted.attention.gamma, 0.7)
    found = network(x)
    assert len(row.calls) == 2
    inserted.attention.backend = "reference"
    assert_close(found, network(x))


def test_a_row_sees_the_biases_and_the_axis(put):
    row = put("mine")
    layer = opened(crisscross.CrissCrossAttention, "mine", axis="row", position_bias=2)
    nn.init.normal_(layer.row_bias)
    x = drawn(8, FLAT)
    found = layer(x)
    (reach,) = row.reaches
    assert reach.axis == "row" and reach.row_bias.shape == (5, 5) and reach.column_bias is None
    layer.backend = "eager"
    assert_close(found, layer(x))


@pytest.mark.parametrize("kind", ["2-D", "3-D"])
def test_attention_whose_weights_sum_to_something_else_gets_projected_values(monkeypatch, kind):
    """Nothing attended is nothing added, the bias of the value projection included."""
    made, size, _ = LAYERS[kind]
    monkeypatch.setitem(BACKENDS, "nothing", Backend(lambda *_: None, lambda q, k, v, reach: v * 0))
    layer, x = opened(made, "nothing"), drawn(8, size)
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_the_output_has_the_memory_format_of_the_input(put, format):
    put("mine")
    x = drawn(8, FLAT).contiguous(memory_format=format)
    assert opened(crisscross.CrissCrossAttention, "mine")(x).stride() == x.stride()


@pytest.mark.parametrize("with_block", [False, True])
def test_under_autocast_a_row_gets_its_type_and_the_input_keeps_its_own(put, with_block):
    row = put("mine", with_block=with_block)
    layer, x = opened(crisscross.CrissCrossAttention, "mine").float(), drawn(8, FLAT, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    if with_block:
        assert row.blocks == [((2, 8, *FLAT), torch.bfloat16, 1, False, "fast")]
    else:
        assert row.calls == [(shapes(FLAT), torch.bfloat16, 1)]
    # The sum was not rounded to bfloat16, which steps by 2^-8.
    layer.backend = "eager"
    assert not torch.equal(y, y.bfloat16().float())
    torch.testing.assert_close(y, layer(x), rtol=0, atol=0.02)


def test_a_row_from_outside_is_compiled_into_one_graph(put):
    put("mine")
    torch.compiler.reset()
    layer, x = opened(crisscross.CrissCrossAttention, "mine"), drawn(8, FLAT)
    found = torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    assert_close(found, opened(crisscross.CrissCrossAttention, "eager")(x))


# --- what cannot run ---


@pytest.mark.parametrize("kind", ["2-D", "3-D"])
def test_the_reason_of_a_row_stops_operator_and_layer(put, kind):
    made, size, _ = LAYERS[kind]
    operator, _ = OPERATORS[kind]
    row = put("mine", "it is Sunday")
    for call in (
        lambda: operator(drawn(2, size), drawn(2, size), drawn(8, size), "mine"),
        lambda: opened(made, "mine")(drawn(8, size)),
    ):
        with pytest.raises(ValueError, match=r"^backend 'mine' cannot run here: it is Sunday$"):
            call()
    assert len(row.asked) == 2 and not row.calls


@pytest.mark.parametrize("kind", ["2-D", "3-D"])
def test_an_unknown_name_is_an_error_everywhere(kind):
    made, size, _ = LAYERS[kind]
    operator, _ = OPERATORS[kind]
    layer = opened(made, "eager")
    layer.backend = "fuesd"
    for call in (
        lambda: operator(drawn(2, size), drawn(2, size), drawn(8, size), "fuesd"),
        lambda: made(8, backend="fuesd"),
        lambda: layer(drawn(8, size)),
    ):
        with pytest.raises(ValueError, match=r"^unknown backend 'fuesd'; known: auto, fused, eager, composite, ref"):
            call()


def test_torch_s_operators_take_no_unknown_path():
    q = torch.randn(1, 3, 4, 8)
    with pytest.raises((RuntimeError, TypeError), match="fused"):
        torch.ops.crisscross.attention(q, q, q, None, None, "both", 1, "fuesd")
