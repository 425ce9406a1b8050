"""The feature maps of a network and the image sizes that it accepts, found by trying it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross.errors import CrissCrossError
from crisscross.layers.modes import evaluating
from crisscross.ops import exporting

# Odd at every stride up to 32: a network with maps of ceil(side / stride) for this size has such maps for every size.
ODD = 33, 67
# Different odd multiples of the number that sides may have to be multiples of.
TIMES = 3, 5
LARGEST_STRIDE = 32


class DeclaredMaps(NamedTuple):
    """What a network declares: channels and strides of its maps, and the side of the images that it was made for.

    `fixed`: it may accept no other size.
    """

    channels: Sequence[int]
    strides: Sequence[int]
    side: int
    fixed: bool = False


class MapFacts(NamedTuple):
    """Channels and strides of the maps, fine to coarse, of images whose sides are multiples of `multiple`.

    Sides have to be at least `least`. `channels_last`: the maps are [B, h, w, C].
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    multiple: int = 1
    least: int = 1
    channels_last: bool = False


def pad_images(x: Tensor, facts: MapFacts) -> Tensor:
    """Normalized images [B, 3, H, W], padded with zeros at the right and bottom to a size that is accepted."""
    if facts.multiple == facts.least == 1:
        return x
    return functional.pad(x, [0, _missing(x.shape[-1], facts), 0, _missing(x.shape[-2], facts)])


def _missing(length: int, facts: MapFacts) -> int:
    missing = -length % facts.multiple
    return missing if facts.least <= facts.multiple else max(missing, facts.least - length)


