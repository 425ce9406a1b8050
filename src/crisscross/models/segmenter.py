"""CCNet as one module: backbone, head, auxiliary head, and what an image needs before and after them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross.config import Experiment
from crisscross.config.variants import VARIANTS, Variant
from crisscross.data.palette import default_palette
from crisscross.data.samples.windows import places_of
from crisscross.errors import CrissCrossError
from crisscross.inference import Card, Prediction, Predictor, Stages
from crisscross.inference.sources import Image
from crisscross.layers.modes import device_of, dtype_of, evaluating, lay_out
from crisscross.models.backbones import Backbone, NoBackbone, create_backbone
from crisscross.models.heads import AuxiliaryHead, HeadInputs, Logits, create_head
from crisscross.models.whole_network import WholeNetwork
from crisscross.surgery import inserted_attention


class Segmenter(nn.Module):
    """CCNet with its experiment: classes, palette, preprocessing and inference travel with the weights.

    Args:
        experiment: the whole configuration; `experiment.data.classes` must be filled in.
        initialize: fetch the backbone's pretrained weights where the experiment asks for them; pass False when all
            weights are filled in afterwards.

    Raises:
        CrissCrossError: no classes, or a backbone that cannot be built.
    """

    # A copy made by `crisscross.optimize`: it predicts, but its weights fit no other network.
    rewritten = False
    # Of a user's own class, too; see `crisscross.models.heads.contract`.
    head: Any

    def __init__(self, experiment: Experiment, initialize: bool = True) -> None:
        super().__init__()
        model, classes = experiment.model, len(experiment.data.classes)
        if not classes:
            raise CrissCrossError("data.classes is empty: a network needs class names, e.g. data.classes=[road, sky]")
        self.experiment = experiment
        self.backbone: Backbone | NoBackbone
        if model.network:
            self.backbone, self.head = NoBackbone(), WholeNetwork(model.network, classes)
        else:
            variant = VARIANTS[model.variant]
            self.backbone = create_backbone(
                model.backbone, model.output_stride, model.pretrained and initialize, variant
            )
            self.head = create_head(model, self._head_inputs(classes, variant))
        self.aux_head = None
        if model.aux_head.channels and not getattr(self.head, "gives_aux", False):
            self.aux_head = AuxiliaryHead(model.aux_head, self.backbone.channels[-2], classes, VARIANTS[model.variant])
        self.backbone.freeze(model.frozen)
        # Attention that a network from outside brings along is there whenever it is built.
        self.described_attention = list(inserted_attention(self).values())

    def _head_inputs(self, classes: int, variant: Variant) -> HeadInputs:
        model, backbone = self.experiment.model, self.backbone
        labeled = places_of(model.frames, model.label) if model.frames else ()
        return HeadInputs(
            backbone.channels,
            backbone.strides,
            classes,
            self.experiment.loss.dimensions,
            model.align_corners,
            variant,
            model.frames,
            labeled,
        )

    def to(self, *args: Any, memory_format: torch.memory_format | None = None, **kwargs: Any) -> Self:
        """As `nn.Module.to`; a memory format is for the convolutions over images: torch has none for both kinds."""
        if args or kwargs:
            super().to(*args, **kwargs)
        if memory_format is not None:
            lay_out(self, memory_format)
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; label k is `classes[k]`."""
        return self.experiment.data.classes

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """One RGB color (0..255) per class: the experiment's, default ones where it has none."""
        return self.experiment.data.palette or default_palette(self.classes)

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Names of the layers whose weights have the classes as their first dimension."""
        heads = {"head": self.head, "aux_head": self.aux_head}
        return tuple(f"{key}.{name}" for key, head in heads.items() if head is not None for name in head.classifiers)

    def coarse(self, x: Tensor) -> Logits:
        """Logits before any resizing, of the head's own stride; see `Logits`."""
        maps = self.backbone(x)
        aux = self.aux_head(maps[-2]) if self.training and self.aux_head is not None else None
        return self._logits(self.head(maps), aux)

    def _logits(self, found: Any, aux: Tensor | None) -> Logits:
        """What a head returned, with the logits of the auxiliary head where there is one.

        Raises:
            CrissCrossError: it is neither `Logits` nor a tensor, or its class logits are not [B, K, h, w].
        """
        logits = found if isinstance(found, Logits) else Logits(found)
        main, classes = logits.main, len(self.classes)
        if not isinstance(main, Tensor) or main.dim() != 4 or main.shape[1] != classes:
            got = list(main.shape) if isinstance(main, Tensor) else type(main).__name__
            model = self.experiment.model
            key = "model.network" if model.network else "model.head.name"
            name = model.network or model.head.name
            raise CrissCrossError(f"{key} {name}: must return Logits or class logits [B, {classes}, h, w], got {got}")
        return logits if aux is None else logits._replace(aux=aux)

    def forward(self, x: Tensor, coarse: bool = False) -> Logits:
        """Logits at image size of a normalized float tensor [B, 3, H, W]; with `coarse` those of the method `coarse`.

        Training asks for coarse ones: its loss brings them to image size piece by piece, see `crisscross.losses`.
        """
        found = self.coarse(x)
        if coarse:
            return found
        aux, edges = (None if logits is None else self._resize(logits, x) for logits in (found.aux, found.edges))
        return Logits(self._resize(found.main, x), aux, edges, found.embedding)

    def _resize(self, logits: Tensor, x: Tensor) -> Tensor:
        align_corners = self.experiment.model.align_corners
        return functional.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=align_corners)

    def encode(self, x: Tensor) -> Any:
        """Coarse logits [1, K, h, w] of one normalized image [1, 3, H, W], brought to this network's dtype."""
        return self.coarse(x.to(dtype_of(self))).main

    def decode(self, clip: Sequence[Any], places: Sequence[int]) -> Tensor:
        """Coarse logits [len(places), K, h, w] of what `encode` made of a clip: here the logits of its one image."""
        return clip[0]

    @property
    def predictor(self) -> Predictor:
        """What labels images with this network: its weights, its device and its experiment as they are now."""
        device = device_of(self)

        def place(image: Any) -> Tensor:
            return torch.as_tensor(image).to(device, non_blocking=True)

        return Predictor(Stages(self.encode, self.decode), Card.of(self.experiment), place, self._predicting)

    @contextmanager
    def _predicting(self) -> Iterator[None]:
        with evaluating(self), torch.inference_mode():
            yield

    def preprocess(self, image: Tensor, scale: tuple[int, int] | None = None) -> Tensor:
        """As `Predictor.preprocess`, in this network's dtype."""
        return self.predictor.preprocess(image, scale).to(dtype_of(self))

    @overload
    def predict(
        self, image: list[Image] | tuple[Image, ...], probabilities: bool = False, tta: bool = False
    ) -> list[Prediction]: ...

    @overload
    def predict(self, image: Image, probabilities: bool = False, tta: bool = False) -> Prediction: ...

    def predict(self, image: Any, probabilities: bool = False, tta: bool = False) -> Any:
        """Label every pixel of one image at its own size, or of each image of a list; see `Predictor.predict`."""
        return self.predictor.predict(image, probabilities, tta)

    def predict_big(self, image: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        """Labels of an image of any size, block by block; see `Predictor.predict_big`."""
        return self.predictor.predict_big(image, *args, **kwargs)
