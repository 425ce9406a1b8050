"""The Winograd layer against float64 convolution: every size, dilation and padding, and when it steps aside."""

import threading

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from crisscross.speed import winograd
from crisscross.speed.winograd_layers import WinogradConv2d

# Of the root mean square of the result; a plain float32 convolution has 2e-7.
ROUNDING = 4e-6


def relative(found, expected):
    return ((found.double() - expected).norm() / expected.norm()).item()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def always(monkeypatch):
    """The fast way for every size and number of channels, also where it does not pay."""
    monkeypatch.setattr(winograd, "gain", lambda conv, height, width: 9.0)


def test_the_matrices_compute_a_correlation():
    a, g, b = winograd.winograd_matrices()
    generator = torch.Generator().manual_seed(0)
    signal, taps = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (6, 3))
    expected = torch.stack([signal[i : i + 3] @ taps for i in range(4)])
    torch.testing.assert_close(a @ ((g @ taps) * (b @ signal)), expected, rtol=1e-12, atol=1e-12)
    # Exact in float32, so that only products and sums round.
    for matrix in (torch.kron(a, a), torch.kron(b, b)):
        assert torch.equal(matrix.float().double(), matrix)


@pytest.mark.parametrize("dilation", [1, 2, 4])
@pytest.mark.parametrize(
    ("batch", "height", "width"),
    [(1, 16, 32), (2, 13, 19), (1, 1, 1), (1, 3, 5), (2, 1, 40), (1, 33, 2), (1, 70, 65)],
)
def test_winograd_is_the_convolution(always, fast_calls, batch, height, width, dilation):
    generator = torch.Generator().manual_seed(height)
    conv = nn.Conv2d(12, 7, 3, padding=dilation, dilation=dilation)
    x = torch.randn(batch, 12, height, width, generator=generator)
    with torch.no_grad():
        found = WinogradConv2d(conv)(x)
    expected = functional.conv2d(
        x.double(), conv.weight.double(), conv.bias.double(), padding=dilation, dilation=dilation
    )
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert relative(found, expected) < ROUNDING
    assert len(fast_calls) == 1


@pytest.mark.parametrize(("padding", "dilation"), [(0, 1), (1, 2), (5, 1), ((0, 3), 2), ((9, 4), 4)])
def test_any_padding_of_zeros(always, fast_calls, padding, dilation):
    conv = nn.Conv2d(5, 6, 3, padding=padding, dilation=dilation, bias=False)
    x = torch.randn(1, 5, 11, 14)
    with torch.no_grad():
        found = WinogradConv2d(conv)(x)
    expected = functional.conv2d(x.double(), conv.weight.double(), padding=padding, dilation=dilation)
    assert found.shape == expected.shape
    assert relative(found, expected) < ROUNDING
    assert len(fast_calls) == 1


def test_rounding_at_the_width_of_the_network():
    conv = nn.Conv2d(512, 512, 3, padding=4, dilation=4, bias=False)
    x = torch.randn(1, 512, 32, 64, generator=torch.Generator().manual_seed(0)).relu()
    with torch.no_grad():
        found = WinogradConv2d(conv)(x)
    expected = functional.conv2d(x.double(), conv.weight.double(), padding=4, dilation=4)
    assert relative(found, expected) < ROUNDING
    assert (found - expected).abs().max() < 5e-5 * expected.std()


@pytest.mark.parametrize("matrix", ["into_PP", "back_QP", "weight_PCD"])
def test_a_broken_transform_shows(always, matrix, monkeypatch):
    layer = WinogradConv2d(nn.Conv2d(8, 8, 3, padding=1))
    x = torch.randn(1, 8, 12, 12)
    with torch.no_grad():
        expected = functional.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1)
        assert relative(layer(x), expected) < ROUNDING
        # One number of 1296, 592 and 2304.
        into_PP, back_QP = (transform.clone() for transform in winograd.tile_transforms())
        monkeypatch.setattr(winograd, "tile_transforms", lambda: (into_PP, back_QP))
        {"into_PP": into_PP, "back_QP": back_QP, "weight_PCD": layer.weight_PCD}[matrix].view(-1)[7] += 0.01
        assert relative(layer(x), expected) > 10 * ROUNDING


def test_every_image_of_a_batch_is_its_own(always):
    layer = WinogradConv2d(nn.Conv2d(8, 8, 3, padding=2, dilation=2))
    x = torch.randn(3, 8, 21, 10)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), torch.cat([layer(one[None]) for one in x]), rtol=1e-5, atol=1e-6)


