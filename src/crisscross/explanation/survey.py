"""Look at what the attention of a network does, over the images of a split."""

from typing import Any

import numpy as np
import torch
from torch import nn

from crisscross.data import DataSet, Pair
from crisscross.data.files.reading import read_pair
from crisscross.errors import CrissCrossError
from crisscross.explanation.attention import layers_of, recorded, switched_off
from crisscross.explanation.findings import LayerSurvey, PassSpread, Survey
from crisscross.explanation.pixel import check_attends, explain
from crisscross.explanation.receptive_field import Field, fields
from crisscross.explanation.showing import Showing
from crisscross.explanation.spread import LINES, Spread, spread
from crisscross.inference import Predictor, predictor_of
from crisscross.layers.modes import evaluating
from crisscross.metrics import ConfusionMatrix
from crisscross.progress import Progress

# Images that the page shows with a pixel explained, and images on which receptive fields are measured.
EXAMPLES, FIELDS = 4, 8
# Gradients are taken of the middle of larger images: their memory grows with the area.
LARGEST = 1024


def survey_network(network: nn.Module, dataset: DataSet, split: str, images: int = 50) -> Survey:
    """Look at what the attention of a network does over evenly chosen images of a split.

    Images are shown as in `crisscross.explain`: as a whole, to a network for clips as a clip that stands still.

    Args:
        network: a `Segmenter` or `VideoSegmenter` with criss-cross attention.
        dataset: data with the network's classes.
        split: name of the split.
        images: how many images to look at, at most.

    Raises:
        CrissCrossError: the network has no criss-cross attention, gives no labels of pixels or has another number of
            classes, there is no such split, or an image cannot be read.
    """
    check_attends(network)
    predictor, pairs = predictor_of(network), dataset.split(split)
    ours, theirs = len(predictor.classes), len(dataset.classes)
    if ours != theirs:
        raise CrissCrossError(f"{dataset.root}: has {theirs} classes, the network {ours}")
    chosen = [pairs[place * len(pairs) // min(images, len(pairs))] for place in range(min(images, len(pairs)))]
    with Progress("explain", len(chosen)) as progress:
        found = _Looking(network, predictor, dataset)
        for done, pair in enumerate(chosen, 1):
            found.look(pair, measure_field=done * FIELDS // len(chosen) > (done - 1) * FIELDS // len(chosen))
            progress.update(done)
    examples = [
        (pair.name, read_pair(pair, dataset)[1], explain(network, pair.image, at)) for _, pair, at in found.most_changed
    ]
    without = found.without.counts
    return Survey(
        split, len(chosen), len(pairs), predictor.classes, predictor.palette, found.matrix.counts, without,
        found.changed, list(found.layers.values()), examples,
    )  # fmt: skip


class _Looking:
    """What is counted, image by image."""

    def __init__(self, network: nn.Module, predictor: Predictor, dataset: DataSet) -> None:
        self.network, self.predictor, self.dataset = network, predictor, dataset
        count = len(predictor.classes)
        self.matrix, self.without = (ConfusionMatrix(count, dataset.ignore) for _ in range(2))
        self.changed = np.zeros(count, np.int64)
        gates = {name: float(layer.gamma.detach()) for name, layer in layers_of(network).items()}
        self.layers = {name: LayerSurvey(name, gate) for name, gate in gates.items()}
        self.most_changed: list[tuple[float, Pair, tuple[int, int]]] = []

    def look(self, pair: Pair, measure_field: bool) -> None:
        pixels, truth = read_pair(pair, self.dataset)
        showing = Showing.of(self.network, pixels)
        with recorded(self.network) as inputs:
            labels, _ = showing.predict(None)
        with switched_off(self.network):
            without, _ = showing.predict(None)
        assert labels is not None and without is not None
        self.matrix.update(labels, truth)
        self.without.update(without, truth)
        differs = labels != without
        self.changed += _by_class(truth[differs], None, len(self.changed))
        self._keep_example(float(differs.mean()), pair, densest(differs))
        for name, layer in layers_of(self.network).items():
            entry = self.layers[name]
            for number, x in enumerate(inputs[name]):
                if number == len(entry.passes):
                    entry.passes.append(PassSpread(np.zeros(len(self.changed)), np.zeros(len(self.changed))))
                _add(entry.passes[number], spread(layer, x), truth, showing)
        if measure_field:
            for name, one in _fields(self.network, self.predictor, pixels).items():
                self.layers[name].fields.append(one)

    def _keep_example(self, fraction: float, pair: Pair, at: tuple[int, int]) -> None:
        kept = sorted([*self.most_changed, (fraction, pair, at)], key=lambda entry: -entry[0])
        self.most_changed = kept[:EXAMPLES]


def _by_class(classes: np.ndarray, values: np.ndarray | None, count: int) -> np.ndarray:
    """Sums of values (or numbers of entries) by class, [K]; other numbers, such as the ignored one, are left out."""
    kept = classes < count
    return np.bincount(classes[kept], None if values is None else values[kept], count)[:count]


def _add(total: PassSpread, one: Spread, truth: np.ndarray, showing: Showing) -> None:
    """Add an image's weights by the true class in the middle of each cell."""
    size = one.entropy.shape[-2:]
    pixels = [np.array(truth.shape[side]) / (showing.content[side] * size[side]) for side in (0, 1)]
    middles = [((np.arange(size[side]) + 0.5) * pixels[side]).astype(int) for side in (0, 1)]
    kept = [middle[middle < truth.shape[side]] for side, middle in enumerate(middles)]
    classes = truth[np.ix_(*kept)].ravel()
    count, inside = len(total.cells), np.s_[..., : len(kept[0]), : len(kept[1])]

    def values(of: np.ndarray) -> np.ndarray:
        return (of[showing.frame] if of.ndim == 3 else of)[inside].ravel()

    cells, first = _by_class(classes, None, count), next(iter(one.weight))
    total.cells = total.cells + cells
    total.entropy = total.entropy + _by_class(classes, values(one.entropy), count)
    for line in one.weight:
        length = one.entropy.shape[LINES[line]]
        cell = 1.0 if line == "time" else float(pixels[LINES[line]])
        zero = np.zeros(count)
        total.weight[line] = total.weight.get(line, zero) + _by_class(classes, values(one.weight[line]), count)
        total.pixels[line] = total.pixels.get(line, zero) + _by_class(classes, cell * values(one.reach[line]), count)
        # The mean distance of two positions of a line; the position itself belongs to the first line alone.
        equal = cell * ((length**2 - 1) / (3 * length) if line == first else (length + 1) / 3)
        total.equal[line] = total.equal.get(line, 0.0) + equal * int(cells.sum())


def _fields(network: nn.Module, predictor: Predictor, pixels: np.ndarray) -> dict[str, Field]:
    card = predictor.card
    x: Any = predictor.preprocess(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))))
    for side in (-2, -1):
        x = x.narrow(side, max(x.shape[side] - LARGEST, 0) // 2, min(x.shape[side], LARGEST))

    def run(x: Any) -> None:
        predictor.stages.decode([predictor.stages.encode(x)] * card.frames, card.places)

    with evaluating(network):
        return fields(network, run, x)


def densest(marked: np.ndarray) -> tuple[int, int]:
    """(x, y) of the marked pixel with the most marked ones around it, where near ones count more.

    Args:
        marked: bool [H, W]; without any it is the middle.
    """
    height, width = marked.shape
    if not marked.any():
        return width // 2, height // 2
    reach = max(min(height, width) // 20, 1)
    around = _window_sums(_window_sums(marked.astype(np.int64), reach), reach)
    y, x = np.unravel_index(int(np.where(marked, around, 0).argmax()), marked.shape)
    return int(x), int(y)


def _window_sums(values: np.ndarray, reach: int) -> np.ndarray:
    """The sum over the window around each position [H, W]; outside are zeros."""
    sums = np.pad(np.pad(values, reach).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    side = 2 * reach + 1
    return sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
