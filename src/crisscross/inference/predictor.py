"""Labels of images and videos by any function that gives coarse logits. Torch is imported for tensors alone."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, overload

import numpy as np

from crisscross.data.files.big import read_big
from crisscross.data.samples.opencv_resize import resize
from crisscross.data.samples.preprocess import fit_size, normalize
from crisscross.data.samples.windows import windows
from crisscross.errors import CrissCrossError
from crisscross.inference import arrays, pixels
from crisscross.inference.arrays import Array
from crisscross.inference.card import Card
from crisscross.inference.passes import SMALLEST, Pass, View, check_memory, joined, views
from crisscross.inference.prediction import Prediction
from crisscross.inference.sources import Image, batches, is_path, planes_of
from crisscross.inference.stages import Stages, check_logits, stages_of
from crisscross.inference.tiles import BLOCK, OVERLAP, BigImage, BigLabels, blocks

Item = TypeVar("Item")
# Images of a list that are shown to the network together, at most, and their pixels.
BATCH, BATCH_PIXELS = 8, 2**22


class Frame(NamedTuple):
    """An image of `size` (height, width), and what `Stages.encode` made of each window of each view of it."""

    size: tuple[int, int]
    views: list[View]
    encoded: list[list[Any]]


class Predictor:
    """Labels images and videos, by the preprocessing and the inference mode that belong to the weights.

    Args:
        logits_of: normalized float32 images [T, 3, H, W] of a clip of T = `card.frames` (1 for single images) -> coarse
            logits [L, K, h, w] of its labeled frames, of any resolution; or the same as `Stages`. Arrays or tensors.
            Of a list of B single images of one size it gets [B, 3, H, W], and gives [B, K, h, w].
        card: classes, colors, preprocessing, inference mode.
        place: brings a uint8 image [3, H, W], an array or a tensor, to where `logits_of` computes; what is returned
            decides whether NumPy or torch does the rest.
        running: a context in which `logits_of` is called.
    """

    def __init__(
        self,
        logits_of: Callable[[Array], Array] | Stages,
        card: Card,
        place: Callable[[Any], Array] = np.asarray,
        running: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.stages = logits_of if isinstance(logits_of, Stages) else stages_of(logits_of, card)
        self.card, self.place, self.running = card, place, running
        self._checked = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; label k is `classes[k]`."""
        return self.card.classes

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """One RGB color (0..255) for each class."""
        return self.card.palette

    @property
    def device(self) -> str:
        """Where images are brought to: `cpu`, `cuda:0` ..."""
        return str(getattr(self.place(np.zeros((3, 1, 1), np.uint8)), "device", "cpu"))

    def preprocess(self, image: Array, scale: tuple[int, int] | None = None) -> Array:
        """uint8 RGB [3, H, W] -> the normalized float32 image [1, 3, h, w], of [T, 3, H, W] T; `scale` (width, height)
        takes the place of the stored `preprocess.scale`."""
        height, width = image.shape[-2:]
        size = fit_size(height, width, scale or self.card.preprocess.scale or (width, height))
        return self._normalized(self.place(image), size)

    @overload
    def predict(
        self, image: list[Image] | tuple[Image, ...], probabilities: bool = False, tta: bool = False
    ) -> list[Prediction]: ...

    @overload
    def predict(self, image: Image, probabilities: bool = False, tta: bool = False) -> Prediction: ...

    def predict(self, image: Any, probabilities: bool = False, tta: bool = False) -> Any:
        """Label every pixel of one image at its own size, or of each image of a list.

        Logits of all classes at all pixels are never held. Neighbors in a list that have one size are shown to the
        network together.

        Args:
            image: a path, the bytes of an image file, a PIL image, a uint8 array [H, W, 3] (RGB) or [H, W] (gray), a
                uint8 tensor [3, H, W], or a list (or tuple) of these, of any sizes.
            probabilities: also return the softmax [K, H, W], with `tta` its mean over the passes.
            tta: multi-scale + flip testing: one pass for every ratio and its mirror image.

        Returns:
            A `Prediction`; of a list one for each image, in order.

        Raises:
            CrissCrossError: an image cannot be read, or is of a kind that is refused (the message says why).
        """
        found = self._predictions(image if isinstance(image, list | tuple) else [image], probabilities, tta)
        return list(found) if isinstance(image, list | tuple) else next(found)

    def _predictions(self, images: Sequence[Image], probabilities: bool, tta: bool) -> Iterator[Prediction]:
        for group, sources in batches(images, BATCH if self.card.frames == 1 else 1, BATCH_PIXELS):
            with self.running():
                if len(group) == 1:
                    passes = [[one] for one in self._passes_over(group[0], tta)]
                else:
                    frame = self._frame(arrays.join([one[None] for one in group], 0), tta)
                    passes = self._passes([frame], self.card.places, len(group))
                found = [[of_all[number] for of_all in passes] for number in range(len(group))]
                made = [(pixels.labels(one), pixels.probabilities(one) if probabilities else None) for one in found]
            for (labels, odds), source in zip(made, sources, strict=True):
                yield Prediction(labels, odds, self.card, Path(source) if is_path(source) else None)

    def logits(self, image: Image) -> np.ndarray:
        """Logits float32 [K, H, W] of one image at its own size, by the stored inference mode."""
        with self.running():
            (one,) = self._passes_over(planes_of(image), tta=False)
            return pixels.logits(one)

    def label_frames(self, frames: Iterable[Image], tta: bool = False) -> Iterator[np.ndarray]:
        """Labels uint8 [H, W] of each frame of a video, in order.

        Frames are asked for one by one, each is encoded once, and `card.frames` of them are held. A network for clips
        looks at the frames around each: with the labels `middle` and `last`, what a clip lacks at the ends of the video
        is filled by repeating its first or last frame; with `every`, one clip follows the other and the last begins
        earlier.

        Args:
            frames: each as in `predict`.
            tta: multi-scale + flip.

        Raises:
            CrissCrossError: a frame cannot be read, there are fewer than `card.frames`, or they are not of one size.
        """
        yield from (labels for _, labels in self.label_items(((None, frame) for frame in frames), tta))

    def label_items(self, items: Iterable[tuple[Item, Image]], tta: bool = False) -> Iterator[tuple[Item, np.ndarray]]:
        """As `label_frames`, with whatever belongs to each frame: (item, frame) in, (item, labels) out."""
        return ((item, labels) for item, labels, _ in self.labels_and_passes(items, tta))

    def labels_and_passes(
        self, items: Iterable[tuple[Item, Image]], tta: bool = False
    ) -> Iterator[tuple[Item, np.ndarray, list[Pass]]]:
        """As `label_items`, with the passes over each frame, which `crisscross.inference.pixels` takes."""
        waiting: deque[Item] = deque()

        def frames() -> Iterator[Frame]:
            for item, image in items:
                waiting.append(item)
                planes = planes_of(image)
                with self.running():
                    frame = self._frame(planes, tta)
                yield frame

        for clip, places in windows(frames(), self.card.frames, self.card.label):
            sizes = {frame.size for frame in clip}
            if len(sizes) > 1:
                shown = " and ".join(f"{width} x {height}" for height, width in sorted(sizes))
                raise CrissCrossError(f"the frames of a clip must have one size, got {shown}")
            with self.running():
                passes = self._passes(clip, places)
            for number in range(len(places)):
                of_one = [of_all[number] for of_all in passes]
                with self.running():
                    labels = pixels.labels(of_one)
                yield waiting.popleft(), labels, of_one

    def predict_big(
        self,
        image: str | os.PathLike[str] | np.ndarray | BigImage,
        block: int = BLOCK,
        overlap: int = OVERLAP,
        tta: bool = False,
        out: np.ndarray | BigLabels | None = None,
        done: Callable[[int, int], object] = lambda finished, total: None,
    ) -> np.ndarray:
        """Labels of an image of any size, block by block, in memory that does not grow with it.

        Each block is labeled as an image of its own, at native resolution: `preprocess.scale` is not applied. Where
        blocks overlap, each keeps its own side of the middle; see `crisscross.inference.tiles`.

        Args:
            image: uint8 [H, W, 3] (RGB) or [H, W] (gray); a memory-mapped file is read block by block. Of a path, an
                array file `.npy` is read so, and any other image at once. Whatever has `shape` and `dtype` and gives
                `image[top:bottom, left:right]` will do. Pixels of a masked array that are masked in all channels get
                the ignored label `card.ignore`, and blocks of nothing else do not go through the network.
            block: side of a block in pixels, rounded up to a multiple of 32.
            overlap: least number of pixels that neighbors share, rounded up likewise.
            tta: multi-scale + flip in each block.
            out: uint8 [H, W] to write into, such as a memory-mapped file, or anything with `shape` and `dtype` to which
                `out[top:bottom, left:right]` can be assigned; a new array by default.
            done: called after each block with the numbers of finished and of all blocks.

        Returns:
            Labels uint8 [H, W]: `out`, or the new array.

        Raises:
            CrissCrossError: no such image, an `out` of another kind, or an overlap that is not below `block`.
        """
        if isinstance(image, str | os.PathLike):
            image = read_big(image)
        if not isinstance(image, BigImage):
            raise CrissCrossError(f"a big image must be a path or a uint8 array, got {type(image).__name__}")
        if image.dtype != np.uint8 or len(image.shape) not in (2, 3) or image.shape[2:] not in ((), (3,)):
            kind = f"{image.dtype} {list(image.shape)}"
            raise CrissCrossError(f"a big image must be a uint8 array [H, W, 3] or [H, W], got {kind}")
        height, width = image.shape[:2]
        labels: Any = np.empty((height, width), np.uint8) if out is None else out
        if labels.shape != (height, width) or labels.dtype != np.uint8:
            raise CrissCrossError(f"out must be uint8 {[height, width]}, got {labels.dtype} {list(labels.shape)}")
        parts = blocks(height, width, block, overlap, self.card.align_corners)
        with self.running():
            for finished, part in enumerate(parts, 1):
                labels[part.keep] = self._block_labels(image[part.read], part.inside, tta)
                done(finished, len(parts))
        return cast(np.ndarray, labels)

    def _block_labels(self, block: np.ndarray, inside: tuple[slice, slice], tta: bool) -> np.ndarray:
        """Labels uint8 of the part `inside` a block uint8 [h, w, 3] or [h, w], which may be a masked array."""
        hidden = np.ma.getmaskarray(block[inside]) if isinstance(block, np.ma.MaskedArray) else None
        if hidden is not None and hidden.ndim == 3:
            # Much faster than `hidden.all(axis=2)`.
            hidden = reduce(np.logical_and, np.moveaxis(hidden, 2, 0))
        if hidden is not None and hidden.all():
            return np.full(hidden.shape, self.card.ignore, np.uint8)
        labels = pixels.labels(self._passes_over(planes_of(np.array(block)), tta, native=True))[inside]
        if hidden is not None:
            labels[hidden] = self.card.ignore
        return labels

    def _passes_over(self, image: Array, tta: bool, native: bool = False) -> list[Pass]:
        """The passes over one image, for a network for clips as a clip that stands still."""
        clip = [self._frame(image, tta, native)] * self.card.frames
        return [one for (one,) in self._passes(clip, self.card.places[:1])]

    def _frame(self, image: Array, tta: bool, native: bool = False) -> Frame:
        """Encode an image uint8 [3, H, W] or a batch [B, 3, H, W]; `native`: without `preprocess.scale`."""
        size = (image.shape[-2], image.shape[-1])
        found = views(size, self.card.inference, None if native else self.card.preprocess.scale, tta)
        # Moved to the device once, whatever the number of passes.
        placed, x, encoded = self.place(image), None, []
        check_memory(found, placed)
        for view in found:
            if x is None or tuple(x.shape[-2:]) != view.size:
                x = self._normalized(placed, view.size)
            encoded.append([self.stages.encode(part) for part in view.windows(x, self._least)])
        return Frame(size, found, encoded)

    def _passes(self, clip: Sequence[Frame], places: Sequence[int], batch: int = 1) -> list[list[Pass]]:
        """For each view the passes over the frames at some places of a clip; of a `batch` over each of its images."""
        card, size, passes = self.card, clip[0].size, []
        count = batch * len(places)
        for number, view in enumerate(clip[0].views):
            windows_of_frames = zip(*(frame.encoded[number] for frame in clip), strict=True)
            maps = [self.stages.decode(parts, places) for parts in windows_of_frames]
            if not self._checked:
                check_logits(maps[0], count, len(card.classes))
                self._checked = True
            if card.frames == 1:
                # No other clip needs it.
                clip[0].encoded[number] = []
            each = ([logits[n] for logits in maps] for n in range(count))
            passes.append([joined(view, one, size, card.align_corners, self._least, card.flip_pairs) for one in each])
        return passes

    @property
    def _least(self) -> tuple[int, int]:
        return self.card.inference.pad_to or (SMALLEST, SMALLEST)

    def _normalized(self, placed: Array, size: tuple[int, int]) -> Array:
        config = self.card.preprocess
        if tuple(placed.shape[-2:]) != size:
            placed = resize(placed, size)
        return normalize(placed, config)


def predictor_of(network: Any) -> Predictor:
    """The predictor of a network, or the one that is given.

    Raises:
        CrissCrossError: it has none, because it does not label pixels.
    """
    found = network if isinstance(network, Predictor) else getattr(network, "predictor", None)
    if not isinstance(found, Predictor):
        raise CrissCrossError(f"{type(network).__name__} gives no labels of pixels; call its own predict method")
    return found
