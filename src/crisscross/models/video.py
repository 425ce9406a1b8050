"""CCNet over clips: the 2-D backbone on every frame, 3-D criss-cross attention over all of them (paper, TPAMI).

Everything else is the network for images: heads, losses, inference, files.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from crisscross.config import Experiment
from crisscross.data.samples.windows import places_of
from crisscross.layers.modes import dtype_of
from crisscross.models.heads.ccnet import labeled_frames
from crisscross.models.heads.contract import Logits
from crisscross.models.segmenter import Segmenter


class VideoSegmenter(Segmenter):
    """A `Segmenter` for clips of `model.frames` frames, of which `model.label` are labeled: middle, last or every.

    In training it takes clips [B * T, 3, H, W], the frames of one behind those of the other (or [B, T, 3, H, W]), and
    gives logits of the labeled frames in the same order. Its predictor labels a single image as a clip that stands
    still, and videos by `label_frames`.

    Args:
        experiment: with `model.frames` of 1 or more; `model.head.recurrence` is R of the 3-D attention, where three
            passes reach every position of the clip.
        initialize: as in `Segmenter`.
    """

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
        aux = None
        if self.training and self.aux_head is not None:
            places = places_of(self.frames, self.experiment.model.label)
            aux = self.aux_head(maps[-2][labeled_frames(len(x), self.frames, places, x.device)])
        return self._logits(self.head(maps), aux)

    def encode(self, x: Tensor) -> Any:
        """What backbone and head compute of one frame [1, 3, H, W] once, whatever clip it is part of."""
        return self.head.encode(self.backbone(x.to(dtype_of(self))))

    def decode(self, clip: Sequence[Any], places: Sequence[int]) -> Tensor:
        """Logits [len(places), K, h, w] of some neighboring frames of one clip of T."""
        return self.head.decode(clip, places)


def create_segmenter(experiment: Experiment, initialize: bool = True) -> Segmenter:
    """The network of an experiment: for images, or for clips where `model.frames` is set; see `Segmenter`."""
    kind = VideoSegmenter if experiment.model.frames else Segmenter
    return kind(experiment, initialize)
