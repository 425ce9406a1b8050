"""The fused kernels without a GPU: their numbers in Triton's interpreter, what they take of a chip from its compiler.

Everything is channels last here, as the kernels want it. The truth is the definition in float64, through autograd.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from paths import SOURCE, TESTS

from crisscross.ops import fused
from crisscross.ops.lines import AXES
from crisscross.ops.reference import criss_cross_attention_3d_reference, criss_cross_attention_reference

pytest.importorskip("triton", reason="fused kernels need Triton")

HELPERS = TESTS / "helpers"
RESULTS = ("output", "log-sum-exp", "gradient of q", "gradient of k", "gradient of v")

# (batch, query channels, value channels, height, width), axis
SMALL = [(1, 3, 5, 1, 1), (2, 4, 5, 1, 7), (1, 4, 3, 7, 1), (2, 8, 6, 5, 3)]
# Past one block of channels (64 in float32, 128 in float16) and past one tile of positions (32 and 64).
OTHER = [((1, 1, 1, 2, 3), "both"), ((1, 8, 6, 13, 7), "both"), ((1, 20, 160, 3, 4), "both")]
OTHER += [((1, 8, 16, 2, 70), "row"), ((1, 8, 16, 70, 2), "column")]
PAST = {torch.float32: 37, torch.float16: 70}
CASES = [
    (dtype, shape, axis, "packed")
    for dtype in (torch.float32, torch.float16)
    for shape, axis in [
        *((shape, axis) for shape in SMALL for axis in AXES),
        *OTHER,
        ((1, 8, 16, 3, PAST[dtype]), "both"),
        ((1, 8, 24, PAST[dtype], 3), "both"),
    ]
]
CASES += [(torch.float32, (2, 4, 6, 5, 3), "both", layout) for layout in ("channels first", "far below 0")]
CASES += [(torch.float16, (1, 8, 6, 5, 4), axis, "beyond half") for axis in AXES]
# Clips: frames and their height stand where the height does. Past a tile of time and a block of channels.
CLIPS = [(2, 4, 5, (2, 3), 4), (1, 3, 5, (4, 1), 3), (5, 3, 5, (2, 1), 1)]
CLIPS += [(1, 4, 6, (37, 1), 2), (1, 20, 160, (3, 2), 2)]
CASES += [(torch.float32, shape, "both", "packed") for shape in CLIPS]
CASES += [(torch.float16, CLIPS[0], "both", "packed"), (torch.float32, CLIPS[0], "both", "channels first")]


def definition(q, k, v, axis, frames=1):
    """Output [B, H, W, C] and log-sum-exp [B, H, W] from a mask over all pairs of positions."""
    height, width = q.shape[1:3]
    position = torch.arange(height * width, device=q.device)
    row, column = position // width, position % width
    same_row, same_column = row[:, None] == row[None, :], column[:, None] == column[None, :]
    if frames > 1:
        # Of the rows of other frames, the one that is as far down.
        frame, down = row // (height // frames), row % (height // frames)
        same_column = same_column & ((frame[:, None] == frame) | (down[:, None] == down))
    in_reach = {"row": same_row, "column": same_column, "both": same_row | same_column}[axis]
    logits = q.flatten(1, 2) @ k.flatten(1, 2).transpose(1, 2)
    logits = logits.masked_fill(~in_reach, -torch.inf)
    out = logits.softmax(-1) @ v.flatten(1, 2)
    return out.unflatten(1, (height, width)), logits.logsumexp(-1).unflatten(1, (height, width))


def draw(dtype, shape, axis, layout):
    """q, k, v, the gradient of the output, what is in the values' gradient before, the axis and the frames."""
    batch, inner, outer, height, width = shape
    frames = 1
    if isinstance(height, tuple):
        frames, height = height[0], height[0] * height[1]
    chance = torch.Generator().manual_seed(0)
    packed, v, grad, before = (
        torch.randn(batch, height, width, channels, generator=chance, dtype=torch.float64).to(dtype)
        for channels in (2 * inner, outer, outer, outer)
    )
    q, k = packed.split(inner, -1)
    if layout == "channels first":
        q, k, v = (x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) for x in (q, k, v))
        grad = grad[:1, :1, :1, :1].expand_as(grad)
    if layout == "far below 0":
        # Logits of about -400, so that exp(0 - lse), a weight of what lies past the end of a line, is infinite.
        q[..., 0], k[..., 0] = 20, -20
    if layout == "beyond half":
        # Logits of about 67600 in float16, which ends at 65504.
        q[..., 0], k[..., 0] = 260, 260
    return q, k, v, grad, before, axis, frames


