"""CCNet over clips: the 2-D backbone on every frame, 3-D criss-cross attention over all of them (paper, TPAMI).

Everything else is the network for images: heads, losses, inference, files.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crisscross.config import Experiment
from crisscross.data.samples.windows import places_of
from crisscross.layers import RecurrentCrissCrossAttention3d
from crisscross.layers.modes import dtype_of
from crisscross.models.heads import CrissCrossHead
from crisscross.models.segmenter import Logits, Segmenter


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


class Encoded(NamedTuple):
    """What the backbone makes of a frame [1, C, h, w], and the head's reduction of it [1, channels, h, w]."""

    features: Tensor
    reduced: Tensor


class VideoSegmenter(Segmenter):
    """A `Segmenter` for clips of `model.frames` frames, of which `model.label` are labeled: middle, last or every.

    In training it takes clips [B * T, 3, H, W], the frames of one behind those of the other (or [B, T, 3, H, W]), and
    gives logits of the labeled frames in the same order. Its predictor labels a single image as a clip that stands
    still, and videos by `label_frames`.

    Args:
        experiment: with `model.frames` of 1 or more; `model.recurrence` is R of the 3-D attention, where three passes
            reach every position of the clip.
        initialize: as in `Segmenter`.
    """

    # The configuration refuses any other head for clips.
    head: CrissCrossHead

    def __init__(self, experiment: Experiment, initialize: bool = True) -> None:
        super().__init__(experiment, initialize)
        model = experiment.model
        if model.recurrence:
            self.head.attend = ClipAttention(model.frames, model.channels, model.recurrence, model.reduction)

    @property
    def frames(self) -> int:
        """T, the number of frames in a clip."""
        return self.experiment.model.frames

    def coarse(self, x: Tensor) -> Logits:
        """As `Segmenter.coarse`, for the labeled frames of clips.

        Raises:
            ValueError: the number of frames is no multiple of T.
        """
        if x.dim() == 5:
            x = x.flatten(0, 1)
        if len(x) % self.frames:
            raise ValueError(f"x must hold whole clips of {self.frames} frames, got {len(x)} frames")
        maps = self.backbone(x)
        places = places_of(self.frames, self.experiment.model.label)
        # They lie side by side. A list of them would have to be copied to a GPU, which waits for it.
        labeled = torch.arange(len(x), device=x.device).view(-1, self.frames)[:, places[0] : places[-1] + 1].flatten()
        features, attended = maps[-1][labeled], self.head.attended(maps[-1])[labeled]
        aux = self.aux_head(maps[-2][labeled]) if self.training and self.aux_head is not None else None
        main = self.head.logits(features, attended)
        embed = self.head.embed if self.training else None
        embedding = None if embed is None else embed(attended)
        return Logits(main, aux, embedding)

    def encode(self, x: Tensor) -> Encoded:
        """What the backbone and the head's reduction make of one frame [1, 3, H, W], whatever clip it is part of."""
        features = self.backbone(x.to(dtype_of(self)))[-1]
        return Encoded(features, self.head.reduce(features))

    def decode(self, clip: Sequence[Encoded], places: Sequence[int]) -> Tensor:
        """Logits [len(places), K, h, w] of some neighboring frames of one clip of T."""
        attended = self.head.attend(torch.cat([frame.reduced for frame in clip]))
        features = torch.cat([clip[place].features for place in places])
        return self.head.logits(features, attended[places[0] : places[-1] + 1])


def create_segmenter(experiment: Experiment, initialize: bool = True) -> Segmenter:
    """The network of an experiment: for images, or for clips where `model.frames` is set; see `Segmenter`."""
    kind = VideoSegmenter if experiment.model.frames else Segmenter
    return kind(experiment, initialize)
