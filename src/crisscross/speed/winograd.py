"""3 x 3 convolution with a quarter of the multiplications: Winograd's F(4 x 4, 3 x 3), for inference on a CPU.

A tile of 6 x 6 inputs gives 4 x 4 outputs by 36 products a channel pair instead of 144 (Lavin and Gray,
arXiv:1509.09308). A convolution of dilation d is d * d convolutions of dilation 1, each on every d-th row and column
(its phases), so that dilated layers gain as much.

Shape suffixes: B batch, H height, W width, C channels in, D channels out, P place in a 6 x 6 tile (36, row by row),
Q place in a 4 x 4 tile (16), T tiles of one chunk, N values of one such place in a chunk (tiles times channels).
"""

import math
import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crisscross.ops import transforms_active

OUT, IN = 4, 6
# With infinity as the sixth. Half the rounding error of the usual 0, 1, -1, 2, -2, and exact in binary.
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
# Tiles worked on at once: enough for efficient matrix products, few enough for the cache.
CHUNK_TILES = 64
# Of `gain`, fitted to measured times: the channels at which a transform takes as long as the products, and the tiles
# at which everything that does not grow with them does.
TRANSFORM_COST = 110.0
START_COST = 16.0
# The fast way is taken where `gain` promises this much.
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

    Toom and Cook: both factors are polynomials, known by their values at `POINTS` and at infinity.
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
        # A tensor born in inference mode could not be written to outside it.
        with torch.inference_mode(False):
            kept = _memory.values = torch.empty(sum(sizes), dtype=torch.float32, device="cpu")
    parts = kept[: sum(sizes)].split(sizes)
    return [part[: math.prod(shape)].view(shape) for part, shape in zip(parts, shapes, strict=True)]


def release_memory() -> None:
    """Give back the memory that this thread keeps for its next call (docs/optimize.md says how much)."""
    _memory.__dict__.clear()


def why_not(conv: nn.Conv2d) -> str | None:
    """The reason for which `WinogradConv2d` cannot stand in for a convolution, or None."""
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


