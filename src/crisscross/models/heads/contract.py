"""What a head is given, and what it returns.

A head is an `nn.Module` with three things:

- `Config`, a frozen dataclass: its settings, the keys of `model.head` beside `name`;
- `classifiers`, the names of its layers whose weights have the classes as their first dimension;
- `forward(maps) -> Logits`, of the backbone's feature maps, fine to coarse.

It is made with its `Config` and `HeadInputs`. A head that gives auxiliary logits of its own says `gives_aux = True`;
one for clips has `encode` and `decode`, as `CrissCrossHead` has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from crisscross.config.variants import VARIANTS, Variant


class Logits(NamedTuple):
    """Class logits `main` [B, K, h, w]; the others are there in training only, and only where a head has them.

    `aux` [B, K, h, w] are auxiliary logits, `edges` [B, 2, h, w] those of (no edge, edge), and `embedding`
    [B, D, h, w] is what the category-consistent loss reads.
    """

    main: Tensor
    aux: Tensor | None = None
    edges: Tensor | None = None
    embedding: Tensor | None = None


@dataclass(frozen=True)
class HeadInputs:
    """What a head is made for.

    Attributes:
        channels: of the backbone's feature maps, fine to coarse.
        strides: of the same maps.
        classes: number of classes K.
        embedding: channels D of `Logits.embedding` that the loss needs; 0 = none.
        align_corners: how maps and logits are resized.
        variant: the publisher's details.
        frames: frames T of a clip; 0 = single images. The maps then are those of B * T frames, the frames of one clip
            behind those of the other.
        labeled: which frames of a clip get logits, from the first to the last of them.
    """

    channels: Sequence[int]
    strides: Sequence[int]
    classes: int
    embedding: int = 0
    align_corners: bool = False
    variant: Variant = VARIANTS["mmseg"]
    frames: int = 0
    labeled: Sequence[int] = ()


class Head(Protocol):
    """The type of a head, see the module."""

    Config: ClassVar[type]
    classifiers: ClassVar[tuple[str, ...]]

    def __call__(self, maps: Sequence[Tensor]) -> Logits:
        """Logits of the backbone's feature maps [B, channels[i], h_i, w_i]."""
        ...


def classifier(channels: int, classes: int) -> nn.Conv2d:
    """A 1 x 1 convolution to `classes`, initialized as the published classifiers are."""
    layer = nn.Conv2d(channels, classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
