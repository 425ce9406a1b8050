"""Criss-cross attention in Triton: one kernel a line, over the columns first and then over the rows.

No logit reaches memory. Forward: the column pass leaves its softmax as an output and a log-sum-exp, from which the row
pass goes on; so the position itself, hidden in the column, counts once. Backward: the logits are computed again from
the stored log-sum-exp, and each gradient tile belongs to one program, so equal inputs give equal bits.

Shape suffixes: B batch, H height, W width, D query and key channels, C value channels (in kernels: a block of them),
M the positions of a line that a program owns, N those it runs over.
"""

# Kernels have no types: Triton reads annotations itself.
# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError as error:  # no wheels for macOS and Windows
    triton = None
    _MISSING = f"triton cannot be imported ({error})"

AXES = ("both", "row", "column")
MAX_INNER = 256


def _jit(function: Callable[..., Any]) -> Any:
    """`triton.jit`, or nothing where triton is missing: this file can be imported anywhere."""
    if triton is None:
        return function
    # Lines of 97 and of 96 positions share one compiled kernel.
    return triton.jit(function, do_not_specialize=["outer", "length"])


def _interpreted() -> bool:
    return not isinstance(_attend_line, triton.JITFunction)


def why_not(q: Tensor, k: Tensor, v: Tensor, axis: str = "both") -> str | None:
    """The reason these kernels cannot run on q, k [B, H, W, D] and v [B, H, W, C] along `axis`, or None."""
    if triton is None:
        return _MISSING
    if axis not in AXES:
        return f"unknown axis {axis!r}; known: {', '.join(AXES)}"
    if not q.dtype == k.dtype == v.dtype or q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"needs one dtype of float32, float16 and bfloat16, got {q.dtype}, {k.dtype} and {v.dtype}"
    if q.shape[-1] > MAX_INNER:
        return f"takes up to {MAX_INNER} query channels, got {q.shape[-1]}"
    if not q.numel() or not v.numel():
        return "there is nothing to compute in empty tensors"
    if not q.device == k.device == v.device:
        return f"needs one device, got {q.device}, {k.device} and {v.device}"
    if _interpreted() and q.device.type == "cpu":
        return "Triton's interpreter computes bfloat16 wrongly" if q.dtype == torch.bfloat16 else None
    if q.device.type != "cuda":
        return f"needs a CUDA device, got {q.device} (TRITON_INTERPRET=1 emulates one on a CPU)"
    if torch.version.hip is not None:
        return "it is not tried on AMD GPUs"
    if torch.cuda.get_device_capability(q.device) < (8, 0):
        return "needs an NVIDIA GPU of compute capability 8.0 or above"
    return None


def forward(q_BHWD: Tensor, k_BHWD: Tensor, v_BHWC: Tensor, axis: str = "both") -> tuple[Tensor, Tensor]:
    """Attention along columns and rows, itself once (`both`), or along one of them.

    Args:
        q_BHWD: queries [B, H, W, D], channels next to each other in memory, else any strides.
        k_BHWD: keys [B, H, W, D], likewise.
        v_BHWC: values [B, H, W, C], likewise.
        axis: `both`, `row` (the W positions of the row) or `column` (the H positions of the column).

    Returns:
        Output [B, H, W, C], contiguous, in the dtype of the values, and the log-sum-exp [B, H, W], float32, over all
        logits of a position.
    """
    q, k, v = _rows_of_channels(q_BHWD, k_BHWD, v_BHWC)
    passes = _passes(axis, v.shape[1])
    out = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    lse, top, mass = (torch.empty(v.shape[:3], dtype=torch.float32, device=v.device) for _ in range(3))
    for number, (columns, skip_self) in enumerate(passes, start=1):
        _launch(
            _attend_line,
            *(v.shape, columns, q, k, v, out, lse, top, mass),
            *(_strides(x, columns) for x in (q, k, v)),
            GO_ON=number == 2,
            LAST=number == len(passes),
            SKIP_SELF=skip_self,
            **_tiles(q, v, columns),
        )
    return out, lse


