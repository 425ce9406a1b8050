"""Weights of Mask R-CNN: those to start a training from, and networks with theirs: ours, or torchvision's."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crisscross import zoo
from crisscross.checkpoints import native
from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.checkpoints.license import license_note, license_of
from crisscross.checkpoints.loading import find_file, with_overrides
from crisscross.checkpoints.reading import read_state_dict
from crisscross.checkpoints.warm_start import taken
from crisscross.config import from_dict
from crisscross.engine.task import Built, Start, facts_of_file
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.files import is_offline
from crisscross.instances.annotations import InstanceSplit, check_categories
from crisscross.instances.config import InstanceExperiment
from crisscross.instances.network import (
    SCORES,
    InstanceSegmenter,
    fill_body,
    fill_from_mask_rcnn,
    torchvision_classes,
    torchvision_file,
)

CLASSIFIERS = ("the classifiers of boxes and masks",)
# First digits of the SHA-256 of torchvision's published R-50, whose norms have an epsilon of 0.
COCO_V1 = "bf2d0c1e"


def load_instances(
    source: str | os.PathLike[str],
    device: str = "cpu",
    *,
    weights: str | os.PathLike[str] | None = None,
    offline: bool = False,
    **overrides: Any,
) -> InstanceSegmenter:
    """`crisscross.load` for instance segmentation: a network with its weights, in evaluation mode.

    Args:
        source: a run folder (its best weights, else the last), a file of ours, or a recipe's name. The name alone means
            torchvision's COCO weights, which are downloaded, the attention's gate closed.
        device: where to put it.
        weights: a file with the weights for the recipe `source`: ours, or a Mask R-CNN in torchvision's names.
        offline: download nothing; so does `CRISSCROSS_OFFLINE=1`.
        overrides: as in `crisscross.load`.

    Raises:
        CrissCrossError: nothing of that name, an unreadable file, or weights that do not fit.
    """
    path = native.run_weights(Path(weights or source))
    if path.is_file() and is_ours(path):
        return native.placed(_ours(path, overrides), device)
    if weights is None and path.is_file():
        raise CrissCrossError(f"{path}: does not describe its network; name a recipe, and this file with --weights")
    experiment = with_overrides(recipe(os.fspath(source)), overrides)
    if weights is None:
        return native.placed(_from_torchvision(experiment, offline), device)
    tensors = read_mask_rcnn(path)
    known, found = len(torchvision_classes()), len(tensors[SCORES]) - 1
    if found != known:
        raise CrissCrossError(f"{path}: has {found} classes without names; torchvision's COCO weights have {known}")
    segmenter = InstanceSegmenter(with_norm_eps(_with_coco(experiment), path))
    fill_from_mask_rcnn(segmenter, tensors, str(path))
    return native.placed(segmenter, device)


def recipe(name: str) -> InstanceExperiment:
    """The experiment of an instance-segmentation recipe.

    Raises:
        CrissCrossError: there is no such recipe, or it is one of another task.
    """
    return from_dict(InstanceExperiment, zoo.row(name))


def is_ours(path: Path) -> bool:
    """Whether a file holds an experiment of instance segmentation."""
    return path.suffix == ".safetensors" and native.stored_task(path) == InstanceExperiment.task


def _ours(path: Path, overrides: Mapping[str, Any]) -> InstanceSegmenter:
    experiment = native.read_header_as(InstanceExperiment, path)[0]
    assert experiment is not None
    experiment, tensors = with_overrides(experiment, overrides), native.read_tensors(path)
    # The network takes memory only when all shapes fit.
    with torch.device("meta"):
        native.fitting(InstanceSegmenter(experiment).state_dict(), tensors, str(path))
    native.check_finite(tensors, str(path))
    segmenter = InstanceSegmenter(experiment)
    native.fill(segmenter, tensors, str(path))
    return segmenter


def _from_torchvision(experiment: InstanceExperiment, offline: bool) -> InstanceSegmenter:
    """The network with torchvision's published weights, the attention's gate closed."""
    name = experiment.name
    _check_published(experiment)
    if offline or is_offline():
        raise CrissCrossError(f"{name}: its weights are torchvision's, and downloads are off; give --weights FILE")
    warnings.warn(
        f"{name}: the weights are torchvision's Mask R-CNN R-50 on COCO; the attention's gate is closed",
        CrissCrossWarning,
        2,
    )
    model = replace(experiment.model, pretrained="coco", norm_eps=0.0)
    return InstanceSegmenter(replace(_with_coco(experiment), model=model), initialize=True)


def _check_published(experiment: InstanceExperiment) -> None:
    """Refuse a recipe whose network torchvision publishes no weights of."""
    name, model = experiment.name, experiment.model
    if model.backbone != "resnet50" or model.channels != 256:
        raise CrissCrossError(f"{name} has no weights; train it with `crisscross train {name} --data COCO --out RUN`")


def build_network(experiment: InstanceExperiment, start: Start) -> Built:
    """The network of a settled experiment, with the weights that its training starts from.

    Raises:
        CrissCrossError: the weights are not available, or do not fit.
    """
    path = _start_file(start)
    segmenter = InstanceSegmenter(experiment, initialize=not start.resume and path is None)
    if start.resume or path is None:
        return Built(segmenter, {})
    license = license_of(path, _facts(path))
    facts: dict[str, Any] = {"start_weights": facts_of_file(path)} | ({"license": license} if license else {})
    note = license_note(license)
    if start.network is None:
        fill_body(segmenter, read_backbone_weights(path), str(path))
        line = f"--backbone-weights {start.backbone}: the backbone is taken over, all else starts anew{note}"
        return Built(segmenter, facts, [line])
    tensors = read_mask_rcnn(path)
    theirs = _classes(path, tensors)
    rows = fill_from_mask_rcnn(segmenter, tensors, str(path), theirs)
    said = taken(CLASSIFIERS, rows, theirs, segmenter.classes)
    return Built(segmenter, facts, [f"--init {start.network}: {said}{note}"])


def _facts(path: Path) -> dict[str, Any]:
    return native.read_facts(path) if path.suffix == ".safetensors" else {}


def _classes(path: Path, tensors: dict[str, Tensor]) -> tuple[str, ...] | None:
    """The classes of a Mask R-CNN: ours name them, and torchvision's are COCO's; None if they are not known."""
    if is_ours(path):
        stored = native.read_header_as(InstanceExperiment, path)[0]
        return None if stored is None else stored.data.classes
    published = torchvision_classes()
    return published if len(tensors[SCORES]) - 1 == len(published) else None


def with_start(experiment: InstanceExperiment, split: InstanceSplit, start: Start) -> InstanceExperiment:
    """The experiment with the data's classes, and with the epsilon of norms that the weights to start from want.

    Raises:
        CrissCrossError: the experiment names classes that the data does not have, or unreadable weights.
    """
    path = _start_file(start)
    tensors = read_mask_rcnn(path) if path and start.network else {}
    settled = with_data_classes(experiment, split, tensors)
    if path and start.network:
        return with_norm_eps(settled, path)
    if settled.model.pretrained == "coco" and path is None:
        return replace(settled, model=replace(settled.model, norm_eps=0.0))
    return settled


def _start_file(start: Start) -> Path | None:
    if start.network:
        name = os.fspath(start.network)
        if name in zoo.INSTANCE_RECIPES and not Path(name).exists():
            _check_published(recipe(name))
            return torchvision_file()
        return native.run_weights(name)
    return None if start.backbone is None else find_file(start.backbone)


def read_mask_rcnn(path: Path) -> dict[str, Tensor]:
    """Tensors of a Mask R-CNN in torchvision's names (`.pth`, `.pt`, `.safetensors`).

    Raises:
        CrissCrossError: missing or unreadable, not finite, or something else.
    """
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such file or run folder")
    tensors = native.read_tensors(path) if path.suffix == ".safetensors" else read_state_dict(path)
    if SCORES not in tensors:
        some = ", ".join(list(tensors)[:2])
        raise CrissCrossError(f"{path}: not a Mask R-CNN in torchvision's names (it holds {some} ...)")
    native.check_finite(tensors, str(path))
    return {key: value for key, value in tensors.items() if not key.startswith(native.OPTIMIZER)}


def with_norm_eps(experiment: InstanceExperiment, path: Path) -> InstanceExperiment:
    """The experiment with the epsilon of norms that the file's weights were trained with: ours say it themselves."""
    if is_ours(path):
        stored = native.read_header_as(InstanceExperiment, path)[0]
        assert stored is not None
        return replace(experiment, model=replace(experiment.model, norm_eps=stored.model.norm_eps))
    if not facts_of_file(path)["sha256"].startswith(COCO_V1):
        return experiment
    return replace(experiment, model=replace(experiment.model, norm_eps=0.0))


def with_data_classes(
    experiment: InstanceExperiment, split: InstanceSplit, whole: dict[str, Tensor]
) -> InstanceExperiment:
    """The experiment with the data's classes: as COCO's weights number them where these are to be kept.

    Raises:
        CrissCrossError: the experiment names classes that the data does not have.
    """
    data = experiment.data
    if data.classes:
        check_categories(data, split)
        return experiment
    published = torchvision_classes()
    wants_coco = len(whole[SCORES]) - 1 == len(published) if whole else experiment.model.pretrained == "coco"
    if wants_coco and all(
        1 <= n <= len(published) and published[n - 1] == name
        for n, name in zip(split.categories, split.classes, strict=True)
    ):
        return _with_coco(experiment)
    return replace(experiment, data=replace(data, classes=split.classes, categories=split.categories))


def _with_coco(experiment: InstanceExperiment) -> InstanceExperiment:
    classes = torchvision_classes()
    data = replace(experiment.data, classes=classes, categories=tuple(range(1, len(classes) + 1)))
    return replace(experiment, data=data)