def called_plainly() -> bool:
    """Whether a forward pass is neither traced, nor under autocast, nor under a transform of torch.func."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    return not (traced or torch.is_autocast_enabled("cpu") or transforms_active())


class Tiled:
    """A convolution of stride 1 computed tile by tile: its shape, its transformed weights and the two transforms."""

    dilation: tuple[int, ...]
    padding: Any
    out_channels: int
    bias: Any
    weight_PCD: Tensor
    into_PP: Tensor
    back_QP: Tensor

    def _tiled(self, x_BHWC: Tensor, grid: _Grid) -> Tensor:
        d, places = grid.dilation, OUT * grid.dilation
        out_BHWD = x_BHWC.new_empty(len(x_BHWC), grid.down * places, grid.across * places, self.out_channels)
        rows = max(1, CHUNK_TILES // (grid.across * d * d))
        for x_HWC, out_HWD in zip(x_BHWC, out_BHWD, strict=True):
            for first in range(0, grid.down, rows):
                last = min(first + rows, grid.down)
                self._chunk(x_HWC, first, out_HWD[first * places : last * places], grid)
        # Tiles that stick out of the image are cut off.
        return out_BHWD[:, : grid.height, : grid.width].contiguous()

    def _chunk(self, x_HWC: Tensor, first: int, out_HWD: Tensor, grid: _Grid) -> None:
        """The rows of tiles from `first` on that `out_HWD` has room for."""
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
        _fill_strip(strip_HWC, x_HWC, OUT * first * d - int(self.padding[0]), int(self.padding[1]))
        _gather(strip_HWC, gathered_PN, rows, across, d)
        torch.mm(self.into_PP, gathered_PN, out=inputs_PN)
        products_PTD = products_PN.view(-1, tiles, out_channels)
        torch.bmm(inputs_PN.view(-1, tiles, channels), self.weight_PCD, out=products_PTD[:-1])
        products_PTD[-1] = 0 if self.bias is None else self.bias
        torch.mm(self.back_QP, products_PN, out=outputs_QN)
        _scatter(outputs_QN, out_HWD, rows, across, d)


class WinogradConv2d(Tiled, nn.Conv2d):
    """An `nn.Conv2d` for inference: the same weights, [B, C, H, W] -> [B, D, H', W'] in channels-last memory.

    What the fast way cannot do or would lose by is left to `nn.Conv2d`: another type than float32, another device than
    the CPU, autocast, gradients, small images, tracing for export or compilation. Transformed weights take four times
    the memory of the convolution's own, and come beside them.

    Args:
        conv: the convolution; its weight and bias are shared, not copied, and must not change afterwards other than
            by `load_state_dict`.

    Raises:
        ValueError: this cannot stand in for it; `why_not` says why.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        if reason := why_not(conv):
            raise ValueError(f"no Winograd form of {conv}: {reason}")
        padding, dilation = (int(conv.padding[0]), int(conv.padding[1])), conv.dilation[0]
        size = conv.in_channels, conv.out_channels, 3
        super().__init__(*size, padding=padding, dilation=dilation, bias=False, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        a, _, b = winograd_matrices()
        # The bias is a 37th place of every tile, which counts once for each output.
        back_QP = torch.cat([torch.kron(a, a), torch.ones(OUT * OUT, 1, dtype=a.dtype)], 1)
        self.register_buffer("into_PP", torch.kron(b, b).float(), persistent=False)
        self.register_buffer("back_QP", back_QP.float(), persistent=False)
        self.register_buffer("weight_PCD", self._transformed(), persistent=False)
        self.train(conv.training)

    def _transformed(self) -> Tensor:
        g = winograd_matrices()[1]
        weight_KCD = self.weight.detach().double().flatten(2).permute(2, 1, 0)
        return torch.einsum("pk,kcd->pcd", torch.kron(g, g), weight_KCD).float().contiguous()

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.weight_PCD.copy_(self._transformed())

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D, H', W'] as `nn.Conv2d`."""
        d = self.dilation[0]
        height, width = (x.shape[axis] + 2 * (int(self.padding[axis]) - d) for axis in (-2, -1))
        if not self._takes(x) or gain(self, height, width) < WORTHWHILE:
            return super().forward(x)
        with torch.no_grad():
            return self._tiled(x.permute(0, 2, 3, 1), _Grid(height, width, d)).permute(0, 3, 1, 2)

    def _takes(self, x: Tensor) -> bool:
        if not called_plainly():
            return False
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            return False
        usual = x.dim() == 4 and x.shape[1] == self.in_channels
        usual = usual and x.device.type == self.weight_PCD.device.type == "cpu"
        return usual and x.dtype == self.weight_PCD.dtype == torch.float32


def _fill_strip(strip_HWC: Tensor, x_HWC: Tensor, top: int, left: int) -> None:
    """Input rows from `top` on, with zeros around the image; `left` zeros stand before each row."""
    height, width = x_HWC.shape[:2]
    begin = max(0, -top)
    end = max(begin, min(len(strip_HWC), height - top))
    strip_HWC[:begin] = 0
    strip_HWC[end:] = 0
    strip_HWC[:, :left] = 0
    strip_HWC[:, left + width :] = 0
    strip_HWC[begin:end, left : left + width] = x_HWC[top + begin : top + end]


def _gather(strip_HWC: Tensor, gathered_PN: Tensor, rows: int, across: int, d: int) -> None:
    """Overlapping 6 x 6 tiles of each phase, place by place: the phases of row and column stand inside the tile's."""
    line, channels = strip_HWC.stride(0), strip_HWC.shape[2]
    view = strip_HWC.as_strided(
        (IN, IN, rows, d, across, d, channels),
        (d * line, d * channels, OUT * d * line, line, OUT * d * channels, channels, 1),
        strip_HWC.storage_offset(),
    )
    gathered_PN.view(view.shape).copy_(view)


def _scatter(outputs_QN: Tensor, out_HWD: Tensor, rows: int, across: int, d: int) -> None:
    """The reverse way of `_gather`, where nothing overlaps."""
    channels = out_HWD.shape[2]
    tiles = outputs_QN.view(OUT, OUT, rows, d, across, d, channels)
    out_HWD.view(rows, OUT, d, across, OUT, d, channels).copy_(tiles.permute(2, 0, 3, 4, 1, 5, 6))
