"""`crisscross train|evaluate|predict` for instance segmentation: what the three commands hand over to."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crisscross.cli.options import network_files
from crisscross.cli.tables import print_table
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.config import InstanceExperiment
    from crisscross.engine.instances.evaluate import InstanceEvaluation, Precision

# Options of the commands that mean something for semantic segmentation alone.
NOT_IN_TRAIN = ("cache", "compile", "shard")
NOT_IN_EVALUATE = ("name", "tta", "optimize", "precision")
NOT_IN_PREDICT = ("optimize", "tta", "big", "block", "overlap", "precision")
NOT_IN_CHECK = ("image",)
# How many problems of a data set are printed.
PROBLEMS = 50
# Options that mean something here alone.
OWN = ("score",)


def is_instance_recipe(recipe: str) -> bool:
    """Whether a zoo name or a YAML file is about instances."""
    from crisscross import zoo
    from crisscross.config.instances import TASK
    from crisscross.config.parse import read_tree, task_of

    if recipe.endswith((".yaml", ".yml")) or Path(recipe).is_file():
        return task_of(read_tree(recipe)) == TASK
    return recipe in zoo.INSTANCE_RECIPES


def is_instance_network(network: str) -> bool:
    """Whether a run folder, a file of ours or a zoo name is about instances."""
    from crisscross import zoo
    from crisscross.config.instances import TASK

    path = Path(network)
    if path.is_dir() or path.suffix == ".safetensors":
        from crisscross.checkpoints.native import RUN_WEIGHTS, stored_task

        for file in [path / name for name in RUN_WEIGHTS] if path.is_dir() else [path]:
            if file.is_file():
                return stored_task(file) == TASK
    return network in zoo.INSTANCE_RECIPES


def refuse_instance_options(arguments: argparse.Namespace) -> None:
    """Refuse what only instance segmentation knows.

    Raises:
        CrissCrossError: such an option is given.
    """
    _refuse(arguments, OWN, "is for instance segmentation; this is semantic segmentation")


def _refuse(arguments: argparse.Namespace, names: tuple[str, ...], why: str) -> None:
    for name in names:
        if getattr(arguments, name, None) not in (None, False, ""):
            raise CrissCrossError(f"--{name.replace('_', '-')} {why}")


def experiment_from(recipe: str, changes: list[str]) -> "InstanceExperiment":
    """The experiment of a zoo name or a YAML file, with `--set` words applied."""
    from crisscross import zoo
    from crisscross.config import InstanceExperiment, override
    from crisscross.config.parse import load_tree

    named = recipe in zoo.INSTANCE_RECIPES and not Path(recipe).is_file()
    return override(zoo.instance_recipe(recipe) if named else load_tree(recipe, InstanceExperiment), changes)


def train(arguments: argparse.Namespace) -> int:
    """Run `crisscross train`."""
    _refuse(arguments, NOT_IN_TRAIN, "is not there for instance segmentation")
    experiment = experiment_from(arguments.recipe, arguments.set)
    import torch

    from crisscross.checkpoints.native import run_weights
    from crisscross.cli.train import resume_command
    from crisscross.data.coco_instances import open_coco_instances
    from crisscross.engine.instances.build import Start
    from crisscross.engine.instances.train import train_instances
    from crisscross.engine.setup import Machine

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    machine = Machine(arguments.workers, arguments.cpu, arguments.tensorboard, tuple(arguments.track))
    start = Start(arguments.backbone_weights, run_weights(Path(arguments.init)) if arguments.init else None)
    data = open_coco_instances(arguments.data)
    outcome = train_instances(experiment, data, arguments.out, machine, start, arguments.resume)
    position, out = outcome.position, arguments.out
    if not outcome.main_process:
        return 0 if outcome.finished else 130
    if not outcome.finished:
        say(f"stopped after iteration {position.iteration}; {out / 'last.safetensors'} is saved; continue with")
        say(f"  {resume_command(arguments)}")
        return 130
    if position.best_mask_ap is not None:
        say(f"best validation mask AP {position.best_mask_ap:.4f} at iteration {position.best_iteration}")
    say(f"done: {out}; score it with `crisscross evaluate {out} --data {arguments.data}`")
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """Run `crisscross evaluate`."""
    _refuse(arguments, NOT_IN_EVALUATE, "is not there for instance segmentation")
    from crisscross.checkpoints.instances import load_instances
    from crisscross.data.coco_instances import open_coco_instances
    from crisscross.data.files.coco_masks import import_coco
    from crisscross.engine.instances.evaluate import coco_results, evaluate_instances
    from crisscross.engine.semantic.evaluate import choose_device, is_main_process
    from crisscross.files import claim, output_path, write_text

    import_coco()
    data, device = open_coco_instances(arguments.data), choose_device(arguments.cpu)
    segmenter = load_instances(arguments.network, device, weights=arguments.weights, offline=arguments.offline)
    split = data.split(arguments.split or segmenter.experiment.data.val_split)
    split.check_files()
    folder = arguments.save_predictions
    files = {
        kind: output_path(folder, f"instances_{split.name}_{kind}_results.json")
        for kind in (("bbox", "segm") if folder else ())
    }
    if is_main_process():
        targets = [*files.values(), *([arguments.json] if arguments.json else [])]
        claim(targets, [*network_files(arguments), split.file], arguments.force)
        for line in split.report:
            say(f"{split.name}: {line}", error=True)
    result = evaluate_instances(segmenter, split, arguments.workers)
    if not is_main_process():
        return 0
    print_evaluation(result)
    if arguments.json:
        write_text(arguments.json, json.dumps(facts(result), indent=1) + "\n")
    for kind, path in files.items():
        write_text(path, json.dumps(coco_results(result.results, kind)) + "\n")
        say(f"wrote {path}: {len(result.results)} instances as a COCO results file")
    return 0


def facts(result: "InstanceEvaluation") -> dict[str, Any]:
    """An evaluation as JSON values; what has no instances is null."""

    def plain(found: "Precision") -> dict[str, Any]:
        return {**found.summary, "classes": found.classes}

    return {
        "task": "instances",
        "split": result.split,
        "images": result.images,
        "box": plain(result.box),
        "mask": plain(result.mask),
        "seconds": round(result.seconds, 2),
        "fps": result.fps,
    }


def print_evaluation(result: "InstanceEvaluation") -> None:
    """Print box and mask AP of every class that occurs, and the means."""
    rows = [["class", "box AP", "mask AP"]]
    for name, mask in result.mask.classes.items():
        if mask is not None:
            rows.append([name, percent(result.box.classes[name]), percent(mask)])
    print_table(rows)
    say()
    names = list(result.mask.summary)
    rows = [["", *names]]
    for kind, found in (("box", result.box), ("mask", result.mask)):
        rows.append([kind, *(percent(found.summary[name]) for name in names)])
    print_table(rows)
    fps = "-" if result.fps is None else f"{result.fps:.2f}"
    say(
        f"AP in percent, as COCO counts it ({result.split}: {result.images} images, {result.seconds:.1f} s, "
        f"{fps} images/s); APs, APm, APl: below 32 x 32 pixels, up to 96 x 96, above"
    )


def percent(value: float | None) -> str:
    """A share as percent; "-" where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"


