"""Instance-segmentation networks with their weights: ours, or torchvision's Mask R-CNN."""

import hashlib
import os
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from crisscross import zoo
from crisscross.checkpoints import native
from crisscross.checkpoints.hub.download import is_offline
from crisscross.checkpoints.reading import read_state_dict
from crisscross.config.instances import InstanceExperiment
from crisscross.errors import CrissCrossError, CrissCrossWarning
from crisscross.models.instances import InstanceSegmenter, fill_from_mask_rcnn, torchvision_classes

# The head of the SHA-256 of torchvision's published R-50: its norms divide by the bare standard deviation.
COCO_V1 = "bf2d0c1e"


def load_instances(
    source: str | os.PathLike[str],
    device: str = "cpu",
    *,
    weights: str | os.PathLike[str] | None = None,
    offline: bool = False,
) -> InstanceSegmenter:
    """An instance-segmentation network with its weights, in evaluation mode.

    Args:
        source: a run folder (its best weights, else the last), a file of ours, or a recipe's name. The name alone means
            torchvision's COCO weights, which are downloaded, the attention's gate closed.
        device: where to put it.
        weights: a file with the weights for the recipe `source`: ours, or a Mask R-CNN in torchvision's names.
        offline: download nothing; so does `CRISSCROSS_OFFLINE=1`.

    Raises:
        CrissCrossError: nothing of that name, an unreadable file, or weights that do not fit.
    """
    path = Path(source)
    if weights is None and (path.is_dir() or path.is_file()):
        segmenter = _ours(native.run_weights(path))
    else:
        segmenter = _by_recipe(os.fspath(source), weights, offline)
    return native.placed(segmenter, device)


def _ours(path: Path) -> InstanceSegmenter:
    if path.suffix != ".safetensors":
        raise CrissCrossError(
            f"{path}: says nothing about its network; name a recipe and give the file with --weights "
            "(crisscross.load_instances(RECIPE, weights=FILE))"
        )
    experiment = native.read_header_as(InstanceExperiment, path)[0]
    if experiment is None:
        raise CrissCrossError(f"{path}: holds no experiment; name a recipe and give the file with --weights")
    tensors = native.read_tensors(path)
    # The network takes memory only when all shapes fit.
    with torch.device("meta"):
        native.fitting(InstanceSegmenter(experiment).state_dict(), tensors, str(path))
    native.check_finite(tensors, str(path))
    segmenter = InstanceSegmenter(experiment)
    native.fill(segmenter, tensors, str(path))
    return segmenter


def _by_recipe(name: str, weights: str | os.PathLike[str] | None, offline: bool) -> InstanceSegmenter:
    experiment = zoo.instance_recipe(name)
    if weights is not None:
        path = Path(weights)
        if path.suffix == ".safetensors" and native.stored_task(path) == experiment.task:
            return _ours(path)
        tensors = read_mask_rcnn(path)
        experiment = with_classes_of(experiment, tensors, str(path))
        segmenter = InstanceSegmenter(with_norm_eps(experiment, path))
        fill_from_mask_rcnn(segmenter, tensors, str(path))
        return segmenter
    if experiment.model.backbone != "resnet50" or experiment.model.channels != 256:
        raise CrissCrossError(f"{name} has no weights; train it with `crisscross train {name} --data COCO --out RUN`")
    if offline or is_offline():
        raise CrissCrossError(
            f"{name}: its weights are torchvision's, and downloads are forbidden; give --weights FILE"
        )
    classes = torchvision_classes()
    model = replace(experiment.model, pretrained="coco", norm_eps=0.0)
    data = replace(experiment.data, classes=classes, categories=tuple(range(1, len(classes) + 1)))
    warnings.warn(
        f"{name}: the weights are torchvision's Mask R-CNN R-50 on COCO; the attention's gate is closed",
        CrissCrossWarning,
        2,
    )
    return InstanceSegmenter(replace(experiment, model=model, data=data), initialize=True)


def read_mask_rcnn(path: Path) -> dict[str, Tensor]:
    """Tensors of a Mask R-CNN in torchvision's names (`.pth`, `.pt`, `.safetensors`).

    Raises:
        CrissCrossError: missing or unreadable, not finite, or something else.
    """
    if not path.is_file():
        raise CrissCrossError(f"{path}: no such file or run folder")
    tensors = native.read_tensors(path) if path.suffix == ".safetensors" else read_state_dict(path)
    if "roi_heads.box_predictor.cls_score.weight" not in tensors:
        some = ", ".join(list(tensors)[:2])
        raise CrissCrossError(f"{path}: not a Mask R-CNN in torchvision's names (it holds {some} ...)")
    native.check_finite(tensors, str(path))
    return {key: value for key, value in tensors.items() if not key.startswith(native.OPTIMISER)}


def with_norm_eps(experiment: InstanceExperiment, path: Path) -> InstanceExperiment:
    """The experiment with the epsilon of norms that the file's weights were trained with: ours say it themselves."""
    if path.suffix == ".safetensors" and native.stored_task(path) == experiment.task:
        stored = native.read_header_as(InstanceExperiment, path)[0]
        assert stored is not None
        return replace(experiment, model=replace(experiment.model, norm_eps=stored.model.norm_eps))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(COCO_V1):
        return experiment
    return replace(experiment, model=replace(experiment.model, norm_eps=0.0))


def with_classes_of(experiment: InstanceExperiment, tensors: dict[str, Tensor], source: str) -> InstanceExperiment:
    """The experiment with COCO's classes as torchvision numbers them, which the file must have.

    Raises:
        CrissCrossError: it has another number of them.
    """
    classes, found = torchvision_classes(), len(tensors["roi_heads.box_predictor.cls_score.weight"]) - 1
    if found != len(classes):
        raise CrissCrossError(
            f"{source}: has {found} classes without names; torchvision's COCO weights have {len(classes)}"
        )
    data = replace(experiment.data, classes=classes, categories=tuple(range(1, len(classes) + 1)))
    return replace(experiment, data=data)
