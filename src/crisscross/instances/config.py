"""The experiment of instance segmentation, distinguished from that of semantic segmentation by `task: instances`."""

from dataclasses import dataclass, field
from typing import Literal

from crisscross.config.rules import (
    MOST_BOXES,
    MOST_CHANNELS,
    MOST_PIXELS,
    MOST_TIMES,
    below_one,
    between,
    check_scale,
    fraction,
    one_line,
    require,
)
from crisscross.config.training import OptimConfig, TrainConfig, check_length
from crisscross.config.tree import IMAGENET_MEAN, IMAGENET_STD

BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
# The images of one step that the published learning rate of 0.02 is for.
PUBLISHED_BATCH, PUBLISHED_RATE = 16, 0.02


@dataclass(frozen=True)
class InstanceModelConfig:
    """Mask R-CNN on torchvision's parts: a ResNet with a feature pyramid, attention right before res4's last block.

    `backbone` is a ResNet of torchvision. `pretrained`: what torchvision's own weights fill it with where no file is
    given: `imagenet` the ResNet, `coco` the whole network (R-50 alone). `attention`: `rcca` is recurrent criss-cross
    attention with `recurrence` passes, `nonlocal` a non-local block, `none` neither; `reduction` divides the channels
    for query and key of `rcca`. Both start as the identity.

    `trainable_layers` counts the stages of the ResNet that learn, from the last one (5: the stem too); batch norms
    keep their statistics and scales, whose epsilon is `norm_eps` (torchvision's COCO weights want 0). `channels` is the
    width of the pyramid and of the mask head, `box_features` that of the box head, `mask_layers` the 3 x 3 convolutions
    of the mask head, `anchors` the sides of the anchors on the five levels, in pixels of the resized image.
    """

    backbone: str = "resnet50"
    pretrained: Literal["none", "imagenet", "coco"] = "imagenet"
    attention: Literal["rcca", "nonlocal", "none"] = "rcca"
    recurrence: int = 2
    reduction: int = 8
    trainable_layers: int = 3
    norm_eps: float = 1e-5
    channels: int = 256
    box_features: int = 1024
    mask_layers: int = 4
    anchors: tuple[int, int, int, int, int] = (32, 64, 128, 256, 512)

    def __post_init__(self) -> None:
        require(self.backbone in BACKBONES, "model.backbone", f"one of {', '.join(BACKBONES)}", self.backbone)
        coco = self.pretrained != "coco" or self.backbone == "resnet50"
        require(coco, "model.pretrained", "none or imagenet but for resnet50", self.pretrained)
        rule = "at least 1; model.attention=none leaves the attention out"
        require(self.recurrence >= 1, "model.recurrence", rule, self.recurrence)
        between(self, "model", 1, MOST_TIMES, "recurrence", "mask_layers")
        # The narrowest ResNet has 256 channels where the attention is.
        between(self, "model", 1, 256, "reduction")
        between(self, "model", 1, MOST_CHANNELS, "channels", "box_features")
        between(self, "model", 0, 5, "trainable_layers")
        between(self, "model", 0, 1, "norm_eps")
        sides = list(self.anchors)
        require(min(sides) >= 1, "model.anchors", "at least 1", sides)
        require(max(sides) <= MOST_PIXELS, "model.anchors", f"at most {MOST_PIXELS}", sides)

    @property
    def title(self) -> str:
        """The network in a few words."""
        attention = {
            "rcca": f" with criss-cross attention (R = {self.recurrence})",
            "nonlocal": " with a non-local block",
        }
        return f"Mask R-CNN on {self.backbone}{attention.get(self.attention, '')}"


@dataclass(frozen=True)
class InstanceDataConfig:
    """COCO's layout: `annotations/instances_SPLIT2017.json` and the images in `SPLIT2017/`.

    `classes` are the names of the network's outputs after the background and `categories` the numbers that the
    annotations give them; both are filled in from the data when training starts and are stored with the weights.
    """

    train_split: str = "train"
    val_split: str = "val"
    classes: tuple[str, ...] = ()
    categories: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        fits = len(self.categories) == len(self.classes)
        require(fits, "data.categories", f"as long as data.classes ({len(self.classes)})", len(self.categories))
        distinct = len(set(self.categories)) == len(self.categories)
        require(distinct, "data.categories", "distinct numbers", list(self.categories))
        whole = min(self.categories, default=0) >= 0 and max(self.categories, default=0) < 2**63
        require(whole, "data.categories", "at least 0 and below 2**63", list(self.categories))
        require(all(map(one_line, self.classes)), "data.classes", "names of one line", list(self.classes))
        for key in ("train_split", "val_split"):
            # They become parts of paths.
            name = getattr(self, key)
            require(not set(name) & set("/\\"), f"data.{key}", "a name, not a path", name)