def backward(
    grad_BHWC: Tensor,
    q_BHWD: Tensor,
    k_BHWD: Tensor,
    v_BHWC: Tensor,
    lse_BHW: Tensor,
    delta_BHW: Tensor,
    axis: str,
    grad_v_BHWC: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of `forward`.

    Args:
        grad_BHWC: gradient of the output [B, H, W, C].
        q_BHWD: queries [B, H, W, D].
        k_BHWD: keys [B, H, W, D].
        v_BHWC: values [B, H, W, C].
        lse_BHW: log-sum-exp [B, H, W] from `forward`, float32.
        delta_BHW: (grad * out) summed over channels [B, H, W], float32.
        axis: as given to `forward`.
        grad_v_BHWC: [B, H, W, C], any dtype; the gradient of the values is added to it in place.

    Returns:
        Gradients of the queries and of the keys [B, H, W, D], contiguous, in their dtype.
    """
    grad, q, k, v = _rows_of_channels(grad_BHWC, q_BHWD, k_BHWD, v_BHWC)
    if _rows_of_channels(grad_v_BHWC)[0] is not grad_v_BHWC:
        raise ValueError(f"grad_v must have channels next to each other in memory, got strides {grad_v_BHWC.stride()}")
    lse, delta = lse_BHW.contiguous(), delta_BHW.contiguous()
    passes = _passes(axis, v.shape[1])
    dq, dk = (torch.empty(q.shape, dtype=q.dtype, device=q.device) for _ in range(2))
    # What the first of two passes leaves for the second, unrounded.
    parts = [torch.empty_like(x, dtype=torch.float32) if len(passes) == 2 else x for x in (dq, dk)]
    for number, (columns, skip_self) in enumerate(passes, start=1):
        q_strides, k_strides, v_strides, grad_strides = (_strides(x, columns) for x in (q, k, v, grad))
        _launch(
            _values_line,
            *(v.shape, columns, q, k, grad, grad_v_BHWC, lse),
            *(q_strides, k_strides, grad_strides, _strides(grad_v_BHWC, columns)),
            SKIP_SELF=skip_self,
            **_tiles(q, v, columns),
        )
        from_query = (q, grad), (q_strides, grad_strides)
        from_key = (k, v), (k_strides, v_strides)
        for own, other, part, result in ((from_query, from_key, parts[0], dq), (from_key, from_query, parts[1], dk)):
            _launch(
                _logits_line,
                *(v.shape, columns, *own[0], *other[0], lse, delta, part, result if number == len(passes) else part),
                *(*own[1], *other[1]),
                OF_KEYS=result is dk,
                ADD=number == 2,
                SKIP_SELF=skip_self,
                **_tiles(q, v, columns, for_logits=True),
            )
    return dq, dk


def _passes(axis: str, height: int) -> list[tuple[bool, bool]]:
    """(along columns?, without the position itself?) of each pass, in order."""
    if axis == "both":
        # A column of one has nobody but the position itself, whom the row counts.
        return [(False, False)] if height == 1 else [(True, True), (False, False)]
    return [(axis == "column", False)]


def _rows_of_channels(*tensors: Tensor) -> list[Tensor]:
    """The tensors [..., channels] with neighbouring channels next to each other: themselves, or copies."""
    return [x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous() for x in tensors]


def _strides(x: Tensor, columns: bool) -> tuple[int, int, int]:
    """Strides of [B, H, W, ...]: of a picture, from line to line, along a line."""
    picture, down, right = x.stride()[:3]
    return (picture, right, down) if columns else (picture, down, right)


def _power_of_two(size: int, low: int, high: int) -> int:
    """The smallest power of two that holds `size`, kept between two others. `tl.dot` takes 16 and more."""
    return min(max(1 << (size - 1).bit_length(), low), high)


def _tiles(q_BHWD: Tensor, v_BHWC: Tensor, columns: bool, for_logits: bool = False) -> dict[str, Any]:
    """Sizes for a kernel: a function of dtype, channels and length of the lines; nothing is tuned at run time.

    With the published channels (64 and 512) no register is spilled; shared memory stays below 99 KiB, which all have.
    """
    full = q_BHWD.dtype == torch.float32
    # Follows torch.backends.cuda.matmul.allow_tf32 too, and unlike that it may always be read.
    exact = full and torch.backends.cuda.matmul.fp32_precision != "tf32"
    inner, channels = q_BHWD.shape[-1], v_BHWC.shape[-1]
    block = _power_of_two(v_BHWC.shape[1 if columns else 2], 16, 32 if full else 64)
    # `_logits_line` holds two tiles of channels. Exact products fill registers, so there it has no second stage.
    most_channels = (32 if full and not exact else 64) if for_logits else (64 if full else 128)
    return {
        "D": inner,
        "C": channels,
        "BLOCK": block,
        "BLOCK_D": _power_of_two(inner, 16, MAX_INNER),
        "BLOCK_C": _power_of_two(channels, 16, most_channels),
        "PRECISION": "ieee" if exact or not full else "tf32",
        "num_warps": (4 if full else block // 16) * (1 if inner <= 64 else 2),
        # Wide keys fill shared memory without a second stage.
        "num_stages": 1 if inner > 128 or (exact and for_logits) else 2,
        # Triton is about to change its default.
        "enable_fp_fusion": True,
    }


def _launch(kernel: Any, shape: torch.Size, columns: bool, *arguments: Any, **constants: Any) -> None:
    """Runs `kernel` for values of a shape [B, H, W, C], all columns or all rows of them.

    There is a program for each block of channels (`_logits_line` needs all of them) of each block of positions of each
    line, the first varying fastest: programs that share a line, and so what they read, run next to each other.
    """
    batch, height, width, channels = shape
    outer, length = (width, height) if columns else (height, width)
    channel_blocks = 1 if kernel is _logits_line else triton.cdiv(channels, constants["BLOCK_C"])
    grid = (channel_blocks * triton.cdiv(length, constants["BLOCK"]) * batch * outer,)
    device = arguments[0].device
    # Triton launches on the current device, whichever the tensors are on.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*arguments, outer, length, COLUMNS=columns, **constants)


# The kernels. Tensors come as pointers with three strides each (of a picture, from line to line, along a line) and
# channels next to each other; those that we make ourselves are contiguous and need none. All offsets of positions are
# 64-bit: B H W C may exceed 2^31.


@_jit
def _line_of(pointer, strides, picture, line):
    """Where a line of a picture starts."""
    return pointer + picture * strides[0] + line * strides[1]


@_jit
def _tile(start, along, m, length, c, WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr):
    """[M, C] values of positions m and channels c of a line that starts at a pointer; 0 past the ends."""
    pointers = start + m.to(tl.int64)[:, None] * along + c[None, :]
    inside = (m < length)[:, None]
    if WIDTH % BLOCK_WIDTH != 0:
        inside = inside & (c < WIDTH)[None, :]
    return tl.load(pointers, mask=inside, other=0.0)


@_jit
def _place(picture, line, m, outer, length, COLUMNS: tl.constexpr):
    """Where positions m of a line stand in a contiguous [B, H, W]."""
    if COLUMNS:
        inside = m.to(tl.int64) * outer + line
    else:
        inside = line * length + m
    return picture * outer * length + inside


@_jit
def _hide(logits_MN, m, n, length, SKIP_SELF: tl.constexpr):
    """-inf past the end of the line and, if asked, at the position itself."""
    seen = (n < length)[None, :]
    if SKIP_SELF:
        seen = seen & (m[:, None] != n[None, :])
    return tl.where(seen, logits_MN, float("-inf"))


@_jit
def _my_share(outer, length, BLOCK: tl.constexpr, CHANNEL_BLOCKS: tl.constexpr):
    """What this program owns: a picture, one of its lines, positions m of the line and a block of channels."""
    program = tl.program_id(0)
    channel_block = program % CHANNEL_BLOCKS
    program = program // CHANNEL_BLOCKS
    blocks = tl.cdiv(length, BLOCK)
    m = program % blocks * BLOCK + tl.arange(0, BLOCK)
    program = program // blocks
    return (program // outer).to(tl.int64), (program % outer).to(tl.int64), m, channel_block


@_jit
def _attend_line(
    q,
    k,
    v,
    out,
    lse,
    top,
    mass,
    q_strides,
    k_strides,
    v_strides,
    outer,
    length,
    D: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
    GO_ON: tl.constexpr,
    LAST: tl.constexpr,
    SKIP_SELF: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The softmax of a line; if GO_ON, of one that another launch began; if not LAST, for another to go on from."""
    picture, line, m, channel_block = _my_share(outer, length, BLOCK, tl.cdiv(C, BLOCK_C))
    d = tl.arange(0, BLOCK_D)
    c = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)
    k = _line_of(k, k_strides, picture, line)
    v = _line_of(v, v_strides, picture, line)
    q_MD = _tile(_line_of(q, q_strides, picture, line), q_strides[2], m, length, d, D, BLOCK_D)
    place_M = _place(picture, line, m, outer, length, COLUMNS)
    out_MC = out + place_M[:, None] * C + c[None, :]
    own_MC = (m < length)[:, None] & (c < C)[None, :]
    # `top` is the largest logit so far, `mass` and `sum` those of exp(logit - top) and of exp(logit - top) v.
    if GO_ON:
        top_M = tl.load(top + place_M, mask=m < length, other=0.0)
        mass_M = tl.load(mass + place_M, mask=m < length, other=1.0)
        sum_MC = tl.load(out_MC, mask=own_MC, other=0.0).to(tl.float32) * mass_M[:, None]
    else:
        top_M = tl.full([BLOCK], float("-inf"), tl.float32)
        mass_M = tl.zeros([BLOCK], tl.float32)
        sum_MC = tl.zeros([BLOCK, BLOCK_C], tl.float32)
    for start in range(0, length, BLOCK):
        n = start + tl.arange(0, BLOCK)
        k_ND = _tile(k, k_strides[2], n, length, d, D, BLOCK_D)
        logits_MN = _hide(tl.dot(q_MD, tl.trans(k_ND), input_precision=PRECISION), m, n, length, SKIP_SELF)
        # Every line's first block shows somebody, so `top` is finite from here on.
        new_top_M = tl.maximum(top_M, tl.max(logits_MN, 1))
        weights_MN = tl.exp(logits_MN - new_top_M[:, None])
        fade_M = tl.exp(top_M - new_top_M)
        mass_M = mass_M * fade_M + tl.sum(weights_MN, 1)
        v_NC = _tile(v, v_strides[2], n, length, c, C, BLOCK_C)
        sum_MC = tl.dot(weights_MN.to(v_NC.dtype), v_NC, sum_MC * fade_M[:, None], input_precision=PRECISION)
        top_M = new_top_M
    tl.store(out_MC, (sum_MC / mass_M[:, None]).to(out.dtype.element_ty), mask=own_MC)
    if channel_block == 0:
        if LAST:
            tl.store(lse + place_M, top_M + tl.log(mass_M), mask=m < length)
        else:
            # Both, since a large logarithm of the mass would round what is added to it.
            tl.store(top + place_M, top_M, mask=m < length)
            tl.store(mass + place_M, mass_M, mask=m < length)


