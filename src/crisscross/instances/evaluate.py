"""Average precision as COCO counts it, by pycocotools."""

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object

from crisscross.data.files.coco_masks import check_shape, encode, import_coco
from crisscross.engine.run.interrupt import Interrupted
from crisscross.engine.task import Result
from crisscross.instances.annotations import InstanceImage, InstanceSplit, check_categories
from crisscross.instances.network import InstanceSegmenter
from crisscross.instances.result import Instances
from crisscross.instances.samples import whole_images
from crisscross.progress import Progress
from crisscross.terminal import decimal

# The rows of COCOeval's summary that people quote.
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
# One entry of COCO results files.
Entry = dict[str, Any]


@dataclass(frozen=True)
class Precision:
    """Average precision 0..1 by the names of `NAMES`, and of each class; None where the split has no such instance."""

    summary: dict[str, float | None]
    classes: dict[str, float | None]


@dataclass(frozen=True)
class InstanceEvaluation:
    """Scores of one split: `box` and `mask` precision, `results` with box and mask in one, see `coco_results`.

    `seconds` is the whole time; `fps` is images a second from pixels to masks at the image's size.
    """

    split: str
    images: int
    box: Precision
    mask: Precision
    seconds: float
    fps: float | None
    results: list[Entry] = field(repr=False, default_factory=list)


def evaluate_instances(
    segmenter: InstanceSegmenter,
    split: InstanceSplit,
    workers: int = 0,
    interrupted: Callable[[], bool] = lambda: False,
    title: str = "evaluate",
) -> InstanceEvaluation:
    """Find the instances of every image of a split and score them; several processes share the images.

    Crowds are ignored regions and images without annotations count, as in pycocotools.

    Raises:
        CrissCrossError: classes that do not fit, an unreadable image, or damaged annotations.
        Interrupted: `interrupted` said so.
    """
    check_categories(segmenter.experiment.data, split)
    truth = as_coco(split.as_coco(), split)
    state, began = PartialState(), time.perf_counter()
    mine = split.images[state.process_index :: state.num_processes]
    stop = interrupted if state.num_processes == 1 else lambda: False
    results, times = [], []
    with Progress(title, len(mine), show=state.is_main_process) as progress:
        pixels = whole_images(mine, workers)
        for done, (image, array) in enumerate(zip(mine, pixels, strict=True), 1):
            before = time.perf_counter()
            found = segmenter.predict(array.numpy())
            times.append(time.perf_counter() - before)
            results += as_results(found, image, segmenter.experiment.data.categories)
            progress.update(done)
            if stop():
                raise Interrupted
    if state.num_processes > 1:
        results = gather_object(results)
    box, mask = (average_precision(truth, results, split, kind) for kind in ("bbox", "segm"))
    fps = len(times) / sum(times) if times else None
    return InstanceEvaluation(split.name, len(split), box, mask, time.perf_counter() - began, fps, results)


def as_results(found: Instances, image: InstanceImage, categories: tuple[int, ...]) -> list[Entry]:
    """Instances as entries of COCO results files, with box and mask in one."""
    entries = []
    for box, score, label, mask in zip(found.boxes, found.scores, found.labels, found.masks, strict=True):
        left, top, right, bottom = (float(side) for side in box)
        entries.append(
            {
                "image_id": image.number,
                "category_id": categories[int(label)],
                "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
                "score": round(float(score), 5),
                "segmentation": encode(mask),
            }
        )
    return entries


def coco_results(results: list[Entry], kind: str) -> list[Entry]:
    """The entries of a COCO results file of one kind, `bbox` or `segm`.

    COCO's tools take an entry that has a box for a box and its area for the area of the find, whatever else it has.
    """
    left_out = "segmentation" if kind == "bbox" else "bbox"
    return [{key: value for key, value in result.items() if key != left_out} for result in results]


def as_coco(tree: dict[str, Any], split: InstanceSplit) -> Any:
    """Annotations as a `COCO` of pycocotools, numbered from 1: it takes a match with number 0 for none.

    Raises:
        CrissCrossError: damaged run lengths.
    """
    import_coco()
    from pycocotools.coco import COCO

    for entry in tree["annotations"]:
        check_shape(entry.get("segmentation"), f"{split.file}: annotation {entry['id']}")
    coco = COCO()
    coco.dataset = {**tree, "annotations": [{**e, "id": number} for number, e in enumerate(tree["annotations"], 1)]}
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def average_precision(truth: Any, results: list[Entry], split: InstanceSplit, kind: str) -> Precision:
    """COCO's average precision; `kind` is `bbox` or `segm`."""
    from pycocotools.cocoeval import COCOeval

    entries = [_entry(number, result, kind) for number, result in enumerate(results, 1)]
    images, categories = truth.dataset["images"], truth.dataset["categories"]
    found = as_coco({"images": images, "annotations": entries, "categories": categories}, split)
    with contextlib.redirect_stdout(io.StringIO()):
        counted = COCOeval(truth, found, kind)
        counted.evaluate()
        counted.accumulate()
        counted.summarize()
    summary = {name: _known(value) for name, value in zip(NAMES, counted.stats[:6], strict=True)}
    # [overlaps, recalls, classes, areas, most detections]: all areas, 100 detections.
    precision = counted.eval["precision"][:, :, :, 0, -1]
    numbers = counted.params.catIds
    names = dict(zip(split.categories, split.classes, strict=True))
    by_class = {names[number]: _mean(precision[:, :, place]) for place, number in enumerate(numbers)}
    return Precision(summary, by_class)


def _entry(number: int, result: Entry, kind: str) -> dict[str, Any]:
    """A result with what COCOeval reads; the area is that of the box or of the mask, whichever is scored."""
    entry = {"id": number, "iscrowd": 0, **{key: result[key] for key in ("image_id", "category_id", "score")}}
    if kind == "bbox":
        return entry | {"bbox": result["bbox"], "area": result["bbox"][2] * result["bbox"][3]}
    shape = result["segmentation"]
    return entry | {"segmentation": shape, "area": float(import_coco().mask.area(shape))}


def _known(value: float) -> float | None:
    """COCOeval gives -1 where there is no annotation. NaN would stay the best score for ever, as it compares false."""
    return float(value) if value >= 0 else None


def _mean(precision: np.ndarray) -> float | None:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None


def as_result(found: InstanceEvaluation) -> Result:
    """What the trainer and the commands take of an evaluation."""
    by_class = [["class", "box AP", "mask AP"]]
    for name, mask in found.mask.classes.items():
        if mask is not None:
            by_class.append([name, _percent(found.box.classes[name]), _percent(mask)])
    kinds = {"box": found.box, "mask": found.mask}
    summary = [["", *NAMES], *([kind, *map(_percent, one.summary.values())] for kind, one in kinds.items())]
    line = (
        f"AP in percent, as COCO counts it ({found.split}: {found.images} images, {found.seconds:.1f} s, "
        f"{decimal(found.fps, 2)} images/s); APs, APm, APl: below 32 x 32 pixels, up to 96 x 96, above"
    )
    facts = {"task": "instances", "split": found.split, "images": found.images}
    facts |= {kind: {**one.summary, "classes": one.classes} for kind, one in kinds.items()}
    facts |= {"seconds": round(found.seconds, 2), "fps": found.fps}
    logged = {f"val_{kind}_ap": one.summary["AP"] for kind, one in reversed(kinds.items())}
    return Result(found.mask.summary["AP"], logged, [by_class, "", summary, line], facts)


def _percent(value: float | None) -> str:
    return decimal(value and 100 * value, 1)
