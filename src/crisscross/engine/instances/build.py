"""The network that a run of instances trains: its classes, and the weights to start from."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.config import InstanceExperiment
from crisscross.data.coco_instances import InstanceSplit
from crisscross.errors import CrissCrossError
from crisscross.models.instances import InstanceSegmenter, fill_body, fill_from_mask_rcnn, torchvision_classes


@dataclass(frozen=True)
class Start:
    """Local files to start from: a ResNet's weights, or a whole Mask R-CNN in torchvision's names (or ours)."""

    backbone: Path | None = None
    whole: Path | None = None


def with_data_classes(
    experiment: InstanceExperiment, split: InstanceSplit, whole: dict[str, Tensor]
) -> InstanceExperiment:
    """The experiment with the data's classes: as COCO's weights number them where these are to be kept.

    Raises:
        CrissCrossError: the experiment names classes that the data does not have.
    """
    data = experiment.data
    if data.classes:
        known = dict(zip(data.categories, data.classes, strict=True))
        for number, name in zip(split.categories, split.classes, strict=True):
            if known.get(number) != name:
                raise CrissCrossError(
                    f"{split.file}: category {number} is {name!r}, data.classes has {known.get(number)!r} there"
                )
        return experiment
    classes, categories = split.classes, split.categories
    published = torchvision_classes()
    outputs = len(whole["roi_heads.box_predictor.cls_score.weight"]) - 1 if whole else 0
    wants_coco = outputs == len(published) or (not whole and experiment.model.pretrained == "coco")
    if wants_coco and all(
        1 <= n <= len(published) and published[n - 1] == name for n, name in zip(categories, classes, strict=True)
    ):
        classes, categories = published, tuple(range(1, len(published) + 1))
    return replace(experiment, data=replace(data, classes=classes, categories=categories))


def build_network(
    experiment: InstanceExperiment, start: Start, whole: dict[str, Tensor], resume: bool
) -> tuple[InstanceSegmenter, dict[str, Any], str]:
    """The network, facts to store about its weights, and one line to show, or "".

    Args:
        experiment: with the classes of the data.
        start: local files; without any torchvision's own weights are fetched.
        whole: the tensors of `start.whole`, where that is given.
        resume: all weights are filled in afterwards, so none are fetched.

    Raises:
        CrissCrossError: the weights cannot be had, or do not fit.
    """
    local = start.whole or start.backbone
    segmenter = InstanceSegmenter(experiment, initialize=not resume and local is None)
    if resume or local is None:
        return segmenter, {}, ""
    line = ""
    if start.whole:
        if unfit := fill_from_mask_rcnn(segmenter, whole, str(start.whole)):
            line = f"{start.whole}: has other classes; {len(unfit)} tensors of the classifiers start anew"
    else:
        fill_body(segmenter, read_backbone_weights(local), str(local))
    digest = hashlib.sha256(local.read_bytes()).hexdigest()
    return segmenter, {"start_weights": {"file": local.name, "sha256": digest}}, line
