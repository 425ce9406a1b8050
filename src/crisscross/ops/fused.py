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
from crisscross.ops.tiles import MAX_INNER, power_of_two, sizes, smaller

# Channels come in multiples of this.
ALIGNMENT = 16


def _interpreted() -> bool:
    return not isinstance(attend_line, triton.JITFunction)


def _chip() -> int:
    """The compute capability's whole part; the interpreter counts as 9."""
    return 9 if _interpreted() else int(triton.runtime.driver.active.get_current_target().arch) // 10


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
        frames: as in `forward`.

    Returns:
        Gradients of the queries and of the keys [B, H, W, D], contiguous, in their dtype.
    """
    if _in_rows(frames, grad_v_BHWC)[0] is not grad_v_BHWC:
        raise ValueError(f"grad_v must have channels next to each other in memory, got strides {grad_v_BHWC.stride()}")
    if _is_aligned(q_BHWD) and _is_aligned(v_BHWC):
        return _backward(grad_BHWC, q_BHWD, k_BHWD, v_BHWC, out_BHWC, lse_BHW, axis, grad_v_BHWC, frames)
    grad, q, k, v, out, grad_v = map(_aligned, (grad_BHWC, q_BHWD, k_BHWD, v_BHWC, out_BHWC, grad_v_BHWC))
    found = _backward(grad, q, k, v, out, lse_BHW, axis, grad_v, frames)
    grad_v_BHWC.copy_(grad_v[..., : v_BHWC.shape[-1]])
    dq, dk = (x[..., : q_BHWD.shape[-1]].contiguous() for x in found)
    return dq, dk


def _backward(
    grad_BHWC: Tensor,
    q_BHWD: Tensor,
    k_BHWD: Tensor,
    v_BHWC: Tensor,
    out_BHWC: Tensor,
    lse_BHW: Tensor,
    axis: str,
    grad_v_BHWC: Tensor,
    frames: int,
) -> tuple[Tensor, Tensor]:
    """`backward` of aligned channels."""
    tensors = _in_rows(frames, grad_BHWC, q_BHWD, k_BHWD, v_BHWC)
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
        query, key = ((q, grad), (q_strides, grad_strides)), ((k, v), (k_strides, v_strides))
        for own, other, part, result in ((query, key, parts[0], dq), (key, query, parts[1], dk)):
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
    tiles = {"BLOCK": 16, "BLOCK_C": power_of_two(out_BHWC.shape[-1], 16, 256), "num_warps": 4}
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
        wanted = sizes(q_BHWD, v_BHWC, columns, for_logits, _chip())
        key = (kernel, device, *wanted.values())
        tiles: dict[str, Any] | None = _FITTING.get(key, wanted)
        while tiles is not None:
            channel_blocks = 1 if for_logits else triton.cdiv(channels, tiles["BLOCK_C"])
            grid = (channel_blocks * triton.cdiv(length, tiles["BLOCK"]) * batch * outer,)
            try:
                kernel[grid](*arguments, outer, length, COLUMNS=columns, **constants, **tiles)
                return
            except triton.OutOfResources:
                less = smaller(tiles)
                if less is None:
                    raise
                tiles = _FITTING[key] = less
