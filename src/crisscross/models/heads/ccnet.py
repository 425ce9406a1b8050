"""CCNet's head as published (MMSegmentation's CCHead), for images and for clips."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crisscross.config.heads import CCNetConfig, ContextConfig
from crisscross.layers import ConvNormAct, RecurrentCrissCrossAttention, RecurrentCrissCrossAttention3d
from crisscross.models.heads.contract import HeadInputs, Logits, classifier
from crisscross.models.heads.decoder import PyramidDecoder, fine_map


class ClipAttention(RecurrentCrissCrossAttention3d):
    """3-D attention among maps that lie one behind the other: [B * T, C, h, w] -> the same shape.

    Args:
        frames: T.
        channels, recurrence, reduction: as in `RecurrentCrissCrossAttention3d`.
    """

    def __init__(self, frames: int, channels: int, recurrence: int, reduction: int) -> None:
        super().__init__(channels, recurrence, reduction)
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each clip of T maps."""
        clips = x.view(-1, self.frames, *x.shape[1:]).transpose(1, 2)
        return super().forward(clips).transpose(1, 2).reshape(x.shape)


class CrissCrossContext(nn.Module):
    """Reduce, attend R times with shared weights, refine, join the untouched features: CCNet up to its classifier.

    Args:
        config: width, R and reduction.
        given: the features, the variant and the frames of a clip.
        around: activation of the convolutions before and after the attention, the variant's by default.
        after: activation of the last convolution, the variant's by default.

    Maps the last feature map [B, C, h, w] to features [B, channels, h, w].
    """

    def __init__(
        self, config: ContextConfig, given: HeadInputs, around: str | None = None, after: str | None = None
    ) -> None:
        super().__init__()
        variant, channels, features = given.variant, config.channels, given.channels[-1]
        around, after = around or variant.around, after or variant.after
        self.reduce = ConvNormAct(features, channels, norm=variant.norm, activation=around)
        self.attend: nn.Module = nn.Identity()
        what = (channels, config.recurrence, config.reduction)
        if config.recurrence:
            self.attend = ClipAttention(given.frames, *what) if given.frames else RecurrentCrissCrossAttention(*what)
        self.refine = ConvNormAct(channels, channels, norm=variant.norm, activation=around)
        self.fuse = ConvNormAct(
            features + channels, channels, norm=variant.norm, activation=after, bias=variant.fuse_bias
        )

    def attended(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> what comes out of the attention, [B, channels, h, w]."""
        return self.attend(self.reduce(x))

    def joined(self, x: Tensor, attended: Tensor) -> Tensor:
        """Features [B, channels, h, w] of untouched ones and of what the attention made of them."""
        # The untouched features come first: the published weights depend on this order.
        return self.fuse(torch.cat([x, self.refine(attended)], dim=1))


class CrissCrossHead(CrissCrossContext):
    """`CrissCrossContext`, a pyramid where it is asked for, and a classifier.

    Gives logits [B, K, h, w] at the stride of the last feature map, with a pyramid at stride 4. Of clips, logits of the
    labeled frames alone, [B * labeled, K, h, w].

    Raises:
        CrissCrossError: a pyramid, and no feature map of stride 4.
    """

    Config = CCNetConfig
    classifiers = ("classify",)

    def __init__(self, config: CCNetConfig, given: HeadInputs) -> None:
        super().__init__(config, given)
        self.pyramid, first = None, len(given.channels) - 1
        if config.pyramid:
            first = fine_map(given, f"model.head.pyramid={config.pyramid}", "model.head.pyramid=0")
            self.pyramid = PyramidDecoder([*given.channels[first:-1], config.channels], config.pyramid, given)
        # The places of the maps that are read, fine to coarse, counted from the last.
        self.read = range(first - len(given.channels), 0)
        self.dropout = nn.Dropout2d(config.dropout)
        self.classify = classifier(config.pyramid or config.channels, given.classes)
        self.embed = nn.Conv2d(config.channels, given.embedding, 1) if given.embedding else None
        self.frames, self.labeled = given.frames, given.labeled

    def forward(self, maps: Sequence[Tensor]) -> Logits:
        """The backbone's maps, of which the last is read, and with a pyramid those from stride 4 on -> logits."""
        features = [maps[place] for place in self.read]
        attended = self.attended(features[-1])
        if self.frames:
            places = labeled_frames(len(attended), self.frames, self.labeled, attended.device)
            features, attended = [x[places] for x in features], attended[places]
        main = self.logits(features, attended)
        embedding = self.embed(attended) if self.training and self.embed is not None else None
        return Logits(main, embedding=embedding)

    def logits(self, features: Sequence[Tensor], attended: Tensor) -> Tensor:
        """Logits [B, K, h, w] of the maps that are read and what the attention made of the last."""
        x = self.joined(features[-1], attended)
        if self.pyramid is not None:
            x = self.pyramid([*features[:-1], x])
        return self.classify(self.dropout(x))

    def encode(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """What is computed of a frame once, whatever clips it is in: its features, and their reduction."""
        features = [maps[place] for place in self.read]
        return features, self.reduce(features[-1])

    def decode(self, frames: Sequence[tuple[list[Tensor], Tensor]], places: Sequence[int]) -> Tensor:
        """Logits [len(places), K, h, w] of neighboring frames of one clip, of `encode` of each of its frames."""
        attended = self.attend(torch.cat([reduced for _, reduced in frames]))
        features = [torch.cat(maps) for maps in zip(*(frames[place][0] for place in places), strict=True)]
        return self.logits(features, attended[places[0] : places[-1] + 1])


def labeled_frames(count: int, frames: int, labeled: Sequence[int], device: torch.device) -> Tensor:
    """The numbers of the labeled frames among `count` frames of whole clips of `frames`."""
    # They lie side by side. A list of them would have to be copied to a GPU, which waits for it.
    places = torch.arange(count, device=device).view(-1, frames)
    return places[:, labeled[0] : labeled[-1] + 1].flatten()