def by_definition(q, k, v, grad, before, axis, frames, dtype=torch.float64):
    """The five results, computed in `dtype`, as float64."""
    q, k, v, grad, before = (x.detach().to(dtype) for x in (q, k, v, grad, before))
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    out, lse = definition(*inputs, axis, frames)
    dq, dk, dv = torch.autograd.grad(out, inputs, grad)
    return [x.detach().double() for x in (out, lse, dq, dk, before + dv)]


def spread(x):
    """Root of the mean square."""
    return x.square().mean().sqrt().item()


def disagreements(job, found):
    """What is further from the truth than allowed; an empty list is agreement.

    Allowed: twice the root-mean-square error of the definition computed in the same dtype, and no less than two units
    in the last place of the values' own root mean square. A gradient of q or k is a difference of two sums that may
    be equal (with one position in reach they are, and the definition's error is 0): so no less than a few
    units of theirs in float32, either. On a GPU a float32 product is three of TF32, two bits less, and the sums of
    tensor cores are truncated: there a unit is sixteen.
    """
    q, k, v, grad, *_ = job
    units = 16 if q.is_cuda and q.dtype == torch.float32 else 2
    truths, plain = by_definition(*job), by_definition(*job, dtype=q.dtype)
    size = spread(grad.double()) * spread(v.double()) * v.shape[-1] ** 0.5
    sums = {"gradient of q": size * spread(k.double()), "gradient of k": size * spread(q.double())}
    wrong = []
    for name, value, other, truth in zip(RESULTS, found, plain, truths, strict=True):
        exact = torch.finfo(torch.float32).eps
        unit = exact if name == "log-sum-exp" else torch.finfo(q.dtype).eps
        error = spread(value.double() - truth)
        limit = max(2 * spread(other - truth), units * unit * spread(truth), 2 * units * exact * sums.get(name, 0))
        # Written so that NaN disagrees.
        if not error <= limit:
            wrong.append(f"{name}: {error:.3g}, allowed {limit:.3g}")
    return wrong


