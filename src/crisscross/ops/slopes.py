"""The gradients of what lines.py computes, some lines at a time, from the statistics of the softmax.

Shape suffixes: as in lines.py.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from crisscross.ops import lines
from crisscross.ops.lines import Reach


class Grads(NamedTuple):
    """Where gradients are added up: q, k, v [B, H, W, channels], row bias and column bias (or None)."""

    q: Tensor
    k: Tensor
    v: Tensor
    row_bias: Tensor | None
    column_bias: Tensor | None


def zero_biases(reach: Reach, dtype: torch.dtype) -> list[Tensor | None]:
    """Zeros in the shapes of the row and the column bias, None where there is none."""
    biases = reach.row_bias, reach.column_bias
    return [None if bias is None else torch.zeros_like(bias, dtype=dtype) for bias in biases]


def cast_biases(grads: Iterable[Tensor | None], reach: Reach) -> list[Tensor | None]:
    """Gradients of row and column bias in the dtypes of the biases."""
    pairs = zip(grads, (reach.row_bias, reach.column_bias), strict=True)
    return [None if grad is None or bias is None else grad.to(bias.dtype) for grad, bias in pairs]


def backward(
    grad_BHWC: Tensor,
    q_BHWD: Tensor,
    k_BHWD: Tensor,
    v_BHWC: Tensor,
    stats_BSHW: Tensor,
    reach: Reach,
    grads: Grads,
    project: Tensor | None = None,
) -> None:
    """Add the gradients of q, k, v and of the biases to `grads`.

    With a matrix `project` [C', C] the values are v project^T, made line by line; the gradient of v then still has to
    be multiplied by it.

    The slope of a softmax needs the mean gain of all its positions. A row computes its own and adds that of the columns
    from before; the gains of the columns [W, H, H] are held until then, and those of the time lines [H W, T, T] until
    all frames are done. (The mean gain is also the product of gradient and attended values, without any waiting, but
    rounded differently, which costs peaked attention its small gradients.)
    """
    mean_HW = stats_BSHW.new_empty(stats_BSHW.shape[2:])
    for i in range(v_BHWC.shape[0] if v_BHWC.numel() else 0):
        given = [grad_BHWC[i], q_BHWD[i], k_BHWD[i], v_BHWC[i], *stats_BSHW[i]]
        whole = _Branch(given, [grads.q[i], grads.k[i], grads.v[i]], mean_HW.zero_(), None, None, False, project)
        time = gains_LTT = None
        if reach.frames > 1:
            time = whole.as_map(reach.frames).turned()._replace(exclude_self=True)
            gains_LTT = time.gains()
        height = v_BHWC.shape[1] // reach.frames
        for frame in lines.chunks(v_BHWC.shape[1], height):
            _differentiate_frame(whole.part(frame), reach, grads)
        if time is not None:
            time.differentiate(gains_LTT)


def _differentiate_frame(frame: "_Branch", reach: Reach, grads: Grads) -> None:
    has_columns, has_rows = reach.branches(frame.mean.shape[0])
    rows = frame._replace(bias=reach.row_bias, grad_bias=grads.row_bias)
    columns = frame.turned()._replace(bias=reach.column_bias, grad_bias=grads.column_bias, exclude_self=has_rows)
    gains_WHH = columns.gains() if has_columns else None
    if has_rows:
        rows.differentiate(None)
    if gains_WHH is not None:
        columns.differentiate(gains_WHH)


class _Branch(NamedTuple):
    """The rows of an image, or its columns: every tensor but the biases is [lines, positions, ...].

    `given` are the output's gradient, q, k, v, largest logits and sums of exponentials; `grads` those of q, k and v;
    `mean` [lines, positions] collects the mean gain. Values are v, or v times the transpose of `project`.
    """

    given: list[Tensor]
    grads: list[Tensor]
    mean: Tensor
    bias: Tensor | None
    grad_bias: Tensor | None
    exclude_self: bool
    project: Tensor | None

    def turned(self) -> "_Branch":
        given, grads = ([x.transpose(0, 1) for x in tensors] for tensors in (self.given, self.grads))
        return self._replace(given=given, grads=grads, mean=self.mean.t())

    def part(self, some: slice) -> "_Branch":
        given, grads = ([x[some] for x in tensors] for tensors in (self.given, self.grads))
        return self._replace(given=given, grads=grads, mean=self.mean[some])

    def as_map(self, frames: int) -> "_Branch":
        """A clip as a map [T, H W], whose columns are the time lines."""
        given = [x.reshape(frames, -1, *x.shape[2:]) for x in self.given]
        # What is written to must not be copied.
        grads = [x.view(frames, -1, x.shape[-1]) for x in self.grads]
        return self._replace(given=given, grads=grads, mean=self.mean.view(frames, -1))

    def chunks(self) -> Iterator[slice]:
        v = self.given[3]
        return lines.chunks(v.shape[0], lines.lines_in_a_chunk(v))

    def gains(self) -> Tensor:
        """The gains [lines, I, J] of all lines, whose mean is added to `mean`."""
        count, length = self.mean.shape
        gains_GIJ = self.mean.new_empty((count, length, length))
        for chunk in self.chunks():
            gains_NIJ = self.gains_of(chunk)
            self.mean[chunk] += (self.weights(chunk) * gains_NIJ).sum(-1)
            gains_GIJ[chunk] = gains_NIJ
        return gains_GIJ

    def differentiate(self, gains_GIJ: Tensor | None) -> None:
        """Add this branch's gradients. Gains that are not given are computed, which completes the mean."""
        for chunk in self.chunks():
            weights_NIJ = self.weights(chunk)
            if gains_GIJ is None:
                slope_NIJ = self.gains_of(chunk)
                self.mean[chunk] += (weights_NIJ * slope_NIJ).sum(-1)
            else:
                slope_NIJ = gains_GIJ[chunk]
            slope_NIJ.sub_(self.mean[chunk][..., None]).mul_(weights_NIJ)
            grad_NLC, q_NLD, k_NLD = (x[chunk] for x in self.given[:3])
            grad_q_NLD, grad_k_NLD, grad_v_NLC = (x[chunk] for x in self.grads)
            weights_NJI = weights_NIJ.to(grad_NLC.dtype).transpose(1, 2)
            if grad_v_NLC.is_contiguous():
                grad_v_NLC.baddbmm_(weights_NJI, grad_NLC)
            else:
                grad_v_NLC += torch.bmm(weights_NJI, grad_NLC)
            grad_q_NLD += torch.bmm(slope_NIJ, k_NLD.to(slope_NIJ.dtype))
            grad_k_NLD += torch.bmm(slope_NIJ.transpose(1, 2), q_NLD.to(slope_NIJ.dtype))
            if self.grad_bias is not None:
                self.grad_bias.add_(slope_NIJ.sum(0))

    def weights(self, chunk: slice) -> Tensor:
        """The softmax weights [N, I, J]."""
        q_NLD, k_NLD, top_NL, total_NL = (self.given[i][chunk] for i in (1, 2, 4, 5))
        weights_NIJ = (
            lines.line_logits(q_NLD, k_NLD, self.bias).sub_(top_NL[..., None]).exp_().div_(total_NL[..., None])
        )
        if self.exclude_self:
            weights_NIJ.diagonal(dim1=1, dim2=2).zero_()
        return weights_NIJ

    def gains_of(self, chunk: slice) -> Tensor:
        """The derivatives of the loss with respect to the softmax weights [N, I, J]."""
        grad_NLC, v_NLC = self.given[0][chunk], self.given[3][chunk]
        if self.project is not None:
            v_NLC = (v_NLC.flatten(0, 1) @ self.project.t()).unflatten(0, v_NLC.shape[:2])
        return torch.bmm(grad_NLC, v_NLC.transpose(1, 2)).to(self.mean.dtype)