@_jit
def _values_line(
    q,
    k,
    grad,
    grad_v,
    lse,
    q_strides,
    k_strides,
    grad_strides,
    grad_v_strides,
    outer,
    length,
    D: tl.constexpr,
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
    SKIP_SELF: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Adds the values' gradient of a line to grad_v: M are keys, N queries."""
    picture, line, m, channel_block = _my_share(outer, length, BLOCK, tl.cdiv(C, BLOCK_C))
    d = tl.arange(0, BLOCK_D)
    c = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)
    q = _line_of(q, q_strides, picture, line)
    grad = _line_of(grad, grad_strides, picture, line)
    k_MD = _tile(_line_of(k, k_strides, picture, line), k_strides[2], m, length, d, D, BLOCK_D)
    sum_MC = tl.zeros([BLOCK, BLOCK_C], tl.float32)
    for start in range(0, length, BLOCK):
        n = start + tl.arange(0, BLOCK)
        q_ND = _tile(q, q_strides[2], n, length, d, D, BLOCK_D)
        lse_N = tl.load(lse + _place(picture, line, n, outer, length, COLUMNS), mask=n < length, other=0.0)
        logits_MN = _hide(tl.dot(k_MD, tl.trans(q_ND), input_precision=PRECISION), m, n, length, SKIP_SELF)
        weights_MN = tl.exp(logits_MN - lse_N[None, :])
        grad_NC = _tile(grad, grad_strides[2], n, length, c, C, BLOCK_C)
        sum_MC = tl.dot(weights_MN.to(grad_NC.dtype), grad_NC, sum_MC, input_precision=PRECISION)
    start_MC = _line_of(grad_v, grad_v_strides, picture, line) + m.to(tl.int64)[:, None] * grad_v_strides[2]
    own_MC = (m < length)[:, None] & (c < C)[None, :]
    sum_MC += tl.load(start_MC + c[None, :], mask=own_MC, other=0.0).to(tl.float32)
    tl.store(start_MC + c[None, :], sum_MC.to(grad_v.dtype.element_ty), mask=own_MC)


