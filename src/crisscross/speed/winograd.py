"""3 x 3 convolution with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3), on a CPU in float32.

A tile of 6 x 6 inputs gives 4 x 4 outputs by 36 products a channel pair instead of 144 (Lavin and Gray,
arXiv:1509.09308). A convolution of dilation d is d * d convolutions of dilation 1, each on every d-th row and column
(its phases), so that dilated layers gain as much.

Shape suffixes: B batch, H height, W width, C channels in, D channels out, K a position in the 3 x 3 kernel (9), X the
weights of one K, P a position in a 6 x 6 tile (36, row by row), Q one in a 4 x 4 tile (16), T tiles of one chunk, N the
values of one P or Q in a chunk (tiles times channels).
"""

import math
import threading
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crisscross.ops import transforms_active

OUT, IN = 4, 6
# With infinity as the sixth. Half the rounding error of the usual 0, 1, -1, 2, -2, and exact in binary.
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
# Tiles computed together: enough for efficient matrix products, few enough for the cache.
CHUNK_TILES = 64
# For `gain`, fitted to measured times: the number of channels at which a transform takes as long as the products, and
# the number of tiles at which all that is independent of it does.
TRANSFORM_COST = 110.0
START_COST = 16.0
# The least gain for which Winograd is used.
WORTHWHILE = 1.2


def _polynomial(roots: list[float]) -> list[float]:
    """Coefficients of the product of (x - root), lowest power first."""
    coefficients = [1.0]
    for root in roots:
        shifted, scaled = [0.0, *coefficients], [*(-root * c for c in coefficients), 0.0]
        coefficients = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def winograd_matrices() -> tuple[Tensor, Tensor, Tensor]:
    """A [4, 6], G [6, 3], B [6, 6] in float64: y = A ((G g) * (B d)) is the correlation of d (6) with g (3).

    Toom and Cook: both factors are polynomials, determined by their values at `POINTS` and at infinity.
    """
    rows_a, rows_g, rows_b = [], [], []
    for point in POINTS:
        others = [other for other in POINTS if other != point]
        scale = math.prod(point - other for other in others)
        rows_a.append([point**power for power in range(OUT)])
        rows_g.append([point**power / scale for power in range(3)])
        rows_b.append([*_polynomial(others), 0.0])
    rows_a.append([0.0, 0.0, 0.0, 1.0])
    rows_g.append([0.0, 0.0, 1.0])
    rows_b.append(_polynomial(list(POINTS)))
    a, g, b = (torch.tensor(rows, dtype=torch.float64) for rows in (rows_a, rows_g, rows_b))
    return a.T, g, b


@lru_cache(maxsize=1)
def tile_transforms() -> tuple[Tensor, Tensor]:
    """The transforms of a tile of inputs [36, 36] and of its products and the bias [16, 37], float32, exact."""
    with torch.inference_mode(False):
        a, _, b = winograd_matrices()
        # The bias is a 37th product of every tile, which counts once for each output.
        back_QP = torch.cat([torch.kron(a, a), torch.ones(OUT * OUT, 1, dtype=a.dtype)], 1)
        return torch.kron(b, b).float(), back_QP.float()


def transform_weights(weight: Tensor) -> Tensor:
    """Weights [D, C, 3, 3] -> [36, C, D], float32, computed in the dtype of the weights."""
    g = winograd_matrices()[1]
    weight_KX = weight.detach().flatten(2).permute(2, 1, 0).flatten(1)
    product = torch.kron(g, g).to(weight.dtype) @ weight_KX
    return product.float().view(IN * IN, weight.shape[1], weight.shape[0])