def test_results_of_two_calls_share_no_memory(always):
    layer = WinogradConv2d(nn.Conv2d(8, 8, 3, padding=1))
    x = torch.randn(1, 8, 16, 16)
    with torch.inference_mode():
        first = layer(x)
        kept = first.clone()
        layer(x + 1)
    assert torch.equal(first, kept)
    # After inference mode the same memory serves ordinary calls.
    with torch.no_grad():
        assert torch.equal(layer(x), kept)


def test_threads_do_not_share_their_memory(always):
    layer = WinogradConv2d(nn.Conv2d(16, 16, 3, padding=1))
    images = [torch.randn(1, 16, 40, 40) for _ in range(4)]
    with torch.no_grad():
        expected = [layer(x) for x in images]
    found: list[list[torch.Tensor]] = [[] for _ in images]

    def work(index):
        with torch.no_grad():
            found[index] = [layer(images[index]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for results, right in zip(found, expected, strict=True):
        assert len(results) == 20
        assert all(torch.equal(result, right) for result in results)


def test_memory_is_given_back():
    winograd._scratch((100,))
    assert hasattr(winograd._memory, "values")
    winograd.release_memory()
    assert not hasattr(winograd._memory, "values")


@pytest.mark.parametrize(
    ("conv", "word"),
    [
        (nn.Conv2d(8, 8, 1), "3 x 3"),
        (nn.Conv2d(8, 8, 3, stride=2), "stride"),
        (nn.Conv2d(8, 8, 3, groups=2), "group"),
        (nn.Conv2d(8, 8, 3, padding="same"), "padding"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "padding"),
        (nn.Conv2d(8, 8, 3, dilation=(1, 2)), "dilation"),
        (nn.Conv2d(8, 8, 3).double(), "float32"),
        (timm.layers.Conv2dSame(8, 8, 3), "Conv2dSame"),
    ],
)
def test_what_winograd_refuses(conv, word):
    with pytest.raises(ValueError, match=word):
        WinogradConv2d(conv)


@pytest.mark.parametrize("case", ["double", "gradient", "autocast", "small", "unbatched", "trace"])
def test_torchs_convolution_where_winograd_does_not_fit(fast_calls, case):
    conv = nn.Conv2d(128, 128, 3, padding=1).requires_grad_(False)
    layer, x = WinogradConv2d(conv), torch.randn(1, 128, 32, 32)
    layer(x)
    assert len(fast_calls) == 1, "the fast way fits this image"
    if case == "double":
        assert torch.equal(layer.double()(x.double()), conv.double()(x.double()))
    elif case == "gradient":
        layer(x.requires_grad_()).sum().backward()
        assert x.grad is not None
    elif case == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
    elif case == "small":
        assert torch.equal(layer(x[..., :6, :6]), conv(x[..., :6, :6]))
    elif case == "unbatched":
        assert torch.equal(layer(x[0]), conv(x[0]))
    else:
        exported = torch.export.export(layer, (x,))
        assert any("conv2d" in str(node.target) for node in exported.graph.nodes)
        torch.testing.assert_close(torch.jit.trace(layer, (x,), check_trace=False)(x), conv(x))
    assert len(fast_calls) == 1


def test_wrong_channels_get_torchs_own_message():
    with pytest.raises(RuntimeError, match="expected input"):
        WinogradConv2d(nn.Conv2d(128, 128, 3))(torch.randn(1, 64, 32, 32))


def test_new_weights_are_transformed(always):
    first, second = (WinogradConv2d(nn.Conv2d(8, 8, 3)) for _ in range(2))
    x = torch.randn(1, 8, 12, 12)
    first.load_state_dict(second.state_dict())
    assert set(second.state_dict()) == {"weight", "bias"}
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


def test_the_gain_grows_with_channels_and_full_tiles():
    def gain(channels, height, width, dilation=1):
        return winograd.gain(nn.Conv2d(channels, channels, 3, dilation=dilation, device="meta"), height, width)

    assert gain(512, 64, 128) > gain(128, 64, 128) > winograd.WORTHWHILE > gain(64, 64, 128)
    assert gain(512, 64, 128) == gain(512, 64, 128, 4) > gain(512, 65, 129, 4)
    assert gain(512, 20, 20, 4) < winograd.WORTHWHILE
    assert gain(512, 0, 8) == 0