@dataclass(frozen=True)
class InstancePreprocessConfig:
    """The short side of an image becomes `short` pixels, unless the long one would exceed `long`.

    `mean` and `std` are on the 0..255 scale, RGB.
    """

    short: int = 800
    long: int = 1333
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        between(self, "preprocess", 32, MOST_PIXELS, "short")
        require(self.long >= self.short, "preprocess.long", f"at least preprocess.short ({self.short})", self.long)
        require(self.long <= MOST_PIXELS, "preprocess.long", f"at most {MOST_PIXELS}", self.long)
        check_scale(self.mean, self.std)


@dataclass(frozen=True)
class InstanceAugmentConfig:
    """Random augmentation in training.

    An image is mirrored with probability `flip`; its short side is drawn from `short` (empty: `preprocess.short`).
    """

    flip: float = 0.5
    short: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        fraction(self, "augment", "flip")
        require(min(self.short, default=32) >= 32, "augment.short", "at least 32", list(self.short))
        require(max(self.short, default=32) <= MOST_PIXELS, "augment.short", f"at most {MOST_PIXELS}", list(self.short))


@dataclass(frozen=True)
class ProposalConfig:
    """Numbers of boxes of one image.

    `train` and `test` proposals go from the region proposal network to the heads; `anchors` and `boxes` are the samples
    that its loss and the heads' losses are taken from.
    """

    train: int = 2000
    test: int = 1000
    anchors: int = 256
    boxes: int = 512

    def __post_init__(self) -> None:
        between(self, "proposals", 1, MOST_BOXES, "train", "test", "anchors", "boxes")


@dataclass(frozen=True)
class InstanceOptimConfig(OptimConfig):
    """`OptimConfig` with the published schedule as its defaults; the rate is that for `PUBLISHED_BATCH` images."""

    lr: float = PUBLISHED_RATE
    weight_decay: float = 1e-4
    schedule: Literal["poly", "steps"] = "steps"
    steps: tuple[int, ...] = (60_000, 80_000)
    warmup: int = 1000


@dataclass(frozen=True)
class InstanceTrainConfig(TrainConfig):
    """`TrainConfig` with the published length as its defaults."""

    iterations: int = 90_000
    batch: int = PUBLISHED_BATCH
    validate_every: int = 10_000


@dataclass(frozen=True)
class InstanceInferenceConfig:
    """Which detections of an image are kept.

    At most `detections` boxes with a score of at least `score`, whose overlaps (IoU) are at most `nms`.
    """

    score: float = 0.05
    nms: float = 0.5
    detections: int = 100

    def __post_init__(self) -> None:
        fraction(self, "inference", "nms")
        below_one(self, "inference", "score")
        between(self, "inference", 1, MOST_BOXES, "detections")


@dataclass(frozen=True)
class InstanceExperiment:
    """Everything that decides the result of an instance-segmentation run, and nothing that names a machine."""

    task: Literal["instances"] = "instances"
    name: str = "custom"
    model: InstanceModelConfig = field(default_factory=InstanceModelConfig)
    data: InstanceDataConfig = field(default_factory=InstanceDataConfig)
    preprocess: InstancePreprocessConfig = field(default_factory=InstancePreprocessConfig)
    augment: InstanceAugmentConfig = field(default_factory=InstanceAugmentConfig)
    proposals: ProposalConfig = field(default_factory=ProposalConfig)
    optim: InstanceOptimConfig = field(default_factory=InstanceOptimConfig)
    train: InstanceTrainConfig = field(default_factory=InstanceTrainConfig)
    inference: InstanceInferenceConfig = field(default_factory=InstanceInferenceConfig)

    def __post_init__(self) -> None:
        check_length(self.optim, self.train)
