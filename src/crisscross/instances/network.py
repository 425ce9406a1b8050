"""Mask R-CNN on torchvision's parts, with attention right before the last residual block of res4."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from crisscross.checkpoints.warm_start import same_classes
from crisscross.errors import CrissCrossError
from crisscross.files import is_offline
from crisscross.inference.sources import Image, planes_of
from crisscross.instances.config import InstanceExperiment, InstanceModelConfig
from crisscross.instances.result import Instances
from crisscross.layers import RecurrentCrissCrossAttention
from crisscross.layers.modes import device_of, dtype_of, evaluating
from crisscross.layers.nonlocal_block import NonLocalBlock
from crisscross.models.pretrained import answers

# The stage with the attention, the one that the paper calls res4.
STAGE = "layer3"
# The stages of the ResNet in the order in which `trainable_layers` counts them.
LEARNING = ("layer4", "layer3", "layer2", "layer1", "conv1", "bn1")
# The layer whose outputs are the background and the classes, and all tensors with rows for these.
SCORES = "roi_heads.box_predictor.cls_score.weight"
CLASSIFIERS = tuple(
    f"roi_heads.{layer}.{leaf}"
    for layer in ("box_predictor.cls_score", "box_predictor.bbox_pred", "mask_predictor.mask_fcn_logits")
    for leaf in ("weight", "bias")
)
# The probability above which a pixel belongs to a mask.
THRESHOLD = 0.5


class AttendedStage(nn.Sequential):
    """A stage of a ResNet with attention right before its last block; the blocks keep their names."""

    def __init__(self, blocks: Sequence[nn.Module], attention: nn.Module) -> None:
        super().__init__(*blocks)
        self.blocks = len(blocks)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the stage's features."""
        for number in range(self.blocks - 1):
            x = self[number](x)
        return self[self.blocks - 1](self.attention(x))


