"""The backend `eager`: a few lines (columns or rows) at a time, any device and dtype, without autograd.

Both branches are batched matrix products over lines, first all columns, then all rows. The column branch stores its own
softmax and statistics, and the row branch merges them with its own: no map of H x W x (H + W) is ever held. A chunk of
lines fits a processor's cache, so forward takes a few MiB beyond the result; backward holds one number for every logit
of the columns, [W, H, H].

A clip is a map of T frames below each other, [T H, W]. Its time lines, the columns of [T, H W], come first; the columns
and rows of each frame continue their softmax.

The statistics of a softmax [B, 2, H, W] are the largest logit and the sum of exponentials relative to it: their
log-sum-exp in one number would lose the last digits of every weight computed from it.

Shape suffixes: S the two statistics; H height, W width, D query and key channels, C value channels; N lines in a chunk,
L positions in a line (I of the query, J of the key).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

# Measured on AVX-512 cores with 2 MiB of second-level cache: 1 to 4 MiB differ by less than 3 %.
CHUNK_BYTES = {"cpu": 7 << 19}
CHUNK_BYTES_ELSEWHERE = 256 << 20
AXES = ("both", "row", "column")


class Reach(NamedTuple):
    """Which positions are attended to: `axis` is `both`, `row` or `column`; biases are [W, W] and [H, H] or None.

    With `frames` above 1 (and the axis `both`) the map is a clip of that many frames, one below the other. A column
    ends with its frame, and a position also attends to the same position of the other frames.
    """

    axis: str
    row_bias: Tensor | None = None
    column_bias: Tensor | None = None
    frames: int = 1

    def branches(self, height: int) -> tuple[bool, bool]:
        """Whether a frame has a column branch and a row branch; a column of one position, also in the row, is none."""
        return self.axis == "column" or (self.axis == "both" and height > 1), self.axis != "column"


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Inside, autocast is off: the dtypes were chosen before."""
    # There is no autocast for meta tensors.
    device = tensor.device.type
    return nullcontext() if device == "meta" else torch.autocast(device, enabled=False)


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of logits and softmax: float32 for half precision, so that nothing overflows or loses digits."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def forward(q_BHWD: Tensor, k_BHWD: Tensor, v_BHWC: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
    """The attended values [B, H, W, C] and the statistics of their logits [B, 2, H, W]."""
    out_BHWC = torch.empty(v_BHWC.shape, dtype=v_BHWC.dtype, device=v_BHWC.device)
    stats_BSHW = empty_statistics(v_BHWC)
    for q, k, v, out, stats in zip(q_BHWD, k_BHWD, v_BHWC, out_BHWC, stats_BSHW, strict=True):
        for _ in attended_rows(q, k, v, out, stats, reach, in_place=True):
            pass
    return out_BHWC, stats_BSHW


def empty_statistics(v_BHWC: Tensor) -> Tensor:
    """Uninitialized statistics [B, 2, H, W]."""
    batch, height, width, _ = v_BHWC.shape
    return v_BHWC.new_empty((batch, 2, height, width), dtype=statistics_dtype(v_BHWC.dtype))


def attended_rows(
    q_HWD: Tensor, k_HWD: Tensor, v_HWC: Tensor, store_HWC: Tensor, stats_SHW: Tensor, reach: Reach, in_place: bool
) -> Iterator[tuple[slice, Tensor]]:
    """The attended values of one image or clip, some rows at a time: (which rows, [N, W, C]); fills `stats_SHW`.

    `store_HWC` holds the partial results of the other lines. With `in_place` it receives the final ones, too; without,
    the rows come in a buffer that the next step overwrites, and their part of the store may be reused.
    """
    if v_HWC.shape[0] == 0 or v_HWC.shape[1] == 0:
        return
    has_time = reach.frames > 1
    if has_time:
        given = [x.reshape(reach.frames, -1, x.shape[-1]) for x in (q_HWD, k_HWD, v_HWC)]
        store, stats = store_HWC.view(given[2].shape), stats_SHW.view(2, reach.frames, -1)
        _attend_columns(given, store, stats, None, exclude_self=True, begun=False)
    height = v_HWC.shape[0] // reach.frames
    has_columns, has_rows = reach.branches(height)
    step = lines_in_a_chunk(v_HWC[:height])
    buffer_NWC = store_HWC if in_place else torch.empty_like(store_HWC[:step])
    for frame in chunks(v_HWC.shape[0], height):
        if has_columns:
            given = [x[frame] for x in (q_HWD, k_HWD, v_HWC)]
            store, stats = store_HWC[frame], stats_SHW[:, frame]
            _attend_columns(given, store, stats, reach.column_bias, exclude_self=has_rows, begun=has_time)
        for rows in chunks(frame.stop, step, frame.start):
            partial_NWC = store_HWC[rows]
            out_NWC = partial_NWC if in_place else buffer_NWC[: partial_NWC.shape[0]]
            if has_rows:
                logits_NIJ = line_logits(q_HWD[rows], k_HWD[rows], reach.row_bias)
                begun = has_time or has_columns
                _attend(logits_NIJ, v_HWC[rows], partial_NWC, out_NWC, stats_SHW[:, rows], False, begun)
            elif not in_place:
                out_NWC.copy_(partial_NWC)
            yield rows, out_NWC


