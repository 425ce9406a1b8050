"""Instance segmentation as a task: Mask R-CNN, scored by COCO's average precision."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from crisscross.data.files.coco_masks import encode, import_coco
from crisscross.engine.optimizer import backbone_stages
from crisscross.engine.task import DEFAULTS, Built, Result, Scoring, Settled, Start, Task
from crisscross.errors import CrissCrossError
from crisscross.files import output_path, write_text
from crisscross.instances.annotations import InstanceData, open_coco_instances
from crisscross.instances.check import check_data
from crisscross.instances.config import PUBLISHED_BATCH, PUBLISHED_RATE, InstanceExperiment
from crisscross.instances.draw import draw
from crisscross.instances.evaluate import as_result, coco_results, evaluate_instances
from crisscross.instances.network import InstanceSegmenter
from crisscross.instances.report import report_fields
from crisscross.instances.result import Instances
from crisscross.instances.samples import InstanceBatch, InstanceSamples
from crisscross.instances.weights import build_network, load_instances, with_start
from crisscross.losses import Losses

# Instances that score less are not drawn.
SCORE = 0.5
NOT_HERE = "is not available for instance segmentation"
LABELS_PIXELS = "takes networks that label pixels"


class InstanceSegmentation(Task):
    """A box, a class and a mask for every object."""

    name = "instances"
    experiment = InstanceExperiment
    title = "mask AP"
    columns = ("val_mask_ap", "val_box_ap")
    formats = ("png", "polygons", "coco", "rle")
    listing = "instances.json"
    layouts = ("coco-instances",)
    # Images keep their shapes.
    one_size = False
    refuses = {  # noqa: RUF012
        "cache": f"{NOT_HERE}: images are read once an epoch, masks are decoded from the annotations",
        "compile": f"{NOT_HERE}: every image has another size, for which torch.compile would compile anew",
        "name": f"{NOT_HERE}: its data has COCO's layout",
        "tta": NOT_HERE,
        "dice": f"{NOT_HERE}: it is scored by average precision",
        "optimize": NOT_HERE,
        "backend": NOT_HERE,
        "precision": f"{NOT_HERE}: boxes would be off by pixels",
        "big": NOT_HERE,
        "plot": NOT_HERE,
        "report": NOT_HERE,
        "legend": f"{NOT_HERE}: names are drawn beside the instances",
        "video": "is not available: networks of instance segmentation take images",
        "app": LABELS_PIXELS,
        "serve": LABELS_PIXELS,
        "crisscross.predictor": LABELS_PIXELS,
        "benchmark": "handles semantic segmentation only",
        "convert": "handles semantic segmentation only",
        "export": "stops in torchvision's batched_nms, which asks for the number of boxes: see docs/deploy.md",
    }

    def open(self, experiment: InstanceExperiment, root: str) -> InstanceData:
        import_coco()
        return open_coco_instances(root)

    def check(self, root: str) -> tuple[list[str], list[str]]:
        return check_data(open_coco_instances(root))

    def settle(
        self, experiment: InstanceExperiment, data: InstanceData, start: Start, stored: InstanceExperiment | None = None
    ) -> Settled:
        import_coco()
        val_split = experiment.data.val_split if data.has(experiment.data.val_split) else ""
        split = data.split(experiment.data.train_split)
        lines = [scaling_advice(experiment)]
        for each in (split, data.split(val_split)) if val_split else (split,):
            each.check_files()
            lines += [f"{each.name}: {line}" for line in each.report]
        if not split.learnable:
            raise CrissCrossError(f"{split.file}: no image has an instance to learn from")
        if left_out := len(split) - len(split.learnable):
            lines.append(f"train: {left_out} of {len(split)} images have no instance to learn from: left out")
        if stored is not None and not experiment.data.classes:
            # They follow from the weights that the run began with.
            kept = replace(experiment.data, classes=stored.data.classes, categories=stored.data.categories)
            model = replace(experiment.model, norm_eps=stored.model.norm_eps)
            experiment = replace(experiment, data=kept, model=model)
        settled = with_start(experiment, split, start) if stored is None else experiment
        return Settled(settled, val_split, [line for line in lines if line])

    def build(self, experiment: InstanceExperiment, start: Start) -> Built:
        return build_network(experiment, start)

    def stages(self, network: InstanceSegmenter) -> list[list[nn.Parameter]]:
        attention = {id(p) for name, p in network.named_parameters() if ".attention." in name}
        return [[p for p in stage if id(p) not in attention] for stage in backbone_stages(network.backbone.body)]

    def samples(
        self, experiment: InstanceExperiment, data: InstanceData, cache: str = "", first: bool = True
    ) -> InstanceSamples:
        return InstanceSamples(data.split(experiment.data.train_split), experiment)

    def epoch_size(self, experiment: InstanceExperiment, data: InstanceData) -> int:
        return len(data.split(experiment.data.train_split).learnable)

    def losses(self, experiment: InstanceExperiment) -> Callable[[Callable[..., Any], InstanceBatch], Losses]:
        def step(network: Callable[..., Any], batch: InstanceBatch) -> Losses:
            losses = network(batch.images, batch.targets)
            parts = {name.removeprefix("loss_"): loss.detach() for name, loss in losses.items()}
            return Losses(torch.stack(list(losses.values())).sum(), parts)

        return step

    def evaluate(
        self, network: InstanceSegmenter, data: InstanceData, split: str, options: Scoring = DEFAULTS
    ) -> Result:
        how = (options.workers, options.interrupted, options.title)
        found = evaluate_instances(network, data.split(split), *how)
        if options.save is not None:
            for kind, path in zip(("bbox", "segm"), self.outputs(data, split, options.save), strict=True):
                write_text(path, json.dumps(coco_results(found.results, kind)) + "\n")
        return as_result(found)

    def report(self, network: InstanceSegmenter, data: InstanceData, split: str, result: Result) -> Mapping[str, Any]:
        return report_fields(network, data.split(split), result.facts, SCORE)

    def files(self, data: InstanceData, split: str) -> Sequence[Path]:
        found = data.split(split)
        found.check_files()
        return [found.file, *(image.path for image in found.images)]

    def outputs(self, data: InstanceData, split: str, folder: str | os.PathLike[str]) -> Sequence[Path]:
        return [output_path(folder, f"instances_{split}_{kind}_results.json") for kind in ("bbox", "segm")]

    def load(self, source: Any, device: str = "cpu", trust: Any = None, **options: Any) -> InstanceSegmenter:
        return load_instances(source, device, **options)

    def predictor(self, network: InstanceSegmenter, **options: Any) -> Callable[[np.ndarray], Instances]:
        import_coco()
        score = options.get("score", SCORE)
        return lambda image: network.predict(image).above(score)

    def draw(
        self, network: InstanceSegmenter, image: np.ndarray, result: Instances, legend: bool = False
    ) -> Mapping[str, Any]:
        return {"drawn": draw(image, result)}

    def summary(self, result: Instances) -> str:
        """How many of each class: `3 car, 1 person`."""
        counts = Counter(result.classes[int(label)] for label in result.labels).most_common()
        return ", ".join(f"{count} {name}" for name, count in counts) or "nothing"

    def masks(self, result: Instances) -> Iterator[tuple[int, np.ndarray, dict[str, Any]]]:
        for box, score, label, mask in zip(result.boxes, result.scores, result.labels, result.masks, strict=True):
            yield int(label), mask, _facts(score, box)

    def categories(self, network: InstanceSegmenter) -> list[dict[str, Any]]:
        """With the ids of the data that the network was trained on."""
        found, ids = super().categories(network), network.experiment.data.categories
        return [row | {"id": number} for row, number in zip(found, ids, strict=True)]

    def facts(self, result: Instances) -> list[dict[str, Any]]:
        """Class, score, box (left, top, right, bottom) and mask as COCO's run lengths of each instance."""
        return [
            {"class": result.classes[number], **facts, "mask": encode(mask)}
            for number, mask, facts in self.masks(result)
        ]

    def classifiers(self, network: InstanceSegmenter) -> Sequence[str]:
        return ("roi_heads.box_predictor.cls_score", "roi_heads.mask_predictor.mask_fcn_logits")


def _facts(score: float, box: Sequence[float]) -> dict[str, Any]:
    return {"score": round(float(score), 4), "box": [round(float(side), 1) for side in box]}


def scaling_advice(experiment: InstanceExperiment) -> str:
    """A line where the published rate meets another batch than its own, else ""."""
    optim, batch = experiment.optim, experiment.train.batch
    if optim.name != "sgd" or optim.lr != PUBLISHED_RATE or batch == PUBLISHED_BATCH:
        return ""
    scaled = PUBLISHED_RATE * batch / PUBLISHED_BATCH
    return (
        f"optim.lr={optim.lr:g} is published for {PUBLISHED_BATCH} images a step, train.batch is {batch}: the linear "
        f"rule would give --set optim.lr={scaled:g}; nothing is scaled by itself"
    )
