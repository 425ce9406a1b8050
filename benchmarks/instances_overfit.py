"""Check that instance segmentation learns: overfit 20 real images of COCO and score the very same images.

    python benchmarks/instances_overfit.py COCO --backbone-weights resnet50.safetensors --out runs/overfit

The images are the first of the training split that have instances, by number. The run can be stopped with Ctrl-C and
typed again with --resume. Mask AP above 0.5 is expected; it says nothing about images that were not trained on.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import torch

from crisscross.cli.tables import print_result
from crisscross.config import override
from crisscross.engine.setup import Machine
from crisscross.engine.train import train
from crisscross.files import write_text
from crisscross.instances.annotations import InstanceSplit, open_coco_instances
from crisscross.instances.task import InstanceSegmentation
from crisscross.instances.weights import load_instances, recipe
from crisscross.zoo.instances import SMALL_NAME

# Small images, no mirror images, and a schedule of some 15 minutes of one quiet processor core.
SETTINGS = (
    *("preprocess.short=256", "preprocess.long=427", "augment.flip=0", "model.trainable_layers=1"),
    *("model.channels=96", "proposals.train=300", "proposals.test=200", "proposals.anchors=64", "proposals.boxes=64"),
    *("optim.lr=4e-4", "optim.weight_decay=0", "optim.warmup=40", "optim.steps=[1000, 1150]"),
    *("train.batch=1", "train.iterations=1200", "train.validate_every=400", "train.checkpoint_every=50"),
)


def chosen_images(split: InstanceSplit, count: int, folder: Path) -> None:
    """Write a data set of the first `count` images that can be learned from, as its own train and val split."""
    images = sorted(split.learnable)[:count]
    numbers = {image.number for image in images}
    tree = split.as_coco()
    tree["images"] = [entry for entry in tree["images"] if entry["id"] in numbers]
    tree["annotations"] = [entry for entry in tree["annotations"] if entry["image_id"] in numbers]
    for name in ("train", "val"):
        write_text(folder / "annotations" / f"instances_{name}2017.json", json.dumps(tree))
        (folder / f"{name}2017").mkdir(exist_ok=True)
        for image in images:
            target = folder / f"{name}2017" / image.path.name
            if not target.exists():
                try:
                    os.symlink(image.path.resolve(), target)
                except OSError:
                    shutil.copy(image.path, target)


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="COCO")
    parser.add_argument("--backbone-weights", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    parser.add_argument("--recipe", default=SMALL_NAME, metavar="NAME")
    parser.add_argument("--images", type=int, default=20, metavar="N")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--threads", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    folder = arguments.out / "images"
    chosen_images(open_coco_instances(arguments.data).split("train"), arguments.images, folder)
    experiment = override(recipe(arguments.recipe), [*SETTINGS, *arguments.set])
    data, run, task = open_coco_instances(folder), arguments.out / "run", InstanceSegmentation()
    what = (experiment, data, run, Machine(), arguments.backbone_weights, arguments.resume)
    if train(*what, task=task).finished:
        print_result(task.evaluate(load_instances(run), data, "val"))


if __name__ == "__main__":
    main()