def _attend_columns(
    given: list[Tensor],
    store_HWC: Tensor,
    stats_SHW: Tensor,
    bias: Tensor | None,
    exclude_self: bool,
    begun: bool,
) -> None:
    """Attend along the columns of q, k and v (`given`)."""
    q_WHD, k_WHD, v_WHC, store_WHC = (x.transpose(0, 1) for x in (*given, store_HWC))
    stats_SWH = stats_SHW.transpose(1, 2)
    step = lines_in_a_chunk(v_WHC)
    # A product written straight into strided columns would run one line at a time.
    buffer_NHC = torch.empty(v_WHC[:step].shape, dtype=v_WHC.dtype, device=v_WHC.device)
    for lines in chunks(v_WHC.shape[0], step):
        logits_NIJ = line_logits(q_WHD[lines], k_WHD[lines], bias)
        out_NHC = buffer_NHC[: logits_NIJ.shape[0]]
        _attend(logits_NIJ, v_WHC[lines], store_WHC[lines], out_NHC, stats_SWH[:, lines], exclude_self, begun)
        store_WHC[lines] = out_NHC


def _attend(
    logits_NIJ: Tensor,
    v_NLC: Tensor,
    partial_NLC: Tensor,
    out_NLC: Tensor,
    stats_SNL: Tensor,
    exclude_self: bool,
    begun: bool,
) -> None:
    """Write a chunk's attended values into `out` and its statistics; the logits are overwritten.

    If `begun`, `partial_NLC` and the statistics hold the result of other lines, normalized by their own sum, and one
    softmax over all of them continues it.
    """
    top_NL, total_NL = stats_SNL
    if exclude_self:
        logits_NIJ.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    top_NI = logits_NIJ.amax(-1)
    if begun:
        top_NI = torch.maximum(top_NI, top_NL)
    elif exclude_self:
        # A bias of -inf may mask a whole column; it then has no weight beside the row.
        top_NI.clamp_min_(torch.finfo(top_NI.dtype).min)
    weights_NIJ = logits_NIJ.sub_(top_NI[..., None]).exp_()
    total_NI = weights_NIJ.sum(-1)
    if begun:
        before_NI = (top_NL - top_NI).exp_().mul_(total_NL)
        total_NI += before_NI
        torch.mul(partial_NLC, (before_NI / total_NI)[..., None], out=out_NLC)
    safe_NI = total_NI.clamp_min(torch.finfo(total_NI.dtype).tiny) if exclude_self else total_NI
    weights_NIJ = weights_NIJ.div_(safe_NI[..., None]).to(v_NLC.dtype)
    if begun:
        out_NLC.baddbmm_(weights_NIJ, v_NLC)
    else:
        torch.bmm(weights_NIJ, v_NLC, out=out_NLC)
    top_NL.copy_(top_NI)
    total_NL.copy_(total_NI)


def line_logits(q_NLD: Tensor, k_NLD: Tensor, bias: Tensor | None) -> Tensor:
    """[N, I, J] in the statistics' type."""
    dtype = statistics_dtype(q_NLD.dtype)
    logits_NIJ = torch.bmm(q_NLD.to(dtype), k_NLD.to(dtype).transpose(1, 2))
    return logits_NIJ if bias is None else logits_NIJ.add_(bias)


def lines_in_a_chunk(lines: Tensor) -> int:
    """How many of the lines [lines, positions, channels] make a chunk; chunks have nearly equal sizes."""
    # Bytes of the values and logits of a line.
    size = lines.shape[1] * (lines.shape[1] + lines.shape[2]) * lines.element_size()
    most = max(1, CHUNK_BYTES.get(lines.device.type, CHUNK_BYTES_ELSEWHERE) // max(1, size))
    chunks = max(1, -(-lines.shape[0] // most))
    return -(-lines.shape[0] // chunks)


def chunks(end: int, step: int, start: int = 0) -> Iterator[slice]:
    """Slices of `step` from `start` to `end`."""
    return (slice(first, min(first + step, end)) for first in range(start, end, step))