def predict(arguments: argparse.Namespace) -> int:
    """Run `crisscross predict`."""
    _refuse(arguments, NOT_IN_PREDICT, "is not there for instance segmentation")
    from crisscross.engine.instances.predict import KINDS, LIST, SCORE, predict_instance_files
    from crisscross.engine.semantic.predict import Labeled, find_images, outputs
    from crisscross.files import claim
    from crisscross.progress import Progress

    score = SCORE if arguments.score is None else arguments.score
    images = find_images(arguments.paths, arguments.out, KINDS)
    targets = [*outputs(images, arguments.out, KINDS), arguments.out / LIST]
    claim(targets, [*network_files(arguments), *images], arguments.force)
    import torch

    from crisscross.checkpoints.instances import load_instances

    device = "cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu"
    segmenter = load_instances(arguments.network, device, weights=arguments.weights, offline=arguments.offline)
    with Progress("predict", len(images)) as progress:

        def show(labeled: Labeled, done: int) -> None:
            if labeled.error:
                progress.say(f"crisscross: {labeled.error}")
            progress.update(done)

        results = predict_instance_files(segmenter, images, arguments.out, score, show)
    failed = sum(result.error is not None for result in results)
    if failed < len(results):
        say(f"{len(results) - failed} of {len(results)} done: {arguments.out} (drawn/, instances.json)")
    if failed:
        say(f"crisscross: {failed} of {len(results)} could not be read, see above", error=True)
    return 2 if failed else 0


def check(arguments: argparse.Namespace) -> int:
    """Run `crisscross data check DIR --name coco-instances`. Returns 0 without problems, 2 with some."""
    _refuse(arguments, NOT_IN_CHECK, "is not there for instance segmentation")
    from crisscross.data.coco_check import check_split
    from crisscross.data.coco_instances import open_coco_instances
    from crisscross.files import claim, write_text
    from crisscross.progress import Progress

    claim(filter(None, (arguments.json,)), force=arguments.force)
    data = open_coco_instances(arguments.root)
    problems: list[str] = []
    for name in filter(data.has, ("train", "val")):
        split = data.split(name)
        with Progress(f"reading {name}", len(split)) as progress:
            problems += check_split(split, lambda count: progress.update(count))
        entries = [entry for found in split.annotations.values() for entry in found]
        crowds = sum(entry["iscrowd"] for entry in entries)
        say(
            f"{name}: {len(split)} images, {len(split.learnable)} with something to learn from; "
            f"{len(entries) - crowds} instances of {len(split.classes)} classes, {crowds} crowds"
        )
        for line in split.report:
            say(f"{name}: {line}")
    for problem in problems[:PROBLEMS]:
        say(problem)
    say(f"errors: {len(problems)}" + (f", {PROBLEMS} of them shown" if len(problems) > PROBLEMS else ""))
    if arguments.json:
        write_text(arguments.json, json.dumps({"root": str(data.root), "problems": problems}, indent=1) + "\n")
    return 2 if problems else 0
