"""Criss-cross attention in Triton: launches of the kernels in kernels.py, for all columns and then for all rows.

No logit reaches memory. Forward: the column pass writes its softmax as an output, a maximum and a sum, and the row pass
continues it; the position itself is masked in the column, so that it counts once. Backward: the logits are computed
again from the stored log-sum-exp, and each gradient tile belongs to one program, so equal inputs give equal bits. A
clip is a map of frames below each other, [B, T H, W]; its time lines, the columns of [B, T, H W], come first.

Shape suffixes: B batch, H height, W width, D query and key channels, C value channels.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crisscross.ops.kernels import MISSING, attend_line, gain_of_positions, logits_line, triton, values_line

MAX_INNER = 256
# Channels come in multiples of this.
ALIGNMENT = 16


def _interpreted() -> bool:
    return not isinstance(attend_line, triton.JITFunction)


def why_not(q: Tensor, v: Tensor) -> str | None:
    """The reason why these kernels cannot run on queries like q [B, H, W, D] and values like v [B, H, W, C]."""
    if triton is None:
        return MISSING
    if q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"needs float32, float16 or bfloat16, got {q.dtype}"
    if q.shape[-1] > MAX_INNER:
        return f"takes up to {MAX_INNER} query channels, got {q.shape[-1]}"
    if not q.numel() or not v.numel():
        return "there is nothing to compute in empty tensors"
    if _interpreted() and q.device.type == "cpu":
        return "Triton's interpreter computes bfloat16 wrongly" if q.dtype == torch.bfloat16 else None
    if q.device.type != "cuda":
        return f"needs a CUDA device, got {q.device} (TRITON_INTERPRET=1 emulates one on a CPU)"
    if torch.version.hip is not None:
        return "it is not tested on AMD GPUs"
    if torch.cuda.get_device_capability(q.device) < (8, 0):
        return "needs an NVIDIA GPU of compute capability 8.0 or above"
    return None


def forward(
    q_BHWD: Tensor, k_BHWD: Tensor, v_BHWC: Tensor, axis: str = "both", frames: int = 1
) -> tuple[Tensor, Tensor]:
    """Attention along columns and rows, itself once (`both`), or along one of them.

    Args:
        q_BHWD: queries [B, H, W, D], channels next to each other in memory, else any strides.
        k_BHWD: keys [B, H, W, D], likewise.
        v_BHWC: values [B, H, W, C], likewise.
        axis: `both`, `row` (the W positions of the row) or `column` (the H positions of the column).
        frames: with more than 1, that many of them stand below each other, and the axis is `both`.

    Returns:
        Output [B, H, W, C], contiguous, in the dtype of the values, and the log-sum-exp [B, H, W], float32, over all
        logits of a position.
    """
    if not (_is_aligned(q_BHWD) and _is_aligned(v_BHWC)):
        q, k, v = map(_aligned, (q_BHWD, k_BHWD, v_BHWC))
        out, lse = forward(q, k, v, axis, frames)
        return out[..., : v_BHWC.shape[-1]].contiguous(), lse
    tensors = _in_rows(frames, q_BHWD, k_BHWD, v_BHWC)
    passes = _passes(axis, v_BHWC.shape[1], frames)
    out = torch.empty(v_BHWC.shape, dtype=v_BHWC.dtype, device=v_BHWC.device)
    buffers = 5 if len(passes) > 2 else 3
    lse, *stats = (torch.empty(out.shape[:3], dtype=torch.float32, device=out.device) for _ in range(buffers))
    # A pass between two others may not overwrite what it continues: programs that share positions read it, too.
    before, after = stats[:2], stats[-2:]
    for number, each in enumerate(passes, start=1):
        before, after = after, before
        q, k, v = map(each.view, tensors)
        _launch(
            attend_line,
            *(q, v, each.columns),
            *(q, k, v, out, lse, *before, *after),
            *(_strides(x, each.columns) for x in (q, k, v)),
            GO_ON=number > 1,
            LAST=number == len(passes),
            SKIP_SELF=each.skip_self,
        )
    return out, lse


def backward(
    grad_BHWC: Tensor,
    q_BHWD: Tensor,
    k_BHWD: Tensor,
    v_BHWC: Tensor,
    out_BHWC: Tensor,
    lse_BHW: Tensor,
    axis: str,
    grad_v_BHWC: Tensor,
    frames: int = 1,
) -> tuple[Tensor, Tensor]:
    """Gradients of `forward`.

    Args:
        grad_BHWC: gradient of the output [B, H, W, C].
        q_BHWD: queries [B, H, W, D].
        k_BHWD: keys [B, H, W, D].
        v_BHWC: values [B, H, W, C].
        out_BHWC: the output [B, H, W, C] of `forward`.
        lse_BHW: log-sum-exp [B, H, W] from `forward`, float32.
        axis: as given to `forward`.
        grad_v_BHWC: [B, H, W, C], any dtype; the gradient of the values is added to it in place.
        frames: as given to `forward`.

    Returns:
        Gradients of the queries and of the keys [B, H, W, D], contiguous, in their dtype.
    """
    tensors = _in_rows(frames, grad_BHWC, q_BHWD, k_BHWD, v_BHWC)
    if _in_rows(frames, grad_v_BHWC)[0] is not grad_v_BHWC:
        raise ValueError(f"grad_v must have channels next to each other in memory, got strides {grad_v_BHWC.stride()}")
    if not (_is_aligned(q_BHWD) and _is_aligned(v_BHWC)):
        grad, q, k, v, out, grad_v = map(_aligned, (*tensors, out_BHWC, grad_v_BHWC))
        dq, dk = backward(grad, q, k, v, out, lse_BHW, axis, grad_v, frames)
        grad_v_BHWC.copy_(grad_v[..., : v_BHWC.shape[-1]])
        return dq[..., : q_BHWD.shape[-1]].contiguous(), dk[..., : q_BHWD.shape[-1]].contiguous()
    lse, delta = lse_BHW.contiguous(), _gain(grad_BHWC.contiguous(), out_BHWC.contiguous())
    passes = _passes(axis, v_BHWC.shape[1], frames)
    dq, dk = (torch.empty(q_BHWD.shape, dtype=q_BHWD.dtype, device=q_BHWD.device) for _ in range(2))
    # Partial sums for the next pass, unrounded.
    parts = [torch.empty_like(x, dtype=torch.float32) if len(passes) > 1 else x for x in (dq, dk)]
    for number, each in enumerate(passes, start=1):
        columns = each.columns
        grad, q, k, v, grad_v = map(each.view, (*tensors, grad_v_BHWC))
        q_strides, k_strides, v_strides, grad_strides = (_strides(x, columns) for x in (q, k, v, grad))
        _launch(
            values_line,
            *(q, v, columns),
            *(q, k, grad, grad_v, lse),
            *(q_strides, k_strides, grad_strides, _strides(grad_v, columns)),
            SKIP_SELF=each.skip_self,
        )
        from_query = (q, grad), (q_strides, grad_strides)
        from_key = (k, v), (k_strides, v_strides)
        for own, other, part, result in ((from_query, from_key, parts[0], dq), (from_key, from_query, parts[1], dk)):
            _launch(
                logits_line,
                *(q, v, columns),
                *(*own[0], *other[0], lse, delta, part, result if number == len(passes) else part),
                *(*own[1], *other[1]),
                OF_KEYS=result is dk,
                ADD=number > 1,
                SKIP_SELF=each.skip_self,
            )
    return dq, dk


def _is_aligned(x: Tensor) -> bool:
    return x.shape[-1] % ALIGNMENT == 0


def _aligned(x: Tensor) -> Tensor:
    """A contiguous copy of x with zeros behind its last channel, up to a multiple of `ALIGNMENT`."""
    return functional.pad(x.contiguous(), (0, -x.shape[-1] % ALIGNMENT))


def _gain(grad_BHWC: Tensor, out_BHWC: Tensor) -> Tensor:
    """(grad * out) summed over channels, [B, H, W] in float32: what `logits_line` calls delta."""
    gain = torch.empty(out_BHWC.shape[:3], dtype=torch.float32, device=out_BHWC.device)
    tiles = {"BLOCK": 16, "BLOCK_C": _power_of_two(out_BHWC.shape[-1], 16, 256), "num_warps": 4}
    with _on(out_BHWC.device):
        grid = (triton.cdiv(gain.numel(), tiles["BLOCK"]),)
        gain_of_positions[grid](grad_BHWC, out_BHWC, gain, gain.numel(), C=out_BHWC.shape[-1], **tiles)
    return gain


class _Pass(NamedTuple):
    """Attention along columns or rows, with the position itself or without; `time`: along the time lines of a clip."""

    columns: bool
    skip_self: bool
    frames: int = 1
    time: bool = False

    def view(self, x: Tensor) -> Tensor:
        """x as a map [B, H, W, ...] whose columns or rows are the lines of this pass."""
        if self.frames == 1:
            return x
        batch, rows, width = x.shape[:3]
        if self.time:
            return x.view(batch, self.frames, rows // self.frames * width, *x.shape[3:])
        return x.view(batch * self.frames, rows // self.frames, width, *x.shape[3:])


def _passes(axis: str, rows: int, frames: int) -> list[_Pass]:
    """The passes in order, for `rows` rows of all frames together."""
    if axis != "both":
        return [_Pass(axis == "column", skip_self=False)]
    passes = [_Pass(True, skip_self=True, frames=frames, time=True)] if frames > 1 else []
    # A column of one holds the position itself alone, which the row counts.
    if rows > frames:
        passes.append(_Pass(True, skip_self=True, frames=frames))
    return [*passes, _Pass(False, skip_self=False)]


def _in_rows(frames: int, *tensors: Tensor) -> list[Tensor]:
    """The tensors [B, H, W, channels] with neighboring channels next to each other: themselves, or copies.

    With several frames, images are as far apart as their rows say, and rows as their positions say.
    """

    def fits(x: Tensor) -> bool:
        steady = all(x.stride(i) == x.shape[i + 1] * x.stride(i + 1) for i in range(2 if frames > 1 else 0))
        return steady and (x.stride(-1) == 1 or x.shape[-1] == 1)

    return [x if fits(x) else x.contiguous() for x in tensors]


def _strides(x: Tensor, columns: bool) -> tuple[int, int, int]:
    """Strides of [B, H, W, ...]: of an image, from line to line, along a line."""
    image, down, right = x.stride()[:3]
    return (image, right, down) if columns else (image, down, right)


def _power_of_two(size: int, low: int, high: int) -> int:
    """The smallest power of two that is at least `size`, between two limits. `tl.dot` takes 16 and more."""
    return min(max(1 << (size - 1).bit_length(), low), high)


def _tiles(q_BHWD: Tensor, v_BHWC: Tensor, columns: bool, for_logits: bool) -> dict[str, Any]:
    """Tile sizes for a kernel, by dtype, channels, length of the lines and chip; nothing is tuned at run time.

    With the published channels (64 and 512) shared memory stays below 99 KiB, which all have.
    """
    full = q_BHWD.dtype == torch.float32
    # Follows torch.backends.cuda.matmul.allow_tf32 too, and unlike that it may always be read.
    exact = full and torch.backends.cuda.matmul.fp32_precision != "tf32"
    inner, channels = q_BHWD.shape[-1], v_BHWC.shape[-1]
    # Compute capabilities 9.0 and 10.0 multiply by groups of four warps, out of shared memory. The others keep their
    # operands in registers and need more warps to share them, and those with 99 KiB narrower tiles of wide keys.
    chip = 9 if _interpreted() else triton.runtime.driver.active.get_current_target().arch // 10
    by_groups, narrow = chip in (9, 10), inner <= 64
    # Measured on an H200, where these beat smaller ones by 10 to 40 %.
    roomy = chip == 9 and narrow
    if for_logits:
        # `logits_line` holds two tiles of channels, and a product as wide as the line.
        longest = 32 if (full and not roomy) or (inner > 128 and not by_groups) else 64
        most_channels = 32 if full and (narrow or not exact) else 64
    else:
        longest, most_channels = (32, 128 if roomy else 64) if full else (64, 256 if roomy else 128)
    # Three TF32 products in place of a float32 one are exact to 22 bits, and run on tensor cores. Wide keys leave no
    # registers for their parts.
    precision = "ieee" if not full or (exact and not narrow) else "tf32x3" if exact else "tf32"
    stages = 3 if for_logits and roomy and not full else 2
    block = _power_of_two(v_BHWC.shape[1 if columns else 2], 16, longest)
    return {
        "D": inner,
        "C": channels,
        "BLOCK": block,
        "BLOCK_D": _power_of_two(inner, 16, MAX_INNER),
        "BLOCK_C": _power_of_two(channels, 16, most_channels),
        "PRECISION": precision,
        "num_warps": (4 if full else block // 16) * (1 if narrow and (full or by_groups) else 2),
        # Wide keys fill shared memory without a second stage; float32 products of theirs fill registers.
        "num_stages": 1 if inner > 128 or (precision == "ieee" and full and for_logits) else stages,
        # The default differs among versions of Triton.
        "enable_fp_fusion": True,
    }


def _smaller(tiles: dict[str, Any]) -> dict[str, Any] | None:
    """Tiles that take less shared memory, None if there are none."""
    if tiles["num_stages"] > 1:
        return tiles | {"num_stages": 1}
    size = "BLOCK_C" if tiles["BLOCK_C"] >= tiles["BLOCK"] else "BLOCK"
    return tiles | {size: tiles[size] // 2} if tiles[size] > 16 else None


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device, whichever the tensors are on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


# Tiles that a chip had no memory for -> those that it took, by kernel and device.
_FITTING: dict[tuple[Any, ...], dict[str, Any]] = {}


def _launch(kernel: Any, q_BHWD: Tensor, v_BHWC: Tensor, columns: bool, *arguments: Any, **constants: Any) -> None:
    """Runs `kernel` for queries and values of these shapes, all columns or all rows of them.

    There is a program for each block of channels (`logits_line` needs all of them) of each block of positions of each
    line, the first varying fastest: programs that share a line, and so what they read, run next to each other. Where
    the chip lacks the memory for the tiles, smaller ones are taken.
    """
    batch, height, width, channels = v_BHWC.shape
    outer, length = (width, height) if columns else (height, width)
    device, for_logits = v_BHWC.device, kernel is logits_line
    with _on(device):
        wanted = _tiles(q_BHWD, v_BHWC, columns, for_logits)
        key = (kernel, device, *wanted.values())
        tiles: dict[str, Any] | None = _FITTING.get(key, wanted)
        while tiles is not None:
            channel_blocks = 1 if for_logits else triton.cdiv(channels, tiles["BLOCK_C"])
            grid = (channel_blocks * triton.cdiv(length, tiles["BLOCK"]) * batch * outer,)
            try:
                kernel[grid](*arguments, outer, length, COLUMNS=columns, **constants, **tiles)
                return
            except triton.OutOfResources:
                smaller = _smaller(tiles)
                if smaller is None:
                    raise
                tiles = _FITTING[key] = smaller
