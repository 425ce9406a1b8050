"""Results of measuring the layer: the size, the work that it is credited with, and one row per contestant."""

from dataclasses import dataclass

import torch

from crisscross.measurement.timing import Work


@dataclass(frozen=True)
class Size:
    """The input of a measurement: [1, channels, height, width]."""

    height: int
    width: int
    channels: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @property
    def positions(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Row:
    """The measurements of one contestant at one size; None where there is none.

    Attributes:
        name: the contestant.
        forward, training: median seconds of a forward pass without gradients, and of forward and backward.
        gflops: GFLOP per second of the forward pass, by the work that `layer_gflop` credits.
        share: that, as a fraction of the speed of a big matrix product of the same type in the same race.
        training_share: the same of forward and backward, which are credited with three times the work.
        forward_peak, training_peak: bytes above the input and the upstream gradient, the output included. Forward: one
            pass. Training: two passes of criss-cross attention or one of a non-local block, and their backward.
        kept: bytes that one pass keeps for its backward beyond its input and the parameters.
        left: bytes beyond the output that stayed allocated after the forward pass; counted in `training_peak` as well.
        error, gradient_error: largest absolute difference from the float64 truth over the largest absolute value in it,
            of the output and of the input's gradient.
        note: why something is missing.
    """

    name: str
    forward: float | None = None
    training: float | None = None
    gflops: float | None = None
    share: float | None = None
    training_share: float | None = None
    forward_peak: int | None = None
    training_peak: int | None = None
    kept: int | None = None
    left: int | None = None
    error: float | None = None
    gradient_error: float | None = None
    note: str = ""


def projection_gflop(size: Size, reduction: int = 8) -> float:
    """GFLOP of the query, key and value projections of one pass; a multiplication and an addition count as two."""
    return 2e-9 * size.positions * size.channels * (size.channels + 2 * (size.channels // reduction))


def attention_gflop(size: Size, reach: int, reduction: int = 8) -> float:
    """GFLOP of logits and weighted values of one pass when every position attends to `reach` positions."""
    return 2e-9 * size.positions * reach * (size.channels + size.channels // reduction)


def layer_gflop(size: Size, criss_cross: bool) -> float:
    """GFLOP that one forward pass is credited with.

    A way of computing criss-cross attention that does more work than the H + W - 1 positions ask for gets no credit
    for it; a non-local block is credited with all pairs.
    """
    reach = size.height + size.width - 1 if criss_cross else size.positions
    return projection_gflop(size) + attention_gflop(size, reach)


def matrix_product(device: torch.device, dtype: torch.dtype, side: int | None = None) -> tuple[float, Work]:
    """A big square matrix product, the yardstick of what this machine can do with the present threads.

    Args:
        device: where it runs.
        dtype: of the matrices.
        side: rows and columns; by default 2048 on a CPU and 8192 elsewhere.

    Returns:
        GFLOP of one call, and the call.
    """
    side = side or (2048 if device.type == "cpu" else 8192)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    result = torch.empty(side, side, device=device, dtype=dtype)
    return 2 * side**3 / 1e9, lambda: torch.mm(left, right, out=result)