def crop_maps(maps: Iterable[Tensor], size: Sequence[int], facts: MapFacts) -> tuple[Tensor, ...]:
    """The parts of the maps [B, C, h, w] of padded images that belong to the original `size` (height, width)."""
    maps = tuple(y.permute(0, 3, 1, 2) for y in maps) if facts.channels_last else tuple(maps)
    if facts.multiple == facts.least == 1:
        return maps
    # Not -(-side // stride): division in ONNX rounds toward 0, and an exported graph would lose a row.
    counts = [[(side + stride - 1) // stride for side in size] for stride in facts.strides]
    return tuple(_first(y, *count) for y, count in zip(maps, counts, strict=True))


def _first(x: Tensor, rows: int, columns: int) -> Tensor:
    """The first rows and columns. Under export with free sizes, a slice would specialize on whether these are all."""
    if exporting():
        for axis, count in ((-2, rows), (-1, columns)):
            x = x.index_select(axis, torch.arange(count, device=x.device))
        return x
    return x[..., :rows, :columns]


def find_maps(net: nn.Module, name: str, declared: DeclaredMaps | None = None) -> MapFacts:
    """Try a network on a few small images; its mode and its statistics stay as they were.

    Args:
        net: module that maps [B, 3, H, W] to a list or tuple of feature maps.
        name: used in messages.
        declared: what the network declares; without it, the strides are measured.

    Raises:
        CrissCrossError: it accepts no images, or one size alone, or returns something else.
    """
    with evaluating(net), torch.no_grad():
        return _found(net, name, declared)


def _found(net: nn.Module, name: str, declared: DeclaredMaps | None) -> MapFacts:
    odd = _maps_of(net, name, declared, ODD)
    if declared and isinstance(odd, _Maps) and odd.fit(declared.strides):
        # Tables of relative positions may fit smaller images and no larger ones.
        if declared.fixed and isinstance(_maps_of(net, name, declared, (declared.side, 2 * declared.side)), str):
            raise CrissCrossError(
                f"backbone {name} takes no images beyond {declared.side} x {declared.side}; choose another backbone"
            )
        return odd.facts(declared.strides)
    rough, reasons = None, []
    for multiple, size in _sizes(declared):
        maps = _maps_of(net, name, declared, size)
        if isinstance(maps, str):
            reasons.append(f"cannot take a {size[0]} x {size[1]} image: {maps}")
            continue
        strides = declared.strides if declared else maps.strides()
        if maps.fit(strides):
            anything = isinstance(odd, _Maps) and odd.fit(strides)
            return maps.facts(strides)._replace(multiple=1 if anything else multiple)
        reasons.append("gives feature maps that do not grow with the image by its strides")
        if rough is None and maps.grow(strides):
            rough = maps.facts(strides)._replace(least=1 if isinstance(odd, _Maps) else size[0])
    if rough:
        # Convolutions without padding lose the border: the maps are a little smaller than declared.
        return rough
    if declared and isinstance(_maps_of(net, name, declared, (declared.side, declared.side)), _Maps):
        only = f"takes images of {declared.side} x {declared.side} alone"
        raise CrissCrossError(f"backbone {name} {only}, and timm gives it no other sizes; choose another backbone")
    raise CrissCrossError(f"backbone {name} {reasons[0]}")


def _sizes(declared: DeclaredMaps | None) -> list[tuple[int, tuple[int, int]]]:
    """Numbers that sides may have to be multiples of, each with an image size that shows it."""
    stride = max(declared.strides) if declared else LARGEST_STRIDE
    sizes = [(multiple, (TIMES[0] * multiple, TIMES[1] * multiple)) for multiple in (stride, 2 * stride)]
    # Window attention needs whole windows along each side of every map.
    return [*sizes, (declared.side, (declared.side, 2 * declared.side))] if declared else sizes


class _Maps(NamedTuple):
    """The feature maps of an image of `size`: (height, width) and channels of each."""

    size: tuple[int, int]
    sides: list[tuple[int, int]]
    channels: tuple[int, ...]
    channels_last: bool

    def fit(self, strides: Sequence[int]) -> bool:
        """Whether every map has ceil(side / stride) rows and columns."""
        return self.sides == [(-(-self.size[0] // stride), -(-self.size[1] // stride)) for stride in strides]

    def grow(self, strides: Sequence[int]) -> bool:
        """Whether the sides of every map differ by the difference of the image's sides over the stride."""
        more = self.size[1] - self.size[0]
        return [wide - tall for tall, wide in self.sides] == [more // stride for stride in strides]

    def strides(self) -> list[int]:
        """The stride of each map: the smallest power of two, or else the smallest number, that explains its size."""
        alone = [self._replace(sides=[sides]) for sides in self.sides]
        return [next((s for s in _powers_first(self.size[0]) if one.fit([s])), one.rough_stride()) for one in alone]

    def rough_stride(self) -> int:
        """The stride of a single map whose size no number explains exactly."""
        ((tall, wide),) = self.sides
        return max(round((self.size[1] - self.size[0]) / max(wide - tall, 1)), 1)

    def facts(self, strides: Sequence[int]) -> MapFacts:
        """The facts of the network if it accepts any size."""
        return MapFacts(self.channels, tuple(strides), channels_last=self.channels_last)


def _powers_first(most: int) -> list[int]:
    return sorted(range(1, most + 1), key=lambda number: (number & (number - 1) != 0, number))


def _maps_of(net: nn.Module, name: str, declared: DeclaredMaps | None, size: tuple[int, int]) -> _Maps | str:
    """The maps of an image of this size, or the reason why there are none."""
    try:
        maps = list(net(torch.zeros(1, 3, *size)))
    except Exception as error:
        return " ".join(str(error).split())[:200] or type(error).__name__
    shapes = [tuple(entry.shape) if isinstance(entry, Tensor) else () for entry in maps]
    if any(len(shape) != 4 for shape in shapes):
        wrong = next(shape for shape in shapes if len(shape) != 4)
        raise CrissCrossError(f"backbone {name}: feature maps must be [B, C, H, W], got {wrong or 'no tensor'}")
    if len(maps) < 2:
        raise CrissCrossError(f"backbone {name}: at least two feature maps are needed, got {len(maps)}")
    if any(0 in shape for shape in shapes):
        return "a feature map is empty"
    first, last = (tuple(shape[axis] for shape in shapes) for axis in (1, 3))
    if declared and last == tuple(declared.channels) != first:
        return _Maps(size, [(shape[1], shape[2]) for shape in shapes], last, True)
    return _Maps(size, [(shape[2], shape[3]) for shape in shapes], first, False)
