"""The publishers whose weights can be read, a row for each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crisscross.checkpoints.publishers.names import Names
from crisscross.config import DataConfig, Experiment, InferenceConfig, ModelConfig, PreprocessConfig
from crisscross.config.heads import AuxHeadConfig, CCNetConfig
from crisscross.data.palette import default_names, default_palette
from crisscross.errors import CrissCrossError

GAMMA = "head.attend.attention.gamma"
COUNTER = "num_batches_tracked"
LAYER3 = "backbone.net.layer3."


@dataclass(frozen=True)
class Publisher:
    """One publisher of CCNet: how its files are recognized, renamed and described.

    Attributes:
        title: for people.
        prefixes: a state dict with a name that begins like one of these is theirs.
        names: their names of tensors.
        backbones: number of blocks in layer 3 -> timm's name of the network.
        experiment: what all of their networks have in common. Shapes decide the rest, except for what they do not
            show: the recurrence (2 in every published model), the output stride, and MMSegmentation's `align_corners`.
        ignored: prefixes of tensors that are no weights: buffers of the input's normalization, and MMCV 0.x's copies
            of weights averaged over time.
        written: whether `crisscross convert --to` writes their files.
        gamma: the shape of their gamma.
        counters: whether they store the batch counters of norms.
    """

    title: str
    prefixes: tuple[str, ...]
    names: Names
    backbones: Mapping[int, str]
    experiment: Experiment
    ignored: tuple[str, ...] = ()
    written: bool = False
    gamma: tuple[int, ...] = ()
    counters: bool = True

    def recognizes(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a state dict is this publisher's CCNet, or the greater part of one."""
        return any(key.startswith(self.prefixes) for key in tensors)

    def convert(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Experiment]:
        """Their state dict in our names, and the experiment that its shapes tell.

        Gamma loses its dimensions, norms without a batch counter get one, and classes are named by their numbers.

        Raises:
            CrissCrossError: a tensor that determines the configuration is missing.
        """
        kept = {key: value for key, value in tensors.items() if not (self.ignored and key.startswith(self.ignored))}
        ours = {self.names.ours(key): value for key, value in kept.items()}
        if GAMMA in ours and ours[GAMMA].numel() == 1:
            ours[GAMMA] = ours[GAMMA].reshape(())
        for key in [key for key in ours if key.endswith(".running_mean")]:
            ours.setdefault(f"{key.removesuffix('running_mean')}{COUNTER}", torch.tensor(0))
        return ours, self._described(ours)

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our state dict in their names."""
        kept = {key: value for key, value in tensors.items() if self.counters or not key.endswith(COUNTER)}
        shaped = {key: value.reshape(self.gamma) if key == GAMMA else value for key, value in kept.items()}
        return {self.names.theirs(key): value for key, value in shaped.items()}

    def why_not(self, experiment: Experiment) -> str | None:
        """The reason why a network cannot be this publisher's, or None."""
        model = experiment.model
        if model.backbone not in self.backbones.values():
            return f"model.backbone={model.backbone} (theirs: {', '.join(self.backbones.values())})"
        theirs = self.experiment.model
        if not isinstance(model.head, CCNetConfig):
            return f"model.head.name={model.head.name} (theirs: {theirs.head.name})"
        if not model.head.recurrence:
            return "model.head.recurrence=0"
        if model.head.pyramid:
            return f"model.head.pyramid={model.head.pyramid} (theirs: 0)"
        return None if model.variant == theirs.variant else f"model.variant={model.variant} (theirs: {theirs.variant})"

    def _described(self, tensors: Mapping[str, Tensor]) -> Experiment:
        """`experiment` with the backbone, the widths and the number of classes of tensors in our names."""
        query = self._kernel(tensors, "head.attend.attention.query.weight")
        classes = self._kernel(tensors, "head.classify.weight")[0]
        auxiliary = "aux_head.classify.weight"
        numbers = [key.removeprefix(LAYER3).split(".")[0] for key in tensors if key.startswith(LAYER3)]
        blocks = 1 + max((int(number) for number in numbers if number.isdecimal() and len(number) < 4), default=-1)
        model = replace(
            self.experiment.model,
            backbone=self.backbones.get(blocks, f"resnet with {blocks} blocks in layer 3"),
            head=CCNetConfig(channels=query[1], reduction=query[1] // query[0]),
            aux_head=AuxHeadConfig(self._kernel(tensors, auxiliary)[1] if auxiliary in tensors else 0),
        )
        names = default_names(classes)
        data = DataConfig(classes=names, palette=default_palette(names))
        return replace(self.experiment, model=model, data=data)

    def _kernel(self, tensors: Mapping[str, Tensor], key: str) -> torch.Size:
        """The shape of a convolution's weights."""
        if key not in tensors:
            raise CrissCrossError(f"an incomplete CCNet: {self.names.theirs(key)} is missing")
        shape = tensors[key].shape
        if len(shape) != 4 or 0 in shape:
            raise CrissCrossError(f"{self.names.theirs(key)} has shape {list(shape)}, not that of a convolution")
        return shape


MMSEG = Publisher(
    # 0.x, 1.x and its fork onedl-mmsegmentation share their names.
    "MMSegmentation",
    ("decode_head.cca.",),
    Names("mmseg", {"backbone": "backbone.net", "decode_head": "head", "auxiliary_head": "aux_head"}),
    {6: "resnet50c", 23: "resnet101c"},
    Experiment("mmseg ccnet"),
    ignored=("data_preprocessor.", "ema_"),
    written=True,
)
AUTHORS = Publisher(
    "the authors' repository",
    ("head.cca.query_conv.", "head.conva.0."),
    Names("authors", {f"layer{stage}": f"backbone.net.layer{stage}" for stage in range(1, 5)}),
    # With a stem of 64, 64 and 128 channels.
    {6: "resnet50s", 23: "resnet101s"},
    Experiment(
        "authors ccnet",
        ModelConfig(align_corners=True, variant="authors"),
        # Minus the mean color, blue first, and no division.
        preprocess=PreprocessConfig(mean=(104.00698793, 116.66876762, 122.67891434), std=(1.0, 1.0, 1.0), order="bgr"),
        inference=InferenceConfig(mode="slide", window=(769, 769), stride=(513, 513)),
    ),
    written=True,
    gamma=(1,),
    counters=False,
)
SSSEGMENTATION = Publisher(
    "SSSegmentation",
    ("conv_before_cca.", "conv_after_cca."),
    Names("sssegmentation", {"backbone_net": "backbone.net"}),
    MMSEG.backbones,
    Experiment("sssegmentation ccnet"),
)
# Parts of PaddleSeg's residual block -> of timm's, in whose shortcut the average comes first.
PADDLE_BLOCK = {f"conv{number}._conv": f"conv{number + 1}" for number in range(3)}
PADDLE_BLOCK |= {f"conv{number}._batch_norm": f"bn{number + 1}" for number in range(3)}
PADDLE_BLOCK |= {"short._conv": "downsample.1", "short._batch_norm": "downsample.2"}
PADDLESEG = Publisher(
    "PaddleSeg",
    ("head.cca.q_conv.", "head.conva._conv."),
    Names(
        "paddleseg",
        {
            f"backbone.bb_{stage}_{block}.{theirs}": f"backbone.net.layer{stage + 1}.{block}.{ours}"
            for stage in range(4)
            for block in range(23)
            for theirs, ours in PADDLE_BLOCK.items()
        },
        {"_mean": "running_mean", "_variance": "running_var"},
    ),
    {6: "resnet50d", 23: "resnet101d"},
    Experiment(
        "paddleseg ccnet",
        ModelConfig(variant="paddleseg"),
        # Their default of (x / 255 - 0.5) / 0.5, on red, green and blue.
        preprocess=PreprocessConfig(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5)),
    ),
)
PUBLISHERS = {"mmseg": MMSEG, "authors": AUTHORS, "sssegmentation": SSSEGMENTATION, "paddleseg": PADDLESEG}


def from_publisher(tensors: Mapping[str, Tensor], source: str) -> tuple[str, dict[str, Tensor], Experiment]:
    """Publisher (a word of `PUBLISHERS`), tensors in our names, and the experiment that their shapes tell.

    Raises:
        CrissCrossError: nobody's names, ours without their experiment, or too few tensors; `source` is named.
    """
    for word, publisher in PUBLISHERS.items():
        if publisher.recognizes(tensors):
            try:
                return word, *publisher.convert(tensors)
            except CrissCrossError as error:
                raise CrissCrossError(f"{source}: {error}") from None
    if "head.classify.weight" in tensors:
        raise CrissCrossError(
            f"{source}: our own weights without their experiment; write them with crisscross.save instead"
        )
    some = ", ".join(list(tensors)[:3])
    raise CrissCrossError(f"{source}: weights of no known system (it holds {some}, ...)")