class _Grid(NamedTuple):
    """How an output of `height` x `width` is cut into tiles: `down` x `across` of them in each of d * d phases."""

    height: int
    width: int
    dilation: int

    @property
    def down(self) -> int:
        return -(-self.height // (OUT * self.dilation))

    @property
    def across(self) -> int:
        return -(-self.width // (OUT * self.dilation))

    @property
    def tiles(self) -> int:
        return self.down * self.across * self.dilation**2


_memory = threading.local()


def _scratch(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Uninitialized float32 tensors, in memory that a thread keeps for the next call: fresh pages are slow."""
    sizes = [-(-math.prod(shape) // 16) * 16 for shape in shapes]
    kept = getattr(_memory, "values", None)
    if kept is None or len(kept) < sum(sizes):
        # A tensor made in inference mode could not be written to outside it.
        with torch.inference_mode(False):
            kept = _memory.values = torch.empty(sum(sizes), dtype=torch.float32, device="cpu")
    parts = kept[: sum(sizes)].split(sizes)
    return [part[: math.prod(shape)].view(shape) for part, shape in zip(parts, shapes, strict=True)]


def release_memory() -> None:
    """Release the memory that this thread keeps for its next call (docs/optimize.md says how much)."""
    _memory.__dict__.clear()


def why_not(conv: nn.Conv2d) -> str | None:
    """The reason why Winograd cannot compute a convolution, or None."""
    if type(conv) is not nn.Conv2d:
        return f"{type(conv).__name__} may do something else"
    if conv.kernel_size != (3, 3) or conv.stride != (1, 1) or conv.groups != 1:
        return "only 3 x 3 with stride 1 and one group"
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        return "only padding by a number of zeros"
    if conv.dilation[0] != conv.dilation[1]:
        return "the dilations differ"
    if conv.weight.dtype != torch.float32 or conv.weight.device.type != "cpu":
        return "only float32 on the CPU"
    return None


def gain(conv: nn.Conv2d, height: int, width: int) -> float:
    """How many times faster an output of `height` x `width` should be, by a formula fitted to measured times."""
    tiles = _Grid(height, width, conv.dilation[0]).tiles
    if not tiles:
        return 0.0
    fewer_products = 9 * height * width / (IN * IN * tiles)
    transforms = TRANSFORM_COST * (1 / conv.in_channels + 1 / conv.out_channels)
    return fewer_products / (1 + transforms + START_COST / tiles)


def takes(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether the convolution of this input gains: one that `why_not` allows, of float32 images on a CPU.

    Tracing, autocast and transforms of torch.func get torch's convolution.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if traced or torch.is_autocast_enabled("cpu") or transforms_active():
        return False
    if x.dim() != 4 or x.shape[1] != conv.in_channels:
        return False
    if not x.device.type == conv.weight.device.type == "cpu" or not x.dtype == conv.weight.dtype == torch.float32:
        return False
    return gain(conv, *_output_size(x, conv.padding, conv.dilation[0])) >= WORTHWHILE


def _output_size(x: Tensor, padding: tuple[int, ...] | str, dilation: int) -> tuple[int, int]:
    height, width = (x.shape[axis] + 2 * (int(padding[axis]) - dilation) for axis in (-2, -1))
    return height, width


def convolve(
    x: Tensor, weight_PCD: Tensor, bias: Tensor | None, padding: tuple[int, ...] | str, dilation: int
) -> Tensor:
    """The convolution of [B, C, H, W] with `transform_weights(weight)`: [B, D, H', W'] in channels-last memory."""
    d, grid = dilation, _Grid(*_output_size(x, padding, dilation), dilation)
    x_BHWC, side = x.permute(0, 2, 3, 1), OUT * d
    out_BHWD = x.new_empty(len(x), grid.down * side, grid.across * side, weight_PCD.shape[2])
    rows = max(1, CHUNK_TILES // (grid.across * d * d))
    for x_HWC, out_HWD in zip(x_BHWC, out_BHWD, strict=True):
        for first in range(0, grid.down, rows):
            last = min(first + rows, grid.down)
            strip = out_HWD[first * side : last * side]
            _rows_of_tiles(x_HWC, strip, side * first - int(padding[0]), int(padding[1]), weight_PCD, bias, grid)
    # Tiles that reach beyond the image are cut off.
    return out_BHWD[:, : grid.height, : grid.width].contiguous().permute(0, 3, 1, 2)


def _rows_of_tiles(
    x_HWC: Tensor, out_HWD: Tensor, top: int, left: int, weight_PCD: Tensor, bias: Tensor | None, grid: _Grid
) -> None:
    """The rows of tiles that `out_HWD` has room for, from input row `top` on; `left` zeros stand before each row."""
    d, across, channels, out_channels = grid.dilation, grid.across, x_HWC.shape[-1], out_HWD.shape[-1]
    rows = len(out_HWD) // (OUT * d)
    tiles = rows * across * d * d
    strip_HWC, gathered_PN, inputs_PN, products_PN, outputs_QN = _scratch(
        ((OUT * rows + 2) * d, (OUT * across + 2) * d, channels),
        (IN * IN, tiles * channels),
        (IN * IN, tiles * channels),
        (IN * IN + 1, tiles * out_channels),
        (OUT * OUT, tiles * out_channels),
    )
    into_PP, back_QP = tile_transforms()
    _fill_strip(strip_HWC, x_HWC, top, left)
    _gather(strip_HWC, gathered_PN, rows, across, d)
    torch.mm(into_PP, gathered_PN, out=inputs_PN)
    products_PTD = products_PN.view(-1, tiles, out_channels)
    torch.bmm(inputs_PN.view(-1, tiles, channels), weight_PCD, out=products_PTD[:-1])
    products_PTD[-1] = 0 if bias is None else bias
    torch.mm(back_QP, products_PN, out=outputs_QN)
    _scatter(outputs_QN, out_HWD, rows, across, d)


def _fill_strip(strip_HWC: Tensor, x_HWC: Tensor, top: int, left: int) -> None:
    """Copy input rows from `top` on, with zeros around the image and `left` of them before each row."""
    height, width = x_HWC.shape[:2]
    begin = max(0, -top)
    end = max(begin, min(len(strip_HWC), height - top))
    strip_HWC[:begin] = 0
    strip_HWC[end:] = 0
    strip_HWC[:, :left] = 0
    strip_HWC[:, left + width :] = 0
    strip_HWC[begin:end, left : left + width] = x_HWC[top + begin : top + end]


def _gather(strip_HWC: Tensor, gathered_PN: Tensor, rows: int, across: int, d: int) -> None:
    """Copy the overlapping 6 x 6 tiles of each phase, position by position; phases are inner dimensions."""
    line, channels = strip_HWC.stride(0), strip_HWC.shape[2]
    view = strip_HWC.as_strided(
        (IN, IN, rows, d, across, d, channels),
        (d * line, d * channels, OUT * d * line, line, OUT * d * channels, channels, 1),
        strip_HWC.storage_offset(),
    )
    gathered_PN.view(view.shape).copy_(view)


def _scatter(outputs_QN: Tensor, out_HWD: Tensor, rows: int, across: int, d: int) -> None:
    """The inverse of `_gather`, for tiles that do not overlap."""
    channels = out_HWD.shape[2]
    tiles = outputs_QN.view(OUT, OUT, rows, d, across, d, channels)
    out_HWD.view(rows, OUT, d, across, OUT, d, channels).copy_(tiles.permute(2, 0, 3, 4, 1, 5, 6))
