"""CCNet as one module: backbone, head, auxiliary head, and what an image needs before and after them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross.config import Experiment
from crisscross.data.palette import default_palette
from crisscross.errors import CrissCrossError
from crisscross.inference import Card, Prediction, Predictor, Stages
from crisscross.inference.predictor import Image
from crisscross.layers.modes import device_of, dtype_of, evaluating, lay_out
from crisscross.models.backbones import create_backbone
from crisscross.models.heads import AuxiliaryHead, CE2PHead, create_head


class Logits(NamedTuple):
    """Class logits [B, K, H, W]; `aux` is there in training only, and only where the network has that head.

    `embedding` [B, D, h, w], always at the backbone's output stride, is there in training only, and only where the loss
    asks for it; `edges` [B, 2, H, W] (no edge, edge) in training only, and only with an edge branch: `aux` are then the
    logits before the edge features came in.
    """

    main: Tensor
    aux: Tensor | None
    embedding: Tensor | None = None
    edges: Tensor | None = None


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

    def __init__(self, experiment: Experiment, initialize: bool = True) -> None:
        super().__init__()
        model, classes = experiment.model, len(experiment.data.classes)
        if not classes:
            raise CrissCrossError("data.classes is empty: a network needs class names, e.g. data.classes=[road, sky]")
        self.experiment = experiment
        self.backbone = create_backbone(
            model.backbone,
            model.output_stride,
            model.pretrained and initialize,
            contract_dilation=model.contract_dilation,
            pool_shortcut=model.pool_shortcut,
            ceil_pool=model.ceil_pool,
            norm=model.norm,
        )
        backbone, dimensions = self.backbone, experiment.loss.dimensions
        self.head = create_head(model, backbone.channels, backbone.strides, classes, dimensions)
        self.aux_head = (
            AuxiliaryHead(
                self.backbone.channels[-2],
                classes,
                model.aux_channels,
                model.dropout,
                model.activation,
                model.norm,
                model.aux_bias,
            )
            if model.aux_channels
            else None
        )
        self.backbone.freeze(model.frozen)

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
        return self.experiment.data.palette or default_palette(len(self.classes))

    def coarse(self, x: Tensor) -> Logits:
        """Logits before any resizing, of the backbone's output stride or CE2P's 4; the others as in `forward`."""
        features = self.backbone(x)
        aux = self.aux_head(features[-2]) if self.training and self.aux_head is not None else None
        if isinstance(self.head, CE2PHead):
            found = self.head(features)
            return Logits(found.main, aux if found.before is None else found.before, found.embedding, found.edges)
        if self.training and self.head.embed is not None:
            attended = self.head.attended(features[-1])
            return Logits(self.head.logits(features[-1], attended), aux, self.head.embed(attended))
        return Logits(self.head(features[-1]), aux)

    def forward(self, x: Tensor, coarse: bool = False) -> Logits:
        """Logits at image size of a normalized float tensor [B, 3, H, W]; with `coarse` those of the method `coarse`.

        Training asks for coarse ones: its loss brings them to image size piece by piece, see `crisscross.losses`.
        """
        found = self.coarse(x)
        if coarse:
            return found
        aux, edges = (None if logits is None else self._resize(logits, x) for logits in (found.aux, found.edges))
        return Logits(self._resize(found.main, x), aux, found.embedding, edges)

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

    def predict(self, image: Image, probabilities: bool = False, tta: bool = False) -> Prediction:
        """Label every pixel of one image at its own size; see `Predictor.predict`."""
        return self.predictor.predict(image, probabilities, tta)

    def predict_big(self, image: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        """Labels of an image of any size, block by block; see `Predictor.predict_big`."""
        return self.predictor.predict_big(image, *args, **kwargs)
