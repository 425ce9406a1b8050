"""CE2P for human parsing (Ruan et al. 2019), with criss-cross attention in the place of its context module.

Shapes: [B, C_i, h_i, w_i] are the backbone's maps from stride 4 to its last; h, w those at stride 4.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from crisscross.config.heads import CE2PConfig
from crisscross.layers import ConvNormAct
from crisscross.models.heads.ccnet import CrissCrossContext
from crisscross.models.heads.contract import HeadInputs, Logits, classifier
from crisscross.models.heads.decoder import fine_map, resized

# At the published width of 512 the parsing and edge features have 256 channels, the high-resolution ones 48.
WIDTH_FRACTION, DETAIL_FRACTION = (1, 2), (3, 32)
EDGE_KINDS = 2
# A 1 x 1 convolution with norm and activation, of its channels in and out.
Conv = Callable[[int, int], ConvNormAct]


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
    """Edges between classes from several maps, the first of stride 4; all share the layer that finds edges."""

    def __init__(self, in_channels: Sequence[int], width: int, align_corners: bool, conv: Conv) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(conv(channels, width) for channels in in_channels)
        self.find = nn.Conv2d(width, EDGE_KINDS, 3, padding=1)
        self.fuse = nn.Conv2d(EDGE_KINDS * len(in_channels), EDGE_KINDS, 1)
        self.align_corners = align_corners

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Features of all maps side by side [B, n width, h, w], and in training edge logits [B, 2, h, w]."""
        reduced = [reduce(maps[place]) for place, reduce in enumerate(self.reduce)]
        # Edges are found at every map's own size, and fused at stride 4.
        found = self.fuse(self._beside([self.find(x) for x in reduced])) if self.training else None
        return self._beside(reduced), found

    def _beside(self, maps: Sequence[Tensor]) -> Tensor:
        first, *others = maps
        return torch.cat([first, *(resized(x, first, self.align_corners) for x in others)], dim=1)


class CE2PHead(nn.Module):
    """Context, high-resolution and edge branch: maps from stride 4 to the last -> class logits [B, K, h, w].

    In training, `aux` are the logits before the edge features came in and `edges` those of the edge branch, both at
    stride 4, and `embedding` is at the stride of the last map.

    Raises:
        CrissCrossError: there is no feature map of stride 4.
    """

    Config = CE2PConfig
    classifiers = ("classify", "classify_before")
    gives_aux = True

    def __init__(self, config: CE2PConfig, given: HeadInputs) -> None:
        super().__init__()
        first = fine_map(given, "model.head.name=ce2p", "model.head.name=ccnet")
        in_channels, classes, corners = given.channels[first:], given.classes, given.align_corners
        self.maps = len(in_channels)
        conv = partial(ConvNormAct, kernel_size=1, norm=given.variant.norm, activation=config.activation)
        fractions = (WIDTH_FRACTION, DETAIL_FRACTION)
        width, detail = (max(config.channels * part // whole, 1) for part, whole in fractions)
        self.context = CrissCrossContext(config, given, config.activation, config.activation)
        self.decode = ParsingDecoder(config.channels, in_channels[0], width, detail, corners, conv)
        self.edge = EdgeBranch(in_channels[:-1], width, corners, conv)
        self.classify_before = classifier(width, classes)
        self.join = conv(width * self.maps, width)
        self.dropout = nn.Dropout2d(config.dropout)
        self.classify = classifier(width, classes)
        self.embed = nn.Conv2d(config.channels, given.embedding, 1) if given.embedding else None

    def forward(self, maps: Sequence[Tensor]) -> Logits:
        """The backbone's maps, fine to coarse -> logits; maps finer than stride 4 are passed over."""
        maps = [maps[place - self.maps] for place in range(self.maps)]
        attended = self.context.attended(maps[-1])
        embedding = self.embed(attended) if self.training and self.embed is not None else None
        parsing = self.decode(self.context.joined(maps[-1], attended), maps[0])
        edge_features, edges = self.edge(maps[:-1])
        main = self.classify(self.dropout(self.join(torch.cat([parsing, edge_features], dim=1))))
        return Logits(main, self.classify_before(parsing) if self.training else None, edges, embedding)
