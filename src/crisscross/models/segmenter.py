"""CCNet as one module: backbone, head, auxiliary head, and what a picture needs before and after them."""

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross import inference
from crisscross.backbones import create_backbone
from crisscross.config import Experiment
from crisscross.data.preprocess import normalise, resize_to_scale
from crisscross.data.reading import read_picture
from crisscross.errors import CrissCrossError
from crisscross.heads import AuxiliaryHead, CrissCrossHead


class Logits(NamedTuple):
    """Class logits [B, K, H, W]; `aux` is there in training only, and only where the network has that head."""

    main: Tensor
    aux: Tensor | None


@dataclass(frozen=True)
class Prediction:
    """Labels uint8 [H, W] at the picture's own size; `probabilities` float32 [K, H, W] when asked for."""

    labels: np.ndarray
    probabilities: np.ndarray | None = None


class Segmenter(nn.Module):
    """CCNet with its experiment: classes, palette, preprocessing and inference travel with the weights.

    Args:
        experiment: the whole configuration; `experiment.data.classes` must be filled in.
        initialise: fetch the backbone's pretrained weights where the experiment asks for them; pass False when all
            weights are filled in afterwards.

    Raises:
        CrissCrossError: no classes, or a backbone that cannot be built.
    """

    # A copy made by `crisscross.optimize`: it predicts, but its weights fit no other network.
    rewritten = False

    def __init__(self, experiment: Experiment, initialise: bool = True) -> None:
        super().__init__()
        model, classes = experiment.model, len(experiment.data.classes)
        if not classes:
            raise CrissCrossError("data.classes is empty: a network needs class names, e.g. data.classes=[road, sky]")
        self.experiment = experiment
        self.backbone = create_backbone(
            model.backbone,
            model.output_stride,
            model.pretrained and initialise,
            contract_dilation=model.contract_dilation,
            pool_shortcut=model.pool_shortcut,
            ceil_pool=model.ceil_pool,
            norm=model.norm,
        )
        self.head = CrissCrossHead(
            self.backbone.channels[-1],
            classes,
            model.channels,
            model.recurrence,
            model.reduction,
            model.dropout,
            model.attention_memory,
            model.activation,
            model.norm,
            model.fuse_bias,
        )
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

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; label k is `classes[k]`."""
        return self.experiment.data.classes

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """One RGB colour (0..255) per class."""
        return self.experiment.data.palette

    def coarse(self, x: Tensor) -> Logits:
        """Logits at the backbone's output stride, before any resizing; `aux` as in `forward`."""
        features = self.backbone(x)
        aux = self.aux_head(features[-2]) if self.training and self.aux_head is not None else None
        return Logits(self.head(features[-1]), aux)

    def forward(self, x: Tensor) -> Logits:
        """Logits at picture size of a normalised float tensor [B, 3, H, W]."""
        main, aux = self.coarse(x)
        return Logits(self._resize(main, x), None if aux is None else self._resize(aux, x))

    def _resize(self, logits: Tensor, x: Tensor) -> Tensor:
        align_corners = self.experiment.model.align_corners
        return functional.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=align_corners)

    def preprocess(self, picture: Tensor) -> Tensor:
        """uint8 RGB [3, H, W] -> the normalised float tensor [1, 3, h, w] on this network's device."""
        device = next(self.parameters()).device
        return normalise(resize_to_scale(picture, self.experiment.preprocess.scale), self.experiment.preprocess, device)

    @torch.inference_mode()
    def logits_at(self, picture: Tensor) -> Tensor:
        """Logits [K, H, W] of one uint8 RGB picture [3, H, W] at its own size, by the stored inference mode."""
        height, width = picture.shape[-2:]
        x = self.preprocess(picture)
        align_corners = self.experiment.model.align_corners
        return inference.whole(lambda t: self(t).main, x, (height, width), align_corners)[0]

    def predict(self, picture: "str | os.PathLike[str] | np.ndarray | Any", probabilities: bool = False) -> Prediction:
        """Label every pixel of one picture at its own size.

        Args:
            picture: a path, a PIL picture, or a uint8 array [H, W, 3] (RGB) or [H, W] (grey).
            probabilities: also return the softmax [K, H, W].

        Raises:
            CrissCrossError: the picture cannot be read, or is of a kind that is refused (the message says why).
        """
        was_training = self.training
        self.eval()
        try:
            logits = self.logits_at(torch.from_numpy(read_picture(picture)).permute(2, 0, 1))
        finally:
            self.train(was_training)
        labels = logits.argmax(0).to(torch.uint8).cpu().numpy()
        return Prediction(labels, logits.float().softmax(0).cpu().numpy() if probabilities else None)
