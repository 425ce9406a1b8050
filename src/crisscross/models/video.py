"""CCNet over clips: the 2-D backbone on every frame, 3-D criss-cross attention over all of them (paper, TPAMI).

Everything else is the network for images: heads, losses, inference, files.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor

from crisscross import inference
from crisscross.config import Experiment
from crisscross.data.samples.clips import places_of, windows
from crisscross.errors import CrissCrossError
from crisscross.layers.modes import evaluating
from crisscross.models.heads.ccnet import labeled_frames
from crisscross.models.heads.contract import Logits
from crisscross.models.segmenter import Segmenter


@dataclass
class Frame:
    """A frame in a stream, uint8 [3, H, W], and what was computed of it by number of the pass (and window)."""

    image: Tensor
    seen: dict[int, Any] = field(default_factory=dict)


class VideoSegmenter(Segmenter):
    """A `Segmenter` for clips of `model.frames` frames, of which `model.label` are labeled: middle, last or every.

    In training it takes clips [B * T, 3, H, W], the frames of one behind those of the other (or [B, T, 3, H, W]), and
    gives logits of the labeled frames in the same order. A single image is labeled as a clip that stands still;
    `label_frames` labels a video.

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

    def image_logits(self, x: Tensor) -> Tensor:
        """Coarse logits [1, K, h, w] of one image [1, 3, H, W], as a clip that stands still."""
        seen = self._see(x)
        return self._attend([seen] * self.frames, places_of(self.frames, self.experiment.model.label)[:1])

    def label_frames(self, frames: Iterable[Tensor], tta: bool = False) -> Iterator[Tensor]:
        """As `Segmenter.label_frames`. Each frame goes through the backbone once; T frames are held.

        With `label` middle or last, what a clip lacks at the ends of the video is filled by repeating its first or
        last frame; with `every`, one clip follows the other and the last begins earlier.

        Raises:
            CrissCrossError: there are fewer than T frames, or they are not of one size.
        """
        model = self.experiment.model
        for window, places in windows(map(Frame, frames), model.frames, model.label):
            yield from self._window_labels(window, places, tta)

    def _window_labels(self, window: Sequence[Frame], places: Sequence[int], tta: bool) -> Iterator[Tensor]:
        sizes = {tuple(frame.image.shape) for frame in window}
        if len(sizes) > 1:
            raise CrissCrossError(f"the frames of a clip must have one size, got {' and '.join(map(str, sizes))}")
        # What was seen of a frame in an earlier window is kept, and its image not needed again.
        fresh = [frame for frame in {id(frame): frame for frame in window}.values() if not frame.seen] or [window[-1]]
        clip = torch.stack([frame.image for frame in fresh])
        made: dict[int, Tensor] = {}
        for number in range(len(places)):
            calls = count()

            def logits(x: Tensor, number: int = number, calls: Iterator[int] = calls) -> Tensor:
                call = next(calls)
                if call not in made:
                    for index, frame in enumerate(fresh):
                        if call not in frame.seen:
                            frame.seen[call] = self._see(x[index : index + 1])
                    made[call] = self._attend([frame.seen[call] for frame in window], places)
                return made[call][number : number + 1]

            with evaluating(self), torch.inference_mode():
                # Of what all frames showed, one is enough to tell the size.
                shown = clip[:1] if made else clip
                labels = inference.labels(self._passes(shown, tta, logits_of=logits)).cpu()
            yield labels

    def _see(self, x: Tensor) -> Any:
        return self.head.of_frame(self.backbone(x))

    def _attend(self, clip: Sequence[Any], places: Sequence[int]) -> Tensor:
        """Logits [len(places), K, h, w] of some frames of one clip."""
        return self.head.of_clip(clip, places)


def create_segmenter(experiment: Experiment, initialize: bool = True) -> Segmenter:
    """The network of an experiment: for images, or for clips where `model.frames` is set; see `Segmenter`."""
    kind = VideoSegmenter if experiment.model.frames else Segmenter
    return kind(experiment, initialize)
