"""The Triton kernels of criss-cross attention: a program computes some positions of one line. fused.py launches them.

Shape suffixes: in kernels, D query and key channels, C a block of the value channels, M the positions of a line that a
program computes, N those it loops over.
"""

# Kernels have no types: Triton reads annotations itself.
# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["MISSING", "attend_line", "gain_of_positions", "logits_line", "triton", "values_line"]

MISSING = ""
try:
    import triton
    import triton.language as tl
except ImportError as error:  # no wheels for macOS and Windows
    triton = None
    MISSING = f"triton cannot be imported ({error})"


def _jit(function: Callable[..., Any]) -> Any:
    """`triton.jit`, or nothing without Triton, so that this file can be imported anywhere."""
    if triton is None:
        return function
    # One compiled kernel serves lines of any length.
    return triton.jit(function, do_not_specialize=["outer", "length"])


# The kernels. Tensors come as pointers with three strides each (of an image, from line to line, along a line) and
# channels next to each other; those that we make ourselves are contiguous and need none. All offsets of positions are
# 64-bit: B H W C may exceed 2^31.


@_jit
def _line_of(pointer, strides, image, line):
    """The pointer to the start of a line of an image."""
    return pointer + image * strides[0] + line * strides[1]


@_jit
def _tile(start, along, m, length, c, WIDTH: tl.constexpr, BLOCK_WIDTH: tl.constexpr):
    """[M, C] values of positions m and channels c of a line that starts at a pointer; 0 past the ends."""
    pointers = start + m.to(tl.int64)[:, None] * along + c[None, :]
    inside = (m < length)[:, None]
    if WIDTH % BLOCK_WIDTH != 0:
        inside = inside & (c < WIDTH)[None, :]
    return tl.load(pointers, mask=inside, other=0.0)


@_jit
def _place(image, line, m, outer, length, COLUMNS: tl.constexpr):
    """Offsets of positions m of a line in a contiguous [B, H, W]."""
    if COLUMNS:
        inside = m.to(tl.int64) * outer + line
    else:
        inside = line * length + m
    return image * outer * length + inside


@_jit
def _hide(logits_MN, m, n, length, SKIP_SELF: tl.constexpr):
    """-inf past the end of the line and, with SKIP_SELF, at the position itself."""
    seen = (n < length)[None, :]
    if SKIP_SELF:
        seen = seen & (m[:, None] != n[None, :])
    return tl.where(seen, logits_MN, float("-inf"))


@_jit
def _own_part(outer, length, BLOCK: tl.constexpr, CHANNEL_BLOCKS: tl.constexpr):
    """What this program computes: an image, one of its lines, positions m of the line and a block of channels."""
    program = tl.program_id(0)
    channel_block = program % CHANNEL_BLOCKS
    program = program // CHANNEL_BLOCKS
    blocks = tl.cdiv(length, BLOCK)
    m = program % blocks * BLOCK + tl.arange(0, BLOCK)
    program = program // blocks
    return (program // outer).to(tl.int64), (program % outer).to(tl.int64), m, channel_block


@_jit
def attend_line(
    q,
    k,
    v,
    out,
    lse,
    top,
    mass,
    next_top,
    next_mass,
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
    """The softmax of a line; if GO_ON, continues that of a launch before; if not LAST, stores it for the next."""
    image, line, m, channel_block = _own_part(outer, length, BLOCK, tl.cdiv(C, BLOCK_C))
    d = tl.arange(0, BLOCK_D)
    c = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)
    k = _line_of(k, k_strides, image, line)
    v = _line_of(v, v_strides, image, line)
    q_MD = _tile(_line_of(q, q_strides, image, line), q_strides[2], m, length, d, D, BLOCK_D)
    place_M = _place(image, line, m, outer, length, COLUMNS)
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
        # The first block of every line has an unmasked position, so `top` is finite from here on.
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
            # Separately, since a large log-sum-exp would round what is added to it.
            tl.store(next_top + place_M, top_M, mask=m < length)
            tl.store(next_mass + place_M, mass_M, mask=m < length)


@_jit
def gain_of_positions(grad, out, gain, length, C: tl.constexpr, BLOCK: tl.constexpr, BLOCK_C: tl.constexpr):
    """(grad * out) summed over the channels of each of `length` positions; all are contiguous."""
    m = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    products_MC = tl.zeros([BLOCK, BLOCK_C], tl.float32)
    for first in range(0, C, BLOCK_C):
        c = first + tl.arange(0, BLOCK_C)
        grad_MC = _tile(grad, C, m, length, c, C, BLOCK_C).to(tl.float32)
        products_MC += grad_MC * _tile(out, C, m, length, c, C, BLOCK_C).to(tl.float32)
    tl.store(gain + m, tl.sum(products_MC, 1), mask=m < length)


@_jit
def values_line(
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
    image, line, m, channel_block = _own_part(outer, length, BLOCK, tl.cdiv(C, BLOCK_C))
    d = tl.arange(0, BLOCK_D)
    c = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)
    q = _line_of(q, q_strides, image, line)
    grad = _line_of(grad, grad_strides, image, line)
    k_MD = _tile(_line_of(k, k_strides, image, line), k_strides[2], m, length, d, D, BLOCK_D)
    sum_MC = tl.zeros([BLOCK, BLOCK_C], tl.float32)
    for start in range(0, length, BLOCK):
        n = start + tl.arange(0, BLOCK)
        q_ND = _tile(q, q_strides[2], n, length, d, D, BLOCK_D)
        lse_N = tl.load(lse + _place(image, line, n, outer, length, COLUMNS), mask=n < length, other=0.0)
        logits_MN = _hide(tl.dot(k_MD, tl.trans(q_ND), input_precision=PRECISION), m, n, length, SKIP_SELF)
        weights_MN = tl.exp(logits_MN - lse_N[None, :])
        grad_NC = _tile(grad, grad_strides[2], n, length, c, C, BLOCK_C)
        sum_MC = tl.dot(weights_MN.to(grad_NC.dtype), grad_NC, sum_MC, input_precision=PRECISION)
    start_MC = _line_of(grad_v, grad_v_strides, image, line) + m.to(tl.int64)[:, None] * grad_v_strides[2]
    own_MC = (m < length)[:, None] & (c < C)[None, :]
    sum_MC += tl.load(start_MC + c[None, :], mask=own_MC, other=0.0).to(tl.float32)
    tl.store(start_MC + c[None, :], sum_MC.to(grad_v.dtype.element_ty), mask=own_MC)


@_jit
def logits_line(
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
    image, line, m, _ = _own_part(outer, length, BLOCK, 1)
    d = tl.arange(0, BLOCK_D)
    own_wide = _line_of(own_wide, own_wide_strides, image, line)
    other = _line_of(other, other_strides, image, line)
    other_wide = _line_of(other_wide, other_wide_strides, image, line)
    own_MD = _tile(_line_of(own, own_strides, image, line), own_strides[2], m, length, d, D, BLOCK_D)
    place_M = _place(image, line, m, outer, length, COLUMNS)
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
            place_N = _place(image, line, n, outer, length, COLUMNS)
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
