"""`crisscross.explain`: what the prediction at one pixel follows from."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

import numpy as np
from torch import Tensor, nn

from crisscross.errors import CrissCrossError, shown
from crisscross.explanation.attention import LayerAttention, layers_of, look, recorded, switched_off
from crisscross.explanation.showing import Showing, Size, cells
from crisscross.inference.sources import Image


@dataclass(frozen=True)
class Explanation:
    """Why a network labels a pixel as it does.

    Attributes:
        at: (x, y) of the pixel, from the top left corner.
        image: uint8 [H, W, 3].
        classes: their names.
        palette: one RGB color (0..255) for each class.
        probabilities: float32 [K] at the pixel; None for a network that labels no pixels.
        without: the same with attention switched off (every gate 0).
        labels: uint8 [H, W]; None for a network that labels no pixels.
        labels_without: the same with attention switched off.
        layers: what each criss-cross layer attends to from there.
        content: (height, width): which fraction of the network's input the image fills, the rest being padding.
        frames: the images of a clip, each like `image`, which is the labeled one; one where the clip stands still.
    """

    at: tuple[int, int]
    image: np.ndarray
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    probabilities: np.ndarray | None
    without: np.ndarray | None
    labels: np.ndarray | None
    labels_without: np.ndarray | None
    layers: tuple[LayerAttention, ...]
    content: tuple[float, float]
    frames: tuple[np.ndarray, ...] = ()

    def top(self, count: int = 3, without: bool = False) -> list[tuple[str, float]]:
        """The most probable classes at the pixel, (name, probability), largest first."""
        found = self.without if without else self.probabilities
        if found is None:
            return []
        return [(self.classes[k], float(found[k])) for k in np.argsort(-found)[:count]]

    @property
    def changed(self) -> float | None:
        """Which fraction of all pixels gets another label when attention is switched off."""
        if self.labels is None or self.labels_without is None:
            return None
        return float((self.labels != self.labels_without).mean())

    def on_image(self, weights: np.ndarray) -> np.ndarray:
        """Weights [h, w] of a feature map at the pixels of the image, [H, W]: each pixel has those of its cell."""
        rows, columns = (
            cells(pixels, fraction, length)
            for pixels, fraction, length in zip(self.image.shape, self.content, weights.shape, strict=False)
        )
        return weights[np.ix_(rows, columns)]

    def on_padding(self, weights: np.ndarray) -> float:
        """Which fraction of the weights [h, w] or [T, h, w] lies outside of the image, where the input is padded."""
        inside = [
            int(cells(pixels, fraction, length)[-1]) + 1
            for pixels, fraction, length in zip(self.image.shape, self.content, weights.shape[-2:], strict=False)
        ]
        return float(1 - weights[..., : inside[0], : inside[1]].sum() / weights.sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """All numbers by name, as `numpy.savez` takes them."""
        names = ("probabilities", "without", "labels", "labels_without")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        for layer in self.layers:
            found |= {f"{layer.name}.pass{number}": one for number, one in enumerate(layer.passes, 1)}
            found |= {f"{layer.name}.together{number}": one for number, one in enumerate(layer.together, 1)}
            found |= {f"{layer.name}.effective": layer.effective, f"{layer.name}.gate": np.float32(layer.gate)}
        return found


def explain(network: nn.Module, image: Image | Sequence[Image] | Tensor, at: tuple[int, int]) -> Explanation:
    """What a network attends to from one pixel, and what it would say there without attention.

    The image is shown as a whole, also where the network labels by sliding windows. To a network for clips a single
    image is a clip that stands still.

    Args:
        network: a `Segmenter` or `VideoSegmenter`, an `InstanceSegmenter`, or any module with criss-cross layers, such
            as `crisscross.surgery.insert_attention` puts in.
        image: as in `Predictor.predict`; for a network for clips of T frames also a list of T images of one size, in
            order; for any other module its input, a normalized tensor [1, 3, H, W].
        at: (x, y) of the pixel, counted from 0 at the top left corner; of a clip in its (first) labeled frame.

    Raises:
        CrissCrossError: the network has no criss-cross attention, the pixel is none of the image, an image
            cannot be read, or there are not as many as the network takes.
    """
    check_attends(network)
    run = Showing.of(network, image)
    height, width = run.pixels.shape[:2]
    try:
        x, y = at = tuple(map(index, at))  # type: ignore[assignment]
    except (TypeError, ValueError):
        raise CrissCrossError(f"at {shown(at)}: not a pixel, which is two whole numbers (x, y)") from None
    if not (0 <= x < width and 0 <= y < height):
        raise CrissCrossError(f"at {shown(at)}: outside of the image, which is {width} x {height} pixels")
    with recorded(network) as inputs:
        labels, probabilities = run.predict(at)
    with switched_off(network):
        labels_without, without = run.predict(at)
    content = run.content
    layers = [
        look(name, layer, inputs[name], _cell(at, (height, width), content, inputs[name][0], run.frame))
        for name, layer in layers_of(network).items()
        if inputs[name]
    ]
    everything = (probabilities, without, labels, labels_without)
    return Explanation(at, run.pixels, run.classes, run.palette, *everything, tuple(layers), content, run.frames)


def check_attends(network: object, name: str | None = None) -> None:
    """Refuse what has no criss-cross attention to look into.

    Args:
        network: what is to be explained.
        name: what the message calls it; its type without.

    Raises:
        CrissCrossError: it is no network, or one without criss-cross layers.
    """
    if not isinstance(network, nn.Module):
        raise CrissCrossError(f"only a network with its weights can be explained, got {type(network).__name__}")
    if not layers_of(network):
        raise CrissCrossError(
            f"{name or type(network).__name__} has no criss-cross attention to explain (R = 0, or attention of another "
            "kind)"
        )


def _cell(at: tuple[int, int], size: Size, content: tuple[float, float], x: Tensor, frame: int) -> tuple[int, ...]:
    """The cell of a layer's input that holds a pixel."""
    column, row = (int(cells(size[side], content[side], x.shape[side - 2])[at[1 - side]]) for side in (1, 0))
    return (frame, row, column) if x.dim() == 5 else (row, column)
