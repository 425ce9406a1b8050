"""What was found out about the attention of a network: counts, sums, and the numbers that follow from them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crisscross.explanation.pixel import Explanation
from crisscross.explanation.receptive_field import Field
from crisscross.metrics import scores


@dataclass
class PassSpread:
    """How far one pass of a layer looks: sums over the positions of every class and of all images.

    Attributes:
        cells: [K] labeled positions of the feature map, by the true class of the pixel in their middle.
        entropy: [K] sums of the normalized entropy, see `Spread`.
        weight, pixels: by line [K] sums of the weight on it, and of weight times distance in pixels of the image.
        equal: by line the sum over all cells of the distance in pixels that equal weights would have.
    """

    cells: np.ndarray
    entropy: np.ndarray
    weight: dict[str, np.ndarray] = field(default_factory=dict)
    pixels: dict[str, np.ndarray] = field(default_factory=dict)
    equal: dict[str, float] = field(default_factory=dict)

    def mean_entropy(self, number: int | None = None) -> float | None:
        """The mean over a class, or over all of them; None without positions."""
        return _mean(self.entropy, self.cells, number)

    def share(self, line: str, number: int | None = None) -> float | None:
        """Which fraction of the weights lies on a line."""
        return _mean(self.weight[line], self.cells, number)

    def mean_distance(self, line: str, number: int | None = None) -> float | None:
        """How far away the mean weight along a line is, in pixels of the image (of `time` in frames)."""
        return _mean(self.pixels[line], self.weight[line], number)

    def equal_distance(self, line: str) -> float:
        """The same if all weights of the line were equal."""
        return self.equal[line] / max(int(self.cells.sum()), 1)


def _mean(total: np.ndarray, count: np.ndarray, number: int | None) -> float | None:
    sums = (total.sum(), count.sum()) if number is None else (total[number], count[number])
    return float(sums[0] / sums[1]) if sums[1] else None


@dataclass
class LayerSurvey:
    """One criss-cross layer: its gate, what each pass is like, and its receptive fields (one for each image)."""

    name: str
    gate: float
    passes: list[PassSpread] = field(default_factory=list)
    fields: list[Field] = field(default_factory=list)

    @property
    def sides(self) -> tuple[float, float] | None:
        """The mean side of the effective receptive field in pixels of the network's input, before and after."""
        sides = [one.sides for one in self.fields]
        return (sum(a for a, _ in sides) / len(sides), sum(b for _, b in sides) / len(sides)) if sides else None

    @property
    def added(self) -> float | None:
        """Norm of what all passes add to the layer's input, over the norm of that input; the mean over images."""
        return sum(one.added for one in self.fields) / len(self.fields) if self.fields else None


@dataclass
class Survey:
    """What the attention of a network does over images with their truth. K is the number of classes.

    Attributes:
        images, available: how many were looked at, and how many the split has.
        counts, counts_without: int64 [K, K], rows truth, columns prediction, with attention and with every gate at 0.
        changed: int64 [K], pixels of each true class whose label changes when attention is switched off.
        layers: the layers in the order of the network.
        examples: explanations of the pixels in the middle of the largest changes, each with its image's name and truth.
    """

    split: str
    images: int
    available: int
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    counts: np.ndarray
    counts_without: np.ndarray
    changed: np.ndarray
    layers: list[LayerSurvey]
    examples: list[tuple[str, np.ndarray, Explanation]]

    def facts(self) -> dict[str, Any]:
        """All numbers as JSON values."""
        with_it, without = scores(self.counts), scores(self.counts_without)
        pixels = self.counts.sum(1)
        return {
            "split": self.split,
            "images": self.images,
            "images_in_split": self.available,
            "miou": with_it.miou,
            "miou_switched_off": without.miou,
            "changed": float(self.changed.sum() / max(int(pixels.sum()), 1)),
            "classes": {
                name: {
                    "iou": with_it.iou[k],
                    "iou_switched_off": without.iou[k],
                    "changed": float(self.changed[k] / pixels[k]) if pixels[k] else None,
                }
                for k, name in enumerate(self.classes)
            },
            "layers": [self._layer(layer) for layer in self.layers],
        }

    def _layer(self, layer: LayerSurvey) -> dict[str, Any]:
        before, after = layer.sides or (None, None)
        return {
            "name": layer.name,
            "gate": layer.gate,
            "added": layer.added,
            "receptive_field": {"before": before, "after": after},
            "passes": [
                {
                    "all": _numbers(one, None),
                    "equal_weights": {f"{line}_distance": one.equal_distance(line) for line in one.equal},
                    "classes": {name: _numbers(one, k) for k, name in enumerate(self.classes)},
                }
                for one in layer.passes
            ],
        }


def _numbers(one: PassSpread, number: int | None) -> dict[str, float | None]:
    cells = int(one.cells.sum() if number is None else one.cells[number])
    found: dict[str, float | None] = {"positions": cells, "entropy": one.mean_entropy(number)}
    for line in one.weight:
        found[f"{line}_weight"] = one.share(line, number)
        found[f"{line}_distance"] = one.mean_distance(line, number)
    return found
