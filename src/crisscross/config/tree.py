"""The experiment: a tree of dataclasses.

Fields are checked when a tree is made; an error names the key, its value and the rule.
"""

from dataclasses import dataclass, field
from typing import Literal

from crisscross.config.heads import AuxHeadConfig, CCNetConfig, HeadConfig, OwnHead
from crisscross.config.loss import LossConfig
from crisscross.config.rules import (
    MOST_RATIO,
    MOST_TIMES,
    above_zero,
    between,
    check_scale,
    fraction,
    one_line,
    require,
    sides_fit,
)
from crisscross.config.training import OptimConfig, TrainConfig, check_length
from crisscross.config.variants import VariantName

# `data.val_split` where nothing is validated.
NO_SPLIT = "none"
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class ModelConfig:
    """The network: a backbone, a head and an auxiliary head, or someone else's.

    `backbone` is a timm name or `package.module:attribute`, `output_stride` is 8, 16 or 32, and `pretrained` starts
    from timm's own weights. `frozen` names modules of the backbone that keep their weights and statistics, e.g.
    `[conv_stem, bn1, blocks.0]`: cheaper steps.

    `head` is the section of a head of `crisscross.config.heads`, or of one from outside, whose `name` is
    `package.module:Class`. `aux_head` is the auxiliary one. `align_corners` is how logits are resized. `variant` says
    whose CCNet it is where publishers differ (`crisscross.config.variants`; docs/checkpoints.md).

    `frames` above 0 makes a video network of it: it takes clips of that many frames and attends in time, too; `label`
    tells which frames of a clip it labels (docs/video.md).

    `network` is a whole network from outside, `package.module:Class`; backbone and heads then do not exist.
    """

    backbone: str = "resnet50c"
    output_stride: int = 8
    pretrained: bool = False
    frozen: tuple[str, ...] = ()
    head: HeadConfig = field(default_factory=CCNetConfig)
    aux_head: AuxHeadConfig = field(default_factory=AuxHeadConfig)
    align_corners: bool = False
    variant: VariantName = "mmseg"
    frames: int = 0
    label: Literal["middle", "last", "every"] = "middle"
    network: str = ""

    def __post_init__(self) -> None:
        require(self.output_stride in (8, 16, 32), "model.output_stride", "8, 16 or 32", self.output_stride)
        between(self, "model", 0, MOST_TIMES, "frames")
        if self.network:
            require(":" in self.network, "model.network", "package.module:Class", self.network)
            require(self.frames == 0, "model.frames", "0 with model.network, which labels single images", self.frames)

    @property
    def title(self) -> str:
        """The network in a few words: `CCNet (R = 2) on resnet50c at output stride 8`."""
        if self.network:
            return self.network
        head = self.head
        title = head.name if isinstance(head, OwnHead) else f"{head.title} (R = {head.recurrence})"
        pyramid = " with a pyramid" if isinstance(head, CCNetConfig) and head.pyramid else ""
        return f"{title}{pyramid} on {self.backbone} at output stride {self.output_stride}"


@dataclass(frozen=True)
class DataConfig:
    """The data set: how it is opened, and what its labels mean.

    `name` is a key of `crisscross.data.DATASETS` or `package.module:function`; `auto` recognizes the layout.
    `classes` and `palette` (RGB, 0..255) are filled in from the data set when training starts and are stored with
    the weights. `ignore` is the label value that counts nowhere. `val_split: none` validates nothing, and trains on the
    images that would be held out where the data set has no split of its own. `flip_pairs` are classes that are
    exchanged when an image is mirrored (left and right arm); they come from the data set too.
    """

    name: str = "auto"
    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    ignore: int = 255
    train_split: str = "train"
    val_split: str = "val"
    test_split: str = "test"
    flip_pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        require(bool(self.val_split), "data.val_split", f"the name of a split, or {NO_SPLIT}", self.val_split)
        require(0 <= self.ignore <= 255, "data.ignore", "between 0 and 255", self.ignore)
        require(all(map(one_line, self.classes)), "data.classes", "names of one line", list(self.classes))
        require(len(set(self.classes)) == len(self.classes), "data.classes", "distinct names", list(self.classes))
        require(len(self.classes) <= 255, "data.classes", "at most 255 names", len(self.classes))
        counts = self.ignore >= len(self.classes)
        require(counts, "data.ignore", f"no class number (0..{len(self.classes) - 1})", self.ignore)
        if self.palette:
            fits = len(self.palette) == len(self.classes)
            require(fits, "data.palette", f"as long as data.classes ({len(self.classes)})", len(self.palette))
        for color in self.palette:
            require(all(0 <= part <= 255 for part in color), "data.palette", "colors of 0..255", list(color))
        for pair in self.flip_pairs:
            fits = min(pair) >= 0 and (not self.classes or max(pair) < len(self.classes))
            require(fits, "data.flip_pairs", "pairs of class numbers", list(pair))
        numbers = [number for pair in self.flip_pairs for number in pair]
        once = len(set(numbers)) == len(numbers)
        require(once, "data.flip_pairs", "pairs that share no class", [list(pair) for pair in self.flip_pairs])


