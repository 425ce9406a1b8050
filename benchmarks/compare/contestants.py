"""The contestants: the same weights in every implementation of the layer."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.compare.mmcv import mmcv_attention
from benchmarks.compare.peers import Flex, MaskedSDPA, NonLocal, NonLocalRows
from crisscross.errors import CrissCrossError
from crisscross.layers import CrissCrossAttention

FAST, LEAN, MMCV, NON_LOCAL = "ours, fast", "ours, lean", "MMCV", "non-local"
# What half precision on a CPU is compared with.
FLOAT32 = "ours, fast, float32"
HALF = (torch.float16, torch.bfloat16)
# The gate starts at 0, where every implementation is the identity; here it is open.
GATE = 0.7
# It visits all pairs: 2 seconds at 97 x 97, 16 at 128 x 256.
FLEX_POSITIONS_ON_CPU = 16384


@dataclass(frozen=True)
class Contestant:
    """One implementation of the layer.

    Attributes:
        name: how tables call it.
        layer: one pass, with the common weights.
        channels_last: the memory layout of the input that it is given.
        passes: how many make up a comparable system: two of criss-cross attention, one of a non-local block.
        criss_cross: it computes criss-cross attention, so that its error is known.
        trains: it can run backward.
        quadratic: matrices of positions x positions that live together in one training step; 0: none.
        autocast: run the float32 layer under autocast to this type.
        compiled: the first call at a size compiles for that size.
        most_positions: beyond, it is skipped as too slow to wait for.
    """

    name: str
    layer: nn.Module
    channels_last: bool = True
    passes: int = 2
    criss_cross: bool = True
    trains: bool = True
    quadratic: int = 0
    autocast: torch.dtype | None = None
    compiled: bool = False
    most_positions: int | None = None

    @property
    def ours(self) -> bool:
        """It is this package's layer."""
        return isinstance(self.layer, CrissCrossAttention)

    def run(self, x: Tensor, passes: int = 1) -> Tensor:
        """[B, C, (T,) H, W] -> the same shape."""
        with torch.autocast(x.device.type, self.autocast) if self.autocast else nullcontext():
            for _ in range(passes):
                x = self.layer(x)
            return x

    def prepare(self, x: Tensor) -> Tensor:
        """A copy of x in the layout and type that the layer takes."""
        dtype = torch.float32 if self.autocast else next(self.layer.parameters()).dtype
        layout = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        return x.to(dtype).clone(memory_format=layout if self.channels_last else torch.contiguous_format)


def common_weights(channels: int, dtype: torch.dtype, seed: int = 0) -> CrissCrossAttention:
    """A layer with an open gate whose float32 parameters are exact in `dtype`.

    Raises:
        CrissCrossError: there are too few channels.
    """
    if channels < 8:
        raise CrissCrossError(f"--channels must be at least 8, got {channels}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = CrissCrossAttention(channels)
    with torch.no_grad():
        layer.gamma.fill_(GATE)
        for parameter in layer.parameters():
            parameter.copy_(parameter.to(dtype))
    return layer


def give_weights(source: CrissCrossAttention, layer: nn.Module) -> nn.Module:
    """Copy the parameters into a layer with our names or MMCV's."""
    named = dict(layer.named_parameters())
    with torch.no_grad():
        for name, value in source.named_parameters():
            theirs = "gamma.scale" if name == "gamma" else name.replace(".", "_conv.")
            named[name if name in named else theirs].copy_(value)
    return layer


# What --peers can name -> the contestants that it brings.
PEERS = ("mmcv", "non-local", "sdpa", "flex")


def create(
    weights: CrissCrossAttention,
    dtype: torch.dtype,
    device: torch.device,
    peers: Sequence[str] = PEERS,
    wheel: Path | None = None,
    on_missing: Callable[[str], object] | None = None,
) -> list[Contestant]:
    """Ours, then the peers, all with the same weights on one device.

    Args:
        weights: from `common_weights`.
        dtype: what they compute in.
        device: where.
        peers: some of `PEERS`.
        wheel: MMCV's wheel file; by default from the cache or the network.
        on_missing: called with the reason where MMCV is not available; without it the error is raised.

    Raises:
        CrissCrossError: a peer is unknown, or MMCV's wheel is not available.
    """
    if unknown := [name for name in peers if name not in PEERS]:
        raise CrissCrossError(f"--peers: unknown {', '.join(unknown)}; known: {', '.join(PEERS)}")
    channels = weights.value.out_channels
    found = [Contestant(FAST, CrissCrossAttention(channels, memory="fast"))]
    found.append(Contestant(LEAN, CrissCrossAttention(channels, memory="lean")))
    if device.type == "cpu" and dtype in HALF:
        found.append(Contestant(FLOAT32, CrissCrossAttention(channels, memory="fast")))
    if "mmcv" in peers:
        try:
            found += _mmcv(channels, dtype, device, wheel)
        except CrissCrossError as error:
            if on_missing is None:
                raise
            on_missing(str(error))
    if "non-local" in peers:
        found.append(Contestant(NON_LOCAL, NonLocal(channels), False, 1, criss_cross=False, quadratic=4))
        found.append(Contestant("non-local, rows", NonLocalRows(channels), True, 1, criss_cross=False, quadratic=3))
    if "sdpa" in peers:
        found.append(Contestant("SDPA, masked", MaskedSDPA(channels), quadratic=5))
    if "flex" in peers:
        gpu = device.type == "cuda"
        most = None if gpu else FLEX_POSITIONS_ON_CPU
        found.append(Contestant("flex_attention", Flex(channels), trains=gpu, compiled=True, most_positions=most))
    for one in found:
        own = torch.float32 if one.autocast or one.name == FLOAT32 else dtype
        give_weights(weights, one.layer).to(device, own)
    return found


def _mmcv(channels: int, dtype: torch.dtype, device: torch.device, wheel: Path | None) -> list[Contestant]:
    module = mmcv_attention(wheel)
    # Converted to half precision the module raises; on a GPU it is used under autocast.
    autocast = dtype if device.type == "cuda" and dtype in HALF else None
    return [
        Contestant(MMCV, module(channels), False, autocast=autocast),
        Contestant("MMCV, channels-last", module(channels), autocast=autocast),
    ]
