"""`auto` takes the kernels only where they passed a trial: here they fail, compute wrong numbers or are right."""

import warnings

import pytest
import torch

from crisscross import CrissCrossAttention, criss_cross_attention
from crisscross.ops import composite, dispatch, fused, trial
from crisscross.ops.lines import Reach

pytest.importorskip("triton", reason="fused kernels need Triton")


class Kernels:
    """Stands in for `fused.forward` and `fused.backward`: the plain expression, with a fault in one of them."""

    def __init__(self, fault=""):
        self.fault, self.forwards, self.backwards = fault, 0, 0

    def forward(self, q, k, v, axis="both", frames=1):
        self.forwards += 1
        if self.fault == "no compiler":
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")
        out = composite.attention(q, k, v, Reach(axis, None, None, frames))
        if self.fault == "wrong output":
            out = out.clone()
            out[:, -1] = 0
        if self.fault == "NaN":
            out = out * float("nan")
        return out, torch.zeros(v.shape[:3])

    def backward(self, grad, q, k, v, out, lse, axis, grad_v, frames=1):
        self.backwards += 1
        inputs = [x.detach().requires_grad_() for x in (q, k, v)]
        with torch.enable_grad():
            out = composite.attention(*inputs, Reach(axis, None, None, frames))
            dq, dk, dv = torch.autograd.grad(out, inputs, grad)
        grad_v += dv
        return dq, torch.zeros_like(dk) if self.fault == "wrong gradient" else dk


@pytest.fixture
def kernels(monkeypatch):
    """A function that puts kernels with a fault into the place of the real ones, for tensors on the CPU."""

    def put(fault=""):
        made = Kernels(fault)
        monkeypatch.setattr(dispatch, "WITH_KERNELS", ("cpu",))
        monkeypatch.setattr(fused, "why_not", lambda *_: None)
        monkeypatch.setattr(fused, "forward", made.forward)
        monkeypatch.setattr(fused, "backward", made.backward)
        monkeypatch.setattr(trial, "_REASONS", {})
        return made

    return put


def tensors(dtype=torch.float32):
    return [
        x.to(dtype).requires_grad_() for x in torch.randn(3, 1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    ]


def test_kernels_that_pass_are_tried_once_for_each_dtype_and_number_of_channels(kernels):
    made = kernels()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (torch.float32, torch.bfloat16):
            for _ in range(2):
                q, k, v = tensors(dtype)
                criss_cross_attention(q, k, v)
                criss_cross_attention(q, k, v[:, :2])
                criss_cross_attention(q[:, :3], k[:, :3], v)
    # Six trials and twelve calls.
    assert (made.forwards, made.backwards) == (18, 6)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no compiler", "RuntimeError: Failed to find C compiler. Please specify via CC"),
        ("wrong output", "wrong numbers"),
        ("wrong gradient", "wrong numbers"),
        ("NaN", "wrong numbers"),
    ],
)
def test_kernels_that_fail_or_compute_wrong_numbers_are_not_used_with_one_warning(kernels, fault, reason):
    made = kernels(fault)
    q, k, v = tensors()
    with pytest.warns(
        RuntimeWarning,
        match=f"on cpu in torch.float32, 4 query and 4 value channels: .*{reason}.*backend='fused' shows",
    ) as told:
        criss_cross_attention(q, k, v)
    assert len(told) == 1 and "\n" not in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = criss_cross_attention(q, k, v)
        gradients = torch.autograd.grad(found.square().sum(), (q, k, v))
    assert made.forwards == 1
    expected = criss_cross_attention(q, k, v, "composite")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.square().sum(), (q, k, v)))


def test_the_layer_honors_the_trial_too(kernels):
    kernels("wrong gradient")
    layer = CrissCrossAttention(16)
    torch.nn.init.constant_(layer.gamma, 0.7)
    x = torch.randn(1, 16, 5, 6, generator=torch.Generator().manual_seed(0))
    with pytest.warns(RuntimeWarning, match="wrong numbers"):
        found = layer(x)
    torch.testing.assert_close(found, CrissCrossAttention.forward(layer, x))
    layer.backend = "composite"
    torch.testing.assert_close(found, layer(x))


def test_named_kernels_are_not_tried_and_show_the_whole_error(kernels):
    kernels("no compiler")
    with pytest.raises(RuntimeError, match="CC environment variable"):
        criss_cross_attention(*tensors(), "fused")


@pytest.mark.parametrize("fault", ["", "wrong output"])
def test_the_trial_works_while_a_graph_is_compiled(kernels, fault):
    made = kernels(fault)
    torch._dynamo.reset()
    compiled = torch.compile(lambda q, k, v: criss_cross_attention(q, k, v), fullgraph=True, backend="eager")
    with torch.no_grad(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = compiled(*tensors())
    torch.testing.assert_close(found, criss_cross_attention(*tensors(), "composite"))
    assert made.forwards == (1 if fault else 2)
    assert len([entry for entry in told if "wrong numbers" in str(entry.message)]) == bool(fault)


def test_neither_autocast_nor_the_generator_is_touched_by_the_trial(kernels):
    kernels()
    state = torch.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert trial.passed(torch.device("cpu"), torch.float32, 5, 7)
    assert torch.equal(state, torch.get_rng_state())


def test_nothing_is_tried_while_a_graph_is_captured(kernels, monkeypatch):
    made = kernels()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    device = torch.device("cuda:0")
    assert not trial.passed(device, torch.float32, 5, 7)
    assert made.forwards == 0 and trial._REASONS == {}
    trial._REASONS[device, torch.float32, 5, 7] = ""
    assert trial.passed(device, torch.float32, 5, 7)
    assert not trial.passed(device, torch.float32, 5, 8)


# --- tiles that are too large for a chip ---


def test_tiles_that_do_not_fit_are_made_smaller_once(monkeypatch):
    import triton

    launched = []

    class Kernel:
        def __getitem__(self, grid):
            def launch(*arguments, **constants):
                launched.append((grid, constants))
                if constants["BLOCK"] > 32:
                    raise triton.OutOfResources(200_000, 101_376, "shared memory")

            return launch

    kernel = Kernel()
    monkeypatch.setattr(fused, "_interpreted", lambda: True)
    monkeypatch.setattr(fused, "_FITTING", {})
    q, v = torch.empty(1, 100, 3, 64, dtype=torch.float16), torch.empty(1, 100, 3, 128, dtype=torch.float16)
    for _ in range(2):
        fused._launch(kernel, q, v, True)
    sizes = [(c["num_stages"], c["BLOCK_C"], c["BLOCK"]) for _, c in launched]
    assert sizes == [(2, 128, 64), (1, 128, 64), (1, 64, 64), (1, 32, 64), (1, 32, 32), (1, 32, 32)]
    # 4 blocks of 32 channels x 4 blocks of 32 positions x 3 columns.
    assert launched[-1][0] == (4 * 4 * 3,)


def test_where_no_tile_fits_the_error_comes_through(monkeypatch):
    import triton

    class Kernel:
        def __getitem__(self, grid):
            def launch(*arguments, **constants):
                raise triton.OutOfResources(200_000, 101_376, "shared memory")

            return launch

    monkeypatch.setattr(fused, "_interpreted", lambda: True)
    monkeypatch.setattr(fused, "_FITTING", {})
    q = torch.empty(1, 20, 20, 64)
    with pytest.raises(triton.OutOfResources):
        fused._launch(Kernel(), q, q, False)