@dataclass(frozen=True)
class PreprocessConfig:
    """Preprocessing of an image; it is stored with the weights.

    `mean` and `std` are on the 0..255 scale, in `order`. `scale` (width, height) is the test scale of the
    published systems: the image is resized, keeping its shape, to fit it; none keeps the native size.
    """

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    order: Literal["rgb", "bgr"] = "rgb"
    scale: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_scale(self.mean, self.std)
        sides_fit(self.scale, "preprocess.scale")


@dataclass(frozen=True)
class AugmentConfig:
    """Random augmentation in training, as published: resize, crop, flip, photometric distortion, pad.

    `scale` (width, height) times a ratio drawn from `ratio` bounds the resized image; none means the image's own
    size. `crop` is (height, width). `max_fraction`: a crop is drawn again, up to ten times, while one class covers
    more of it. `pad` fills up images that are smaller than the crop: `mean` after normalization (0, the mean color),
    `black` before it, as MMSegmentation 1.x does for Pascal VOC alone. With probability `rotation_chance` an image is
    rotated by an angle drawn from -`rotation` to `rotation` degrees before it is cropped; it grows until nothing is
    cut off, and the new corners have the mean color and no label.
    """

    scale: tuple[int, int] | None = None
    ratio: tuple[float, float] = (0.5, 2.0)
    crop: tuple[int, int] = (512, 512)
    max_fraction: float = 0.75
    flip: float = 0.5
    distortion: bool = True
    pad: Literal["mean", "black"] = "mean"
    rotation: float = 0.0
    rotation_chance: float = 0.5

    def __post_init__(self) -> None:
        low, high = self.ratio
        require(0 < low <= high, "augment.ratio", "two rising numbers above 0", list(self.ratio))
        few = low >= 1 / MOST_RATIO and high <= MOST_RATIO
        require(few, "augment.ratio", f"between {1 / MOST_RATIO} and {MOST_RATIO}", list(self.ratio))
        sides_fit(self.scale, "augment.scale")
        sides_fit(self.crop, "augment.crop")
        fraction(self, "augment", "flip", "rotation_chance")
        above_zero(self, "augment", 1, "max_fraction")
        require(0 <= self.rotation <= 180, "augment.rotation", "between 0 and 180 degrees", self.rotation)


@dataclass(frozen=True)
class InferenceConfig:
    """How a whole image is labeled.

    `whole`: in one pass. `slide`: by windows of `window` (height, width) every `stride` pixels; where windows overlap,
    their logits are averaged. `ratios` and `flip` are those of multi-scale + flip testing, asked for with `--tta`: each
    ratio multiplies `preprocess.scale` (the image's own size where that is none); `flip` adds its mirror image.
    `pad_to` (height, width): a smaller image or window is filled up with the mean color, right and below, as
    training fills its crops, and the result is cut back; none leaves it as it is.
    """

    mode: Literal["whole", "slide"] = "whole"
    window: tuple[int, int] = (769, 769)
    stride: tuple[int, int] = (513, 513)
    ratios: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    flip: bool = True
    pad_to: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        sides_fit(self.pad_to, "inference.pad_to")
        sides_fit(self.window, "inference.window")
        sides_fit(self.stride, "inference.stride")
        fits = self.stride[0] <= self.window[0] and self.stride[1] <= self.window[1]
        require(fits, "inference.stride", f"at most inference.window ({list(self.window)})", list(self.stride))
        ratios = list(self.ratios)
        require(bool(ratios) and min(ratios) > 0, "inference.ratios", "numbers above 0", ratios)
        few = min(ratios) >= 1 / MOST_RATIO and max(ratios) <= MOST_RATIO
        require(few, "inference.ratios", f"between {1 / MOST_RATIO} and {MOST_RATIO}", ratios)
        require(len(set(ratios)) == len(ratios), "inference.ratios", "different numbers", ratios)


@dataclass(frozen=True)
class Experiment:
    """Everything that decides a result, and nothing that names a machine."""

    name: str = "custom"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)

    def __post_init__(self) -> None:
        check_length(self.optim, self.train)
        seen = not self.train.early_stop or self.data.val_split != NO_SPLIT
        require(seen, "data.val_split", "a split with train.early_stop, which counts validations", "none")

    @property
    def code(self) -> list[tuple[str, str]]:
        """Keys and values that name code as `package.module:attribute`, which is imported where it is needed."""
        model = self.model
        names = [("model.backbone", model.backbone), ("model.head.name", model.head.name)]
        names += [("model.network", model.network), ("data.name", self.data.name)]
        names += [("loss.terms", term.name) for term in self.loss.terms]
        return [(key, name) for key, name in names if ":" in name]
