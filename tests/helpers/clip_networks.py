"""Small networks for clips, drawn frames as tensors, and a drawn video file."""

from fractions import Fraction
from pathlib import Path

import torch
from clips_data import draw_frame

import crisscross
from crisscross.config import Experiment, apply_overrides
from crisscross.models import create_segmenter
from crisscross.video import VideoFrame, VideoWriter

MILLISECOND = Fraction(1, 1000)

TINY = {
    "model.backbone": "test_resnet",
    "model.head.channels": 16,
    "model.aux_head.channels": 8,
    "model.head.recurrence": 3,
    "model.head.dropout": 0.0,
    "model.aux_head.dropout": 0.0,
    "data.classes": ["ground", "square"],
    "data.palette": [[20, 20, 20], [255, 255, 0]],
}


def network(frames: int, label: str = "middle", **changes) -> crisscross.Segmenter:
    torch.manual_seed(0)
    made = create_segmenter(
        apply_overrides(Experiment(), {**TINY, "model.frames": frames, "model.label": label, **changes})
    )
    if made.experiment.model.head.recurrence:
        # A closed gate would hide the attention.
        made.head.attend.attention.gamma.data.fill_(0.7)
    return made.eval()


def drawn(count: int, height: int = 48, width: int = 64) -> list[torch.Tensor]:
    return [torch.from_numpy(draw_frame(index, height, width)[0]).permute(2, 0, 1) for index in range(count)]


def film(path: Path, times=range(0, 800, 40), base: Fraction = MILLISECOND, size: tuple[int, int] = (48, 64)):
    with VideoWriter(path, path.suffix, base, Fraction(25)) as writer:
        for index, pts in enumerate(times):
            writer.write(VideoFrame(draw_frame(index, *size)[0], pts, 40))
    return path
