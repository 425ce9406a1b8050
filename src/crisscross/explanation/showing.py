"""How each kind of network is shown an image."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crisscross.data.samples.preprocess import fit_size
from crisscross.errors import CrissCrossError
from crisscross.inference import Card, Predictor, Stages
from crisscross.inference.sources import rgb

Size = tuple[int, int]
Pixel = tuple[int, int] | None


def cells(pixels: int, fraction: float, length: int) -> np.ndarray:
    """Which of `length` cells each of the pixels along a side lies in, where the image fills a fraction of them."""
    return np.minimum(((np.arange(pixels) + 0.5) / pixels * fraction * length).astype(int), length - 1)


@dataclass
class Showing:
    """One kind of network and an image: how to predict, and what came of it.

    Attributes:
        predict: a pixel (x, y) or None -> labels [H, W] and the probabilities at the pixel, each None where there are
            none.
        content: which fraction of the input's height and width the image fills; of instances known once it has
            predicted.
        frame: which frame of a clip is labeled.
        frames: the images of the clip, one if it stands still.
    """

    pixels: np.ndarray
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    predict: Callable[[Pixel], tuple[np.ndarray | None, np.ndarray | None]]
    content: tuple[float, float] = (1.0, 1.0)
    frame: int = 0
    frames: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, network: nn.Module, image: Any) -> "Showing":
        predictor = getattr(network, "predictor", None)
        if isinstance(predictor, Predictor):
            return cls._of_pixels(predictor, image)
        if isinstance(image, list | tuple):
            raise CrissCrossError(f"{type(network).__name__} takes a single image, got {len(image)}")
        if hasattr(network, "transform") and hasattr(network, "predict"):
            return cls._of_instances(network, rgb(image))
        return cls._of_module(network, image)

    @classmethod
    def _of_pixels(cls, predictor: Predictor, image: Any) -> "Showing":
        card, stages = predictor.card, predictor.stages
        card = replace(card, inference=replace(card.inference, mode="whole"))
        frames = _frames(image, card.frames)
        pixels = frames[card.places[0] if len(frames) > 1 else 0]
        inputs = [_network_input(predictor, card, frame) for frame in frames]

        def decode(_: Any, places: Sequence[int]) -> Any:
            encoded = [stages.encode(x) for x in inputs]
            return stages.decode(encoded * (card.frames // len(encoded)), places)

        whole = Predictor(Stages(lambda x: x, decode), card, predictor.place, predictor.running)

        def predict(at: Pixel) -> tuple[np.ndarray, np.ndarray | None]:
            found = whole.predict(pixels, probabilities=at is not None)
            if at is None or found.probabilities is None:
                return found.labels, None
            return found.labels, found.probabilities[:, at[1], at[0]]

        height, width = pixels.shape[:2]
        size = fit_size(height, width, card.preprocess.scale or (width, height))
        content = size[0] / inputs[0].shape[-2], size[1] / inputs[0].shape[-1]
        return cls(pixels, card.classes, card.palette, predict, content, card.places[0], tuple(frames))

    @classmethod
    def _of_instances(cls, network: Any, pixels: np.ndarray) -> "Showing":
        def predict(at: Pixel) -> tuple[None, None]:
            with _resized(network) as sizes:
                network.predict(pixels)
            (inner, outer), *_ = sizes
            run.content = inner[0] / outer[0], inner[1] / outer[1]
            return None, None

        run = cls(pixels, network.classes, (), predict)
        return run

    @classmethod
    def _of_module(cls, network: nn.Module, x: Any) -> "Showing":
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() != 4 or len(x) != 1:
            raise CrissCrossError(
                f"{type(network).__name__} has no preprocessing of its own: give its input, a normalized float tensor "
                f"[1, 3, H, W], got {type(x).__name__}{list(getattr(x, 'shape', ()))}"
            )
        low, high = x.amin(), x.amax()
        shown_x = ((x[0] - low) / (high - low).clamp_min(1e-12) * 255).byte().permute(1, 2, 0).cpu().numpy()

        def predict(at: Pixel) -> tuple[None, None]:
            training = network.training
            try:
                with torch.no_grad():
                    network.eval()(x)
            finally:
                network.train(training)
            return None, None

        return cls(np.ascontiguousarray(shown_x[..., :3]), (), (), predict)


def _frames(image: Any, count: int) -> list[np.ndarray]:
    """The frames uint8 [H, W, 3] of a clip, or the one image of a clip that stands still."""
    if not isinstance(image, list | tuple):
        return [rgb(image)]
    if len(image) not in (1, count):
        raise CrissCrossError(
            f"the network takes clips of {count} frames, got {len(image)}"
            if count > 1
            else f"the network takes a single image, got {len(image)}"
        )
    frames = [rgb(one) for one in image]
    if len(sizes := {frame.shape[:2] for frame in frames}) > 1:
        shown = " and ".join(f"{width} x {height}" for height, width in sorted(sizes))
        raise CrissCrossError(f"the frames of a clip must have one size, got {shown}")
    return frames


def _network_input(predictor: Predictor, card: Card, image: np.ndarray) -> Any:
    """The normalized tensor [1, 3, h, w] that a predictor shows its network of a whole image."""
    inputs: list[Any] = []

    def encode(x: Any) -> Any:
        inputs.append(x)
        return x

    def decode(clip: Sequence[Any], places: Sequence[int]) -> Tensor:
        return torch.zeros(len(places), len(card.classes), 1, 1, device=clip[0].device)

    Predictor(Stages(encode, decode), card, predictor.place, predictor.running).predict(image)
    return inputs[0]


@contextmanager
def _resized(network: Any) -> Iterator[list[tuple[Size, Size]]]:
    """Inside, the sizes that torchvision's transform gives images, without and with padding."""
    found: list[tuple[Size, Size]] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        images = output[0]
        found.append((images.image_sizes[0], tuple(images.tensors.shape[-2:])))

    handle = network.transform.register_forward_hook(note)
    try:
        yield found
    finally:
        handle.remove()