@_jit
def _logits_line(
    own,
    own_wide,
    other,
    other_wide,
    lse,
    delta,
    part,
    result,
    own_strides,
    own_wide_strides,
    other_strides,
    other_wide_strides,
    outer,
    length,
    D: tl.constexpr,
    C: tl.constexpr,
    OF_KEYS: tl.constexpr,
    ADD: tl.constexpr,
    COLUMNS: tl.constexpr,
    SKIP_SELF: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The gradient that passes through the logits: of a line's queries or, OF_KEYS, of its keys, plus `part` if ADD.

    M are those that get the gradient, N those on the other side of the logit. Queries come with grad, keys with v.
    """
    picture, line, m, _ = _my_share(outer, length, BLOCK, 1)
    d = tl.arange(0, BLOCK_D)
    own_wide = _line_of(own_wide, own_wide_strides, picture, line)
    other = _line_of(other, other_strides, picture, line)
    other_wide = _line_of(other_wide, other_wide_strides, picture, line)
    own_MD = _tile(_line_of(own, own_strides, picture, line), own_strides[2], m, length, d, D, BLOCK_D)
    place_M = _place(picture, line, m, outer, length, COLUMNS)
    lse_M = tl.load(lse + place_M, mask=m < length, other=0.0)
    delta_M = tl.load(delta + place_M, mask=m < length, other=0.0)
    sum_MD = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    for start in range(0, length, BLOCK):
        n = start + tl.arange(0, BLOCK)
        slope_MN = tl.zeros([BLOCK, BLOCK], tl.float32)
        for first in range(0, C, BLOCK_C):
            c = first + tl.arange(0, BLOCK_C)
            own_MC = _tile(own_wide, own_wide_strides[2], m, length, c, C, BLOCK_C)
            other_NC = _tile(other_wide, other_wide_strides[2], n, length, c, C, BLOCK_C)
            slope_MN = tl.dot(own_MC, tl.trans(other_NC), slope_MN, input_precision=PRECISION)
        other_ND = _tile(other, other_strides[2], n, length, d, D, BLOCK_D)
        logits_MN = _hide(tl.dot(own_MD, tl.trans(other_ND), input_precision=PRECISION), m, n, length, SKIP_SELF)
        if OF_KEYS:
            place_N = _place(picture, line, n, outer, length, COLUMNS)
            lse_N = tl.load(lse + place_N, mask=n < length, other=0.0)
            delta_N = tl.load(delta + place_N, mask=n < length, other=0.0)
            slope_MN = tl.exp(logits_MN - lse_N[None, :]) * (slope_MN - delta_N[None, :])
        else:
            slope_MN = tl.exp(logits_MN - lse_M[:, None]) * (slope_MN - delta_M[:, None])
        sum_MD = tl.dot(slope_MN.to(other_ND.dtype), other_ND, sum_MD, input_precision=PRECISION)
    place_MD = place_M[:, None] * D + d[None, :]
    inside_MD = (m < length)[:, None] & (d < D)[None, :]
    if ADD:
        sum_MD += tl.load(part + place_MD, mask=inside_MD, other=0.0)
    tl.store(result + place_MD, sum_MD.to(result.dtype.element_ty), mask=inside_MD)
