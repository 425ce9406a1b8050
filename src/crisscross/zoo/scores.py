"""Scores beside those of `published.py`: what we measured, what others report, what the paper has. Never mixed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """What we measured: mIoU in percent on `data`; `page` tells how, under docs/.

    `miou_tta` is the score with multi-scale + flip, None where it was not measured.
    """

    data: str
    miou: float
    page: str
    miou_tta: float | None = None


MEASURED = {
    "camvid-light": Measured("CamVid test, the recipe twice", 66.5, "results/camvid.md", 67.5),
    "camvid-light-baseline": Measured("CamVid test", 65.2, "results/camvid.md"),
    "camvid-r50": Measured("CamVid test, `resnet50` in bf16, 2424 iterations", 64.9, "results/camvid.md"),
    "demo": Measured("drawn scenes", 80.7, "results/demo.md"),
}


@dataclass(frozen=True)
class Reported:
    """What others report of a recipe of ours: mIoU in percent, with multi-scale + flip where known, and the source."""

    miou: float
    miou_tta: float | None
    source: str


REPORTED = {"cityscapes-r101d-ohem": Reported(80.95, 81.53, "PaddleSeg, Cityscapes val")}


@dataclass(frozen=True)
class PaperScores:
    """Percent on LIP val, as the paper's table has them."""

    pixel_accuracy: float
    mean_accuracy: float
    miou: float


LIP_PAPER = {"lip-ce2p-r101": PaperScores(88.01, 63.91, 55.47)}
