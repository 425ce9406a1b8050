"""What others report of systems that our own recipes describe. Never mixed with what we measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """mIoU in percent, single scale and multi-scale + flip where told, and who reports it on what."""

    miou: float
    miou_tta: float | None
    source: str


REPORTED = {"cityscapes-r101d-ohem": Reported(80.95, 81.53, "PaddleSeg, Cityscapes val")}
