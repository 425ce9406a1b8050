"""Instances of files: drawn images, and one JSON file with all of them."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from crisscross.data.files.coco_masks import encode, import_coco
from crisscross.data.files.reading import read_image
from crisscross.engine.instances.draw import draw
from crisscross.engine.semantic.predict import Labeled, outputs
from crisscross.errors import CrissCrossError
from crisscross.files import write_atomically, write_text
from crisscross.models.instances import Instances, InstanceSegmenter

# A folder of drawn images, and the file with all instances.
KINDS, LIST = ("drawn",), "instances.json"
# Below it people rather see nothing.
SCORE = 0.5


def predict_instance_files(
    segmenter: InstanceSegmenter,
    images: Mapping[Path, Path],
    out: Path,
    score: float = SCORE,
    done: Callable[[Labeled, int], None] = lambda labeled, count: None,
) -> list[Labeled]:
    """Write `out/drawn/NAME.png` for every image, and `out/instances.json` with the instances of all.

    Args:
        segmenter: the network.
        images: source -> where its output goes, without suffix, as `engine.predict.find_images` gives it.
        out: the folder to write.
        score: instances below it are left out.
        done: called with every finished image, and how many are finished.

    An image that cannot be read is reported in its `Labeled.error`; the others go on.

    Raises:
        CrissCrossError: the folder cannot be written, or pycocotools is missing.
    """
    import_coco()
    results, found = [], []
    for count, (source, target) in enumerate(images.items(), 1):
        try:
            image = read_image(source)
        except CrissCrossError as error:
            results.append(Labeled(source, error=str(error)))
            done(results[-1], count)
            continue
        instances = segmenter.predict(image).above(score)
        (path,) = outputs({source: target}, out, KINDS)
        write_atomically(path, partial(draw(image, instances).save, format="PNG", compress_level=3))
        found.append({"file": str(source), "height": image.shape[0], "width": image.shape[1]})
        found[-1]["instances"] = as_entries(instances)
        results.append(Labeled(source, (path,)))
        done(results[-1], count)
    if found:
        write_text(out / LIST, json.dumps(found, indent=1) + "\n")
    return results


def as_entries(instances: Instances) -> list[dict[str, Any]]:
    """Instances as JSON values: class, score, box (left, top, right, bottom) and mask as COCO's run lengths."""
    return [
        {
            "class": instances.classes[int(label)],
            "score": round(float(score), 4),
            "box": [round(float(side), 1) for side in box],
            "mask": encode(mask),
        }
        for box, score, label, mask in zip(
            instances.boxes, instances.scores, instances.labels, instances.masks, strict=True
        )
    ]