class InstanceSegmenter(MaskRCNN):
    """Mask R-CNN with the experiment that it was made from.

    Its tensors have torchvision's names, beside those of `backbone.body.layer3.attention`. In training mode
    `segmenter(images, targets)` gives the losses by name, in evaluation mode the instances; images are float32
    [3, H, W] in 0..1, as torchvision has them.

    Args:
        experiment: with the classes of the data.
        initialize: fill in torchvision's own pretrained weights, which are downloaded, where `model.pretrained` asks.

    Raises:
        CrissCrossError: no classes, or the pretrained weights are not available.
    """

    def __init__(self, experiment: InstanceExperiment, initialize: bool = False) -> None:
        classes = 1 + len(experiment.data.classes)
        if classes == 1:
            raise CrissCrossError("data.classes is empty; classes come from the data set when training starts")
        model, proposals, inference = experiment.model, experiment.proposals, experiment.inference
        preprocess = experiment.preprocess
        super().__init__(
            create_backbone(model),
            min_size=preprocess.short,
            max_size=preprocess.long,
            image_mean=(mean := [value / 255 for value in preprocess.mean]),
            image_std=(std := [value / 255 for value in preprocess.std]),
            rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in model.anchors), ((0.5, 1.0, 2.0),) * 5),
            rpn_pre_nms_top_n_train=proposals.train,
            rpn_pre_nms_top_n_test=proposals.test,
            rpn_post_nms_top_n_train=proposals.train,
            rpn_post_nms_top_n_test=proposals.test,
            rpn_batch_size_per_image=proposals.anchors,
            box_head=TwoMLPHead(model.channels * 7**2, model.box_features),
            box_predictor=FastRCNNPredictor(model.box_features, classes),
            box_score_thresh=inference.score,
            box_nms_thresh=inference.nms,
            box_detections_per_img=inference.detections,
            box_batch_size_per_image=proposals.boxes,
            mask_head=MaskRCNNHeads(model.channels, (model.channels,) * model.mask_layers, 1),
            mask_predictor=MaskRCNNPredictor(model.channels, model.channels, classes),
        )
        self.transform = Transform(experiment.augment.short, preprocess.short, preprocess.long, mean, std)
        self.experiment = experiment
        if initialize:
            initialize_from_torchvision(self)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, without the background."""
        return self.experiment.data.classes

    @overload
    def predict(self, image: list[Image] | tuple[Image, ...]) -> list[Instances]: ...

    @overload
    def predict(self, image: Image) -> Instances: ...

    def predict(self, image: Any) -> Any:
        """The instances of one image, or of each image of a list; the network's mode is left as it was.

        Args:
            image: a path, a PIL image, a uint8 array [H, W, 3] (RGB) or [H, W] (gray), a uint8 tensor [3, H, W], or a
                list of these.

        Raises:
            CrissCrossError: an image cannot be read, or the weights are of half precision, in which boxes would be off
                by pixels.
        """
        return [self._instances(one) for one in image] if isinstance(image, list | tuple) else self._instances(image)

    @torch.no_grad()
    def _instances(self, image: Image) -> Instances:
        if (dtype := dtype_of(self)) not in (torch.float32, torch.float64):
            raise CrissCrossError(f"Mask R-CNN predicts in float32 or float64, its weights are {dtype}: use .float()")
        tensor = torch.as_tensor(planes_of(image)).to(device_of(self))
        with evaluating(self):
            (found,) = self([(tensor.float() / 255).to(dtype)])
        masks = (found["masks"][:, 0] > THRESHOLD).cpu().numpy()
        boxes, scores, labels = (found[key].float().cpu().numpy() for key in ("boxes", "scores", "labels"))
        return Instances(boxes, scores, labels.astype(np.int64) - 1, masks, self.classes)


def create_backbone(model: InstanceModelConfig) -> BackboneWithFPN:
    """ResNet with its norms frozen, attention in res4, and the feature pyramid; only the last stages learn."""

    def norm(channels: int) -> nn.Module:
        return FrozenBatchNorm2d(channels, model.norm_eps)

    body = resnet.__dict__[model.backbone](weights=None, norm_layer=norm)
    learning = LEARNING[: 6 if model.trainable_layers == 5 else model.trainable_layers]
    for name, parameter in body.named_parameters():
        parameter.requires_grad_(name.startswith(learning) if learning else False)
    widths = [_width(getattr(body, f"layer{number}")[-1]) for number in (1, 2, 3, 4)]
    if model.attention != "none":
        stage = getattr(body, STAGE)
        setattr(body, STAGE, AttendedStage(list(stage), _attention(model, widths[2])))
    levels = {f"layer{number}": str(number - 1) for number in (1, 2, 3, 4)}
    return BackboneWithFPN(body, levels, widths, model.channels)


def _width(block: Any) -> int:
    return int(block.conv3.out_channels if hasattr(block, "conv3") else block.conv2.out_channels)


def _attention(model: InstanceModelConfig, channels: int) -> nn.Module:
    if model.attention == "nonlocal":
        return NonLocalBlock(channels)
    return RecurrentCrissCrossAttention(channels, model.recurrence, model.reduction)


class Transform(GeneralizedRCNNTransform):
    """torchvision's transform, with its own list of short sides to draw from in training (or none)."""

    def __init__(self, sides: Sequence[int], *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sides = list(sides) or self.min_size

    def torch_choice(self, k: list[int]) -> int:
        """One of the sides; `k` is that of evaluation."""
        return int(super().torch_choice(self.sides))

    def batch_images(self, images: list[Tensor], size_divisible: int = 32) -> Tensor:
        """Images as one tensor; in training in the memory format in which convolutions are faster."""
        batch = super().batch_images(images, size_divisible)
        return batch.contiguous(memory_format=torch.channels_last) if self.training else batch


def torchvision_classes() -> tuple[str, ...]:
    """COCO's classes 1..90 as torchvision numbers them; ten numbers were never used."""
    from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

    names = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
    return tuple(f"unused {number}" if name == "N/A" else name for number, name in enumerate(names, 1))


def initialize_from_torchvision(segmenter: InstanceSegmenter) -> None:
    """Fill in what `model.pretrained` names; torchvision downloads it once.

    Raises:
        CrissCrossError: it is not available.
    """
    model = segmenter.experiment.model
    if model.pretrained == "none":
        return
    path = torchvision_file("" if model.pretrained == "coco" else model.backbone)
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    if model.pretrained == "coco":
        fill_from_mask_rcnn(segmenter, tensors, path.name, torchvision_classes())
    else:
        fill_body(segmenter, tensors, path.name)


def torchvision_file(backbone: str = "") -> Path:
    """The file of torchvision's Mask R-CNN R-50 on COCO, or of a backbone on ImageNet, which is downloaded once.

    Raises:
        CrissCrossError: it is not available.
    """
    from torchvision.models import get_model_weights

    weights = get_model_weights(backbone or "maskrcnn_resnet50_fpn")["IMAGENET1K_V1" if backbone else "COCO_V1"]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    try:
        if not cached.is_file() and (is_offline() or not answers(weights.url)):
            raise OSError("not in the cache, and " + ("downloads are off" if is_offline() else "no answer"))
        if not cached.is_file():
            weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise CrissCrossError(
            f"torchvision's weights {weights.url} are not available ({' '.join(str(error).split())[:120]}); give a "
            "local file: --weights FILE to evaluate and predict, --init FILE (Mask R-CNN) or --backbone-weights FILE "
            "(ResNet) to train, where model.pretrained=none starts from nothing"
        ) from None
    return cached


def fill_body(segmenter: InstanceSegmenter, tensors: dict[str, Tensor], source: str) -> None:
    """Load a ResNet's weights in torchvision's (or timm's) names; the attention and everything else stay as they are.

    Raises:
        CrissCrossError: a tensor is missing or has another shape; `source` is named.
    """
    _fill(segmenter.backbone.body, tensors, source, segmenter.experiment.model.backbone)


def fill_from_mask_rcnn(
    segmenter: InstanceSegmenter, tensors: dict[str, Tensor], source: str, theirs: Sequence[str] | None = None
) -> dict[int, int]:
    """Load a whole Mask R-CNN in torchvision's names, older ones included; the attention keeps its closed gate.

    Args:
        segmenter: changed in place.
        tensors: of the file.
        source: names the file in errors.
        theirs: the file's classes without the background; None takes an equal number for the same classes.

    Returns:
        Our class number -> theirs, for the classes whose rows of the classifiers are taken over; the others start anew.

    Raises:
        CrissCrossError: another tensor is missing or has another shape; `source` is named.
    """
    own, count = segmenter.state_dict(), len(tensors[SCORES]) - 1
    if theirs is None:
        rows = {place: place for place in range(count)} if count == len(segmenter.classes) else {}
    else:
        rows = same_classes(theirs, segmenter.classes)
    # The background comes first.
    numbers = {0: 0} | {place + 1: row + 1 for place, row in rows.items()}
    kept = {key: _with_rows(own[key], tensors[key], numbers, count + 1) for key in CLASSIFIERS if key in tensors}
    _fill(segmenter, tensors | kept, source, "this Mask R-CNN")
    return rows


def _with_rows(own: Tensor, given: Tensor, numbers: dict[int, int], count: int) -> Tensor:
    """Our tensor with the given rows of the classes that both have; boxes have four rows for each class."""
    rows = len(given) // count
    if given.shape[1:] != own.shape[1:] or rows * count != len(given) or len(own) % rows:
        # Refused where all tensors are compared.
        return given
    made, given = own.clone().unflatten(0, (-1, rows)), given.unflatten(0, (-1, rows))
    for place, row in numbers.items():
        made[place] = given[row]
    return made.flatten(0, 1)


def _fill(module: nn.Module, tensors: dict[str, Tensor], source: str, name: str) -> None:
    """Load all but the attention; torchvision renames the tensors of older files itself."""
    try:
        found = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise CrissCrossError(f"{source}: not weights of {name}: {str(error).splitlines()[1].strip()}") from None
    missing = [key for key in found.missing_keys if ".attention." not in key]
    if missing:
        raise CrissCrossError(f"{source}: not weights of {name}: {missing[0]} is missing")
