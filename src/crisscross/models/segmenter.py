"""CCNet as one module: backbone, head, auxiliary head, and what an image needs before and after them."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from crisscross import inference
from crisscross.config import Experiment
from crisscross.config.variants import VARIANTS, Variant
from crisscross.data.files.reading import read_image
from crisscross.data.palette import default_palette
from crisscross.data.samples.clips import places_of
from crisscross.data.samples.preprocess import normalize, resize_to_scale
from crisscross.errors import CrissCrossError
from crisscross.layers.modes import device_of, dtype_of, evaluating, lay_out
from crisscross.models.backbones import Backbone, NoBackbone, create_backbone
from crisscross.models.heads import AuxiliaryHead, HeadInputs, Logits, create_head
from crisscross.models.whole_network import WholeNetwork


@dataclass(frozen=True)
class Prediction:
    """Labels uint8 [H, W] at the image's own size; `probabilities` float32 [K, H, W] when asked for."""

    labels: np.ndarray
    probabilities: np.ndarray | None = None


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
        return self.experiment.data.palette or default_palette(len(self.classes))

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

        The embedding keeps its own size.

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

    def preprocess(self, image: Tensor, scale: tuple[int, int] | None = None) -> Tensor:
        """uint8 RGB [3, H, W] -> the normalized float tensor [1, 3, h, w] on this network's device; of [T, 3, H, W] T.

        It has the network's dtype. `scale` (width, height) takes the place of the stored `preprocess.scale`.
        """
        device, config = device_of(self), self.experiment.preprocess
        moved = image.to(device, non_blocking=True)
        return normalize(resize_to_scale(moved, scale or config.scale, config.resize), config, device).to(
            dtype_of(self)
        )

    @torch.inference_mode()
    def logits_at(self, image: Tensor) -> Tensor:
        """Logits float32 [K, H, W] of one uint8 RGB image [3, H, W] at its own size, by the stored inference mode."""
        return inference.logits(*self._passes(image))

    @torch.inference_mode()
    def labels_at(self, image: Tensor, tta: bool = False) -> Tensor:
        """Labels uint8 [H, W] of one uint8 RGB image [3, H, W] at its own size; neither logits nor probabilities of
        all classes at all pixels are ever held.

        `tta`: multi-scale + flip, as `experiment.inference` has it.
        """
        return inference.labels(self._passes(image, tta)).cpu()

    def label_frames(self, frames: Iterable[Tensor], tta: bool = False) -> Iterator[Tensor]:
        """Labels uint8 [H, W] of each frame of a video, in order; nothing is held but what the next labels need.

        `frames` are uint8 RGB [3, H, W]; they are asked for one by one. `tta` as in `labels_at`.
        """
        for frame in frames:
            with evaluating(self):
                labels = self.labels_at(frame, tta)
            yield labels

    def image_logits(self, x: Tensor) -> Tensor:
        """Coarse logits [1, K, h, w] of one normalized image [1, 3, H, W]."""
        return self.coarse(x).main

    def _passes(
        self,
        image: Tensor,
        tta: bool = False,
        native: bool = False,
        logits_of: inference.CoarseOf | None = None,
    ) -> list[inference.Pass]:
        """The passes over one image; `native` shows it at its own size whatever `preprocess.scale` says.

        `logits_of` takes the place of `image_logits`.
        """
        experiment, size = self.experiment, (image.shape[-2], image.shape[-1])
        config, own = experiment.inference, (size[1], size[0])
        base = own if native else experiment.preprocess.scale or own
        coarse_of, pairs = logits_of or self.image_logits, experiment.data.flip_pairs
        # Once, whatever the number of passes.
        moved = image.to(device_of(self), non_blocking=True)
        passes = []
        for ratio in config.ratios if tta else (1.0,):
            x = self.preprocess(moved, (max(int(base[0] * ratio), 1), max(int(base[1] * ratio), 1)))
            for mirrored in (False, True) if tta and config.flip else (False,):
                passes.append(
                    inference.run_pass(coarse_of, x, size, config, experiment.model.align_corners, mirrored, pairs)
                )
        return passes

    def predict(
        self, image: "str | os.PathLike[str] | np.ndarray | Any", probabilities: bool = False, tta: bool = False
    ) -> Prediction:
        """Label every pixel of one image at its own size, by the stored `experiment.inference`.

        Args:
            image: a path, a PIL image, or a uint8 array [H, W, 3] (RGB) or [H, W] (gray).
            probabilities: also return the softmax [K, H, W], with `tta` its mean over the passes.
            tta: multi-scale + flip testing: one pass for every ratio and its mirror image.

        Raises:
            CrissCrossError: the image cannot be read, or is of a kind that is refused (the message says why).
        """
        given = torch.from_numpy(read_image(image)).permute(2, 0, 1)
        with evaluating(self), torch.inference_mode():
            passes = self._passes(given, tta)
            labels = inference.labels(passes).cpu().numpy()
            return Prediction(labels, inference.probabilities(passes).cpu().numpy() if probabilities else None)

    def predict_big(
        self,
        image: np.ndarray,
        block: int = inference.BLOCK,
        overlap: int = inference.OVERLAP,
        tta: bool = False,
        out: np.ndarray | None = None,
        done: Callable[[int, int], object] = lambda finished, total: None,
    ) -> np.ndarray:
        """Labels of an image of any size, block by block, in memory that does not grow with it.

        Each block is labeled as an image of its own, at native resolution: `preprocess.scale` is not applied. Where
        blocks overlap, each keeps its own side of the middle; see `crisscross.inference.blocks`.

        Args:
            image: uint8 [H, W, 3] (RGB) or [H, W] (gray); a memory-mapped file is read block by block.
            block: side of a block in pixels, rounded up to a multiple of 32.
            overlap: least number of pixels that neighbors share, rounded up likewise.
            tta: multi-scale + flip in each block.
            out: uint8 [H, W] to write into, such as a memory-mapped file; a new array by default.
            done: told how many blocks are finished, and of how many.

        Returns:
            Labels uint8 [H, W]: `out`, or the new array.

        Raises:
            CrissCrossError: no such image array, an `out` of another kind, or an overlap that is not below `block`.
        """
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
            kind = f"{image.dtype} {list(image.shape)}"
            raise CrissCrossError(f"a big image must be a uint8 array [H, W, 3] or [H, W], got {kind}")
        height, width = image.shape[:2]
        labels = np.empty((height, width), np.uint8) if out is None else out
        if labels.shape != (height, width) or labels.dtype != np.uint8:
            raise CrissCrossError(f"out must be uint8 {[height, width]}, got {labels.dtype} {list(labels.shape)}")
        parts = inference.blocks(height, width, block, overlap, self.experiment.model.align_corners)
        with evaluating(self), torch.inference_mode():
            for finished, part in enumerate(parts, 1):
                given = torch.from_numpy(read_image(np.array(image[part.read]))).permute(2, 0, 1)
                found = inference.labels(self._passes(given, tta, native=True)).cpu().numpy()
                labels[part.keep] = found[part.inside]
                done(finished, len(parts))
        return labels
