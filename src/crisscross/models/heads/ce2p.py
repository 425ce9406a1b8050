"""CE2P for human parsing (Ruan et al. 2019), with criss-cross attention in the place of its context module.

Shapes: [B, C_i, h_i, w_i] are the backbone's maps from stride 4 to its last; h, w those at stride 4.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross.layers import ConvNormAct
from crisscross.models.heads.ccnet import CrissCrossContext, activations, classifier

# At the published width of 512 the parsing and edge features have 256 channels, the high-resolution ones 48.
WIDTH_SHARE, DETAIL_SHARE = (1, 2), (3, 32)
EDGE_KINDS = 2
# A 1 x 1 convolution with norm and activation, of its channels in and out.
Conv = Callable[[int, int], ConvNormAct]


class ParsingLogits(NamedTuple):
    """Class logits [B, K, h, w] at stride 4; all but `main` are there in training only.

    `before`: those before the edge features came in, None without an edge branch, as `edges` [B, 2, h, w] (no edge,
    edge). `embedding` [B, D, h', w'] is at the backbone's output stride, None where no loss asks for it.
    """

    main: Tensor
    before: Tensor | None = None
    edges: Tensor | None = None
    embedding: Tensor | None = None


def resized(x: Tensor, like: Tensor, align_corners: bool) -> Tensor:
    """[B, C, *, *] at the size of `like`, bilinear."""
    return functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=align_corners)


class ParsingDecoder(nn.Module):
    """The high-resolution branch: context features [B, C, h', w'] beside those of stride 4 -> [B, width, h, w]."""

    def __init__(self, channels: int, fine: int, width: int, detail: int, align_corners: bool, conv: Conv) -> None:
        super().__init__()
        self.context = conv(channels, width)
        self.detail = conv(fine, detail)
        self.join = conv(width + detail, width)
        self.refine = conv(width, width)
        self.align_corners = align_corners

    def forward(self, context: Tensor, fine: Tensor) -> Tensor:
        """Context [B, C, h', w'] and the map of stride 4 -> parsing features [B, width, h, w]."""
        wide = resized(self.context(context), fine, self.align_corners)
        return self.refine(self.join(torch.cat([wide, self.detail(fine)], dim=1)))


class EdgeBranch(nn.Module):
    """Edges between classes from several maps, the first of stride 4; all share the layer that looks for edges."""

    def __init__(self, in_channels: Sequence[int], width: int, align_corners: bool, conv: Conv) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(conv(channels, width) for channels in in_channels)
        self.find = nn.Conv2d(width, EDGE_KINDS, 3, padding=1)
        self.fuse = nn.Conv2d(EDGE_KINDS * len(in_channels), EDGE_KINDS, 1)
        self.align_corners = align_corners

    def reduced(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The features of every map at its own size, [B, width, h_i, w_i]."""
        return [reduce(maps[place]) for place, reduce in enumerate(self.reduce)]

    def features(self, reduced: Sequence[Tensor]) -> Tensor:
        """All of them at stride 4, side by side: [B, n width, h, w]."""
        return self._beside(reduced)

    def logits(self, reduced: Sequence[Tensor]) -> Tensor:
        """Edge logits [B, 2, h, w]: found at every map's own size, fused at stride 4."""
        return self.fuse(self._beside([self.find(x) for x in reduced]))

    def _beside(self, maps: Sequence[Tensor]) -> Tensor:
        first, *others = maps
        return torch.cat([first, *(resized(x, first, self.align_corners) for x in others)], dim=1)


class CE2PHead(nn.Module):
    """Context, high-resolution and edge branch: maps from stride 4 to the last -> class logits at stride 4.

    Args:
        in_channels: channels of these maps, fine to coarse.
        classes: number of classes K.
        context: what reads the last map; CE2P has pyramid pooling here, the paper criss-cross attention.
        channels: those that `context` gives.
        dropout: share of channels dropped before the final classifier.
        edge: whether there is an edge branch; without it the parsing features are classified directly.
        align_corners: how maps are brought to stride 4.
        activation: as in `CrissCrossContext`; outside the attention.
        norm: `batch` or `absolute`, see `ConvNormAct`.
        embedding: channels of `embed`, which the category-consistent loss reads in training; 0 = there is none.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        classes: int,
        context: CrissCrossContext,
        channels: int,
        dropout: float,
        edge: bool = True,
        align_corners: bool = False,
        activation: str = "relu",
        norm: str = "batch",
        embedding: int = 0,
    ) -> None:
        super().__init__()
        conv = partial(ConvNormAct, kernel_size=1, norm=norm, activation=activations(activation)[1])
        width, detail = (max(channels * part // whole, 1) for part, whole in (WIDTH_SHARE, DETAIL_SHARE))
        self.context = context
        self.decode = ParsingDecoder(channels, in_channels[0], width, detail, align_corners, conv)
        self.edge = EdgeBranch(in_channels[:-1], width, align_corners, conv) if edge else None
        self.classify_before = classifier(width, classes) if edge else None
        self.join = conv(width * len(in_channels), width) if edge else None
        self.dropout = nn.Dropout2d(dropout)
        self.classify = classifier(width, classes)
        self.embed = nn.Conv2d(channels, embedding, 1) if embedding else None
        self.maps = len(in_channels)

    def forward(self, features: Sequence[Tensor]) -> ParsingLogits:
        """The backbone's maps, fine to coarse -> logits; maps finer than stride 4 are passed over."""
        maps = [features[place - self.maps] for place in range(self.maps)]
        attended = self.context.attended(maps[-1])
        embedding = self.embed(attended) if self.training and self.embed is not None else None
        parsing = self.decode(self.context.joined(maps[-1], attended), maps[0])
        if self.edge is None or self.join is None or self.classify_before is None:
            return ParsingLogits(self.classify(self.dropout(parsing)), embedding=embedding)
        reduced = self.edge.reduced(maps[:-1])
        joined = self.join(torch.cat([parsing, self.edge.features(reduced)], dim=1))
        main = self.classify(self.dropout(joined))
        if not self.training:
            return ParsingLogits(main)
        return ParsingLogits(main, self.classify_before(parsing), self.edge.logits(reduced), embedding)
