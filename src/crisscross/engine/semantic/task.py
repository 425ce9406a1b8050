"""Semantic segmentation as a task."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crisscross.config import Experiment
from crisscross.data import DataSet, open_dataset
from crisscross.data.color import index_image
from crisscross.data.sets.submission import prediction_path, write_prediction
from crisscross.engine.task import DEFAULTS, Built, Result, Scoring, Settled, Start, Task
from crisscross.inference import Prediction, Predictor, predictor_of
from crisscross.inference.formats import class_masks

if TYPE_CHECKING:
    # Exported networks are labeled with where torch is not installed.
    from torch import nn

    from crisscross.data.samples.loader import Batch, TrainingSamples
    from crisscross.losses import Losses
    from crisscross.models import Segmenter


class SemanticSegmentation(Task):
    """A class for every pixel."""

    name = "segmentation"
    experiment = Experiment
    title = "mIoU"
    columns = ("val_miou",)
    kinds = ("labels", "color", "overlay")
    formats = ("png", "polygons", "coco", "rle", "csv")
    refuses = {"score": "is for instance segmentation; this network labels every pixel"}  # noqa: RUF012

    def open(self, experiment: Experiment, root: str) -> DataSet:
        return open_dataset(experiment.data.name, root)

    def settle(self, experiment: Experiment, data: DataSet, start: Start, stored: Experiment | None = None) -> Settled:
        # Imported where it is needed: accelerate is slow to import, and predicting does without.
        from crisscross.engine.semantic.settle import settle

        return settle(experiment, data, start, stored)

    def build(self, experiment: Experiment, start: Start) -> Built:
        from crisscross.engine.semantic.build import build_network

        return build_network(experiment, start)

    def stages(self, network: "Segmenter") -> "list[list[nn.Parameter]]":
        from crisscross.engine.optimizer import backbone_stages

        return backbone_stages(network.backbone.net)

    def samples(self, experiment: Experiment, data: DataSet, cache: str = "", first: bool = True) -> "TrainingSamples":
        from crisscross.data.files.cache import open_cache
        from crisscross.data.samples.clips import training_samples

        pairs = data.split(experiment.data.train_split)
        return training_samples(data, pairs, experiment, open_cache(cache, data, pairs, first))

    def losses(self, experiment: Experiment) -> "SemanticLosses":
        return SemanticLosses(experiment)

    def evaluate(
        self, network: "Segmenter | Predictor", data: DataSet, split: str, options: Scoring = DEFAULTS
    ) -> Result:
        from crisscross.engine.semantic.evaluate import evaluate
        from crisscross.engine.semantic.result import as_result

        save = options.save
        write = None if save is None else lambda pair, labels: write_prediction(data, pair, labels, save)
        how = (options.workers, options.interrupted, options.title, options.tta, write, options.detailed)
        return as_result(evaluate(network, data, split, *how), data.classes, options.dice)

    def report(self, network: "Segmenter | Predictor", data: DataSet, split: str, result: Result) -> Mapping[str, Any]:
        from crisscross.engine.semantic.report import report_fields
        from crisscross.engine.semantic.result import SegmentationResult

        assert isinstance(result, SegmentationResult)

        return report_fields(network, data, split, result)

    def files(self, data: DataSet, split: str) -> Sequence[Path]:
        return [file for pair in data.split(split) for file in (pair.image, pair.mask)]

    def outputs(self, data: DataSet, split: str, folder: str | os.PathLike[str]) -> Sequence[Path]:
        return [prediction_path(data, pair, folder) for pair in data.split(split)]

    def load(self, source: Any, device: str = "cpu", **options: Any) -> "Segmenter":
        from crisscross.checkpoints.loading import load

        return load(source, device, **options)

    def predictor(self, network: "Segmenter | Predictor", **options: Any) -> Callable[[np.ndarray], Prediction]:
        predictor = predictor_of(network)
        return lambda image: predictor.predict(image, **options)

    def draw(
        self, network: "Segmenter | Predictor", image: np.ndarray, result: Prediction, legend: bool = False
    ) -> Mapping[str, Any]:
        return {
            "labels": index_image(result.labels, result.card.palette),
            "color": result.color(),
            "overlay": result.overlay(image, legend=legend),
        }

    def summary(self, result: Prediction) -> str:
        return str(result)

    def masks(self, result: Prediction) -> Iterable[tuple[int, np.ndarray, dict[str, Any]]]:
        return ((number, mask, {}) for number, mask in class_masks(result.labels, len(result.card.classes)))

    def fractions(self, result: Prediction) -> Sequence[float]:
        return list(result.fractions().values())

    def classifiers(self, network: "Segmenter") -> Sequence[str]:
        return network.classifiers


class SemanticLosses:
    """The losses of a training step; also counts which classes have occurred."""

    def __init__(self, experiment: Experiment) -> None:
        from crisscross.engine.semantic.unseen_classes import SeenClasses
        from crisscross.losses import create_loss

        self.loss = create_loss(experiment.loss, experiment.data.ignore, experiment.model.align_corners)
        self.seen = SeenClasses(experiment.data.classes)

    def __call__(self, network: Callable[..., Any], batch: "Batch") -> "Losses":
        import torch

        self.seen.see(batch.found)
        logits = network(batch.images.contiguous(memory_format=torch.channels_last), coarse=True)
        return self.loss(logits.main, logits.aux, batch.labels, logits.embedding, logits.edges)

    def summary(self) -> str:
        """Which classes never occurred, or ""."""
        return self.seen.line()