def run_python(*arguments, **environment):
    """What a Python of its own prints that knows this package and starts among the tests."""
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=HELPERS,
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What the kernels make of every case, by case, from one Python in which Triton interprets."""
    folder = tmp_path_factory.mktemp("interpreted")
    torch.save([draw(*case) for case in CASES], folder / "jobs.pt")
    run_python("fused_gates.py", "interpret", folder / "jobs.pt", folder / "results.pt", TRITON_INTERPRET="1")
    return dict(zip(CASES, torch.load(folder / "results.pt"), strict=True))


@pytest.mark.parametrize("case", [case for case in CASES if case[-1] != "beyond half"], ids=str)
def test_kernels_err_at_most_twice_as_much_as_the_definition_in_the_same_dtype(interpreted, case):
    job, found = draw(*case), interpreted[case]
    q, _, v, *_ = job
    assert [x.dtype for x in found] == [v.dtype, torch.float32, q.dtype, q.dtype, v.dtype]
    assert [x.shape for x in found] == [v.shape, v.shape[:3], q.shape, q.shape, v.shape]
    assert all(x.is_contiguous() for x in found[:4])
    assert not disagreements(job, found)


@pytest.mark.parametrize("case", [case for case in CASES if case[-1] == "beyond half"], ids=str)
def test_logits_beyond_half_precision_stay_finite_and_right(interpreted, case):
    job = draw(*case)
    for name, found, truth in zip(RESULTS, interpreted[case], by_definition(*job), strict=True):
        # float32 steps by 1/128 there, so weights are right to about 1/128; the others hold 260 and 67600 times that.
        scale = 260.0 if name in RESULTS[2:4] else 1.0
        assert (found.double() - truth).abs().max() <= 2 / 128 * scale, name
    assert not by_definition(*job, dtype=torch.float16)[0].isfinite().all()


def test_operators_and_layers_run_on_the_kernels(tmp_path):
    run_python("fused_gates.py", "layer", tmp_path / "results.pt", TRITON_INTERPRET="1")
    found = torch.load(tmp_path / "results.pt")
    biased, deep, wide = found.pop("refusals")
    assert "has no position bias" in biased and "256 query channels, got 257" in deep and wide == ""
    # Columns and rows, or time lines, columns and rows: a kernel each forward, three each backward. The lean way
    # goes forward once more.
    for kind, passes in (("2-D", 2), ("3-D", 3)):
        for way, plain, launches in (("fast", "fast", 4), ("lean", "fast", 5), ("operator", "operator", 4)):
            none, *expected = found[f"{kind} composite {plain}"]
            counted, *values = found[f"{kind} fused {way}"]
            assert (counted, none) == (launches * passes, 0)
            for value, other in zip(values, expected, strict=True):
                torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-4)
    assert len(found) == 10


def test_the_truth_is_the_package_s_definition():
    q, k, v, *_ = (x.double() for x in draw(torch.float32, (2, 3, 4, 5, 6), "both", "packed")[:3])
    expected = criss_cross_attention_reference(*(x.permute(0, 3, 1, 2) for x in (q, k, v))).permute(0, 2, 3, 1)
    torch.testing.assert_close(definition(q, k, v, "both")[0], expected, rtol=1e-12, atol=1e-12)
    q, k, v, *_ = (x.double() for x in draw(torch.float32, (2, 3, 4, (3, 2), 6), "both", "packed")[:3])
    clips = (x.permute(0, 3, 1, 2).unflatten(2, (3, 2)) for x in (q, k, v))
    expected = criss_cross_attention_3d_reference(*clips).flatten(2, 3).permute(0, 2, 3, 1)
    torch.testing.assert_close(definition(q, k, v, "both", 3)[0], expected, rtol=1e-12, atol=1e-12)


LARGE = [(2, 64, 512, 33, 70), (1, 5, 40, 97, 3), (2, 16, 128, 1, 64), (1, 160, 48, 20, 1)]
LARGE_CLIPS = [(2, 64, 512, (5, 9), 20), (1, 8, 40, (70, 2), 3)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    ("shape", "axis"),
    [*((shape, axis) for shape in LARGE for axis in AXES), *((shape, "both") for shape in LARGE_CLIPS)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_on_a_gpu_the_same_holds_and_repeats_to_the_bit(dtype, shape, axis):
    *tensors, axis, frames = draw(dtype, shape, axis, "packed")
    q, k, v, grad, before = (x.cuda() for x in tensors)
    # Side by side again, as the projection makes them.
    q, k = torch.cat([q, k], -1).chunk(2, -1)
    assert fused.why_not(q, v) is None
    found = []
    for _ in range(2):
        out, lse = fused.forward(q, k, v, axis, frames)
        dv = before.clone()
        dq, dk = fused.backward(grad, q, k, v, out, lse, axis, dv, frames)
        found.append((out, lse, dq, dk, dv))
    assert not disagreements((q, k, v, grad, before, axis, frames), found[0])
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))


# --- what they take of a chip ---


def on_chip(*cases):
    """For each case, one dictionary a kernel launch of a training step."""
    return json.loads(run_python("fused_gates.py", "compile", *cases, TRITON_INTERPRET="0"))


# dtype, compute capability, query channels, value channels, frames
@pytest.mark.parametrize(
    "cases",
    [
        ["bfloat16,90,64,512,1"],
        pytest.param(["bfloat16,90,64,512,5", "float32,80,64,512,1"], marks=pytest.mark.slow),
        *(
            pytest.param(
                [f"{dtype},{chip},64,512,1" for dtype in ("bfloat16", "float16", "float32")], marks=pytest.mark.slow
            )
            for chip in (89, 100, 120)
        ),
        pytest.param(
            ["bfloat16,89,256,512,1", "bfloat16,100,256,512,1", "bfloat16,120,256,512,1"], marks=pytest.mark.slow
        ),
        pytest.param(["float32,90,64,512,5", "float16,80,64,512,5", "tf32,90,64,512,5"], marks=pytest.mark.slow),
        pytest.param(["bfloat16,80,64,512,1", "float16,80,64,512,1", "float16,90,64,512,1"], marks=pytest.mark.slow),
        pytest.param(["float32,90,64,512,1", "tf32,80,64,512,1", "tf32,90,64,512,1"], marks=pytest.mark.slow),
        pytest.param(
            ["bfloat16,80,256,512,1", "bfloat16,90,128,1024,1", "float32,80,256,512,1"], marks=pytest.mark.slow
        ),
    ],
    ids=lambda cases: " ".join(cases),
)
def test_kernels_fit_their_chip(cases):
    for case, kernels in zip(cases, on_chip(*cases), strict=True):
        dtype, capability = case.split(",")[:2]
        passes = 2 if case.endswith(",1") else 3
        assert [x["kernel"] for x in kernels].count("attend_line") == passes and len(kernels) == 4 * passes
        # Lines of 5 frames are too short for a whole warpgroup: they come first, forward and backward.
        short = {0, 3, 4, 5} if passes == 3 else set()
        for index, taken in enumerate(kernels):
            told = f"{case}: {taken}"
            # Bytes a thread. On compute capability 9.0 tiles that spill some were measured faster than smaller ones;
            # on 12.0 the assembler spills 8 though half of the registers are free.
            most = {"90": 280 if dtype == "float32" else 40, "120": 8}.get(capability, 0)
            assert taken["spilled"] <= max(most, 32 * (dtype == "float32")), told
            # The least that a chip gives to one block is 99 KiB; two fit on larger ones.
            assert taken["shared"] <= (99 if capability in ("90", "100") else 80) * 1024, told
            assert taken["wide"] >= 8 and taken["narrow"] == 0, told
            if dtype in ("float32", "tf32"):
                assert taken["mma"] + taken["wgmma"] + taken["tcgen05"] >= 8 or ",256," in case, told
            else:
                groups = {"90": "wgmma", "100": "tcgen05"}.get(capability, "mma")
                assert taken["mma" if index in short else groups] >= 8, told


# --- when they cannot run ---


def some(device="cpu", dtype=torch.float32, inner=4, width=2):
    q = torch.empty(1, 3, width, inner, device=device, dtype=dtype)
    return q, torch.empty(1, 3, width, 8, device=device, dtype=dtype)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (some(), "CUDA"),
        (some("meta"), "CUDA"),
        (some(dtype=torch.float64), "float64"),
        (some(inner=257), "256 query channels, got 257"),
        (some(width=0), "empty"),
    ],
)
def test_each_obstacle_has_its_reason(monkeypatch, tensors, reason):
    monkeypatch.setattr(fused, "_interpreted", lambda: False)
    assert re.search(reason, fused.why_not(*tensors) or "")


def test_the_interpreter_takes_the_cpu_but_not_bfloat16(monkeypatch):
    monkeypatch.setattr(fused, "_interpreted", lambda: True)
    assert fused.why_not(*some()) is None
    assert "bfloat16" in fused.why_not(*some(dtype=torch.bfloat16))


def test_without_triton_the_module_imports_and_names_the_reason():
    code = (
        "import sys, torch; sys.modules['triton'] = None\n"
        "from crisscross.ops import fused\n"
        "x = torch.zeros(1, 2, 2, 4)\n"
        "print(fused.why_not(x, x))"
    )
    assert run_python("-c", code).startswith("triton cannot be imported")


def test_a_gradient_that_cannot_be_added_in_place_is_refused():
    q, v = some("meta")
    lse = torch.empty(1, 3, 2, device="meta")
    scattered = torch.empty(1, 8, 3, 2, device="meta").permute(0, 2, 3, 1)
    with pytest.raises(ValueError, match="next to each other"):
        fused.backward(v, q, q, v, v, lse, "both", scattered)
