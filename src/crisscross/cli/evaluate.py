"""`crisscross evaluate`: score weights on one split."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli import instances
from crisscross.cli.options import add_force, add_network, add_precision, computing_in, network_files, workers
from crisscross.cli.tables import print_table
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.data import DataSet
    from crisscross.engine.semantic.evaluate import Evaluation, Save

GIB = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Score a network on one split of a data set."
    add_network(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="the data set's folder")
    parser.add_argument("--name", metavar="NAME", help="the data set's layout (default: that of training)")
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="the split to score (default: the experiment's test split, else its validation split)",
    )
    parser.add_argument("--tta", action="store_true", help="predict at several scales, with flips")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the scores and counts as JSON")
    parser.add_argument(
        "--save-predictions",
        type=Path,
        metavar="DIR",
        help="also write every prediction, in the format of the data set's benchmark",
    )
    parser.add_argument(
        "--workers", type=workers, default=2, metavar="N", help="processes that read images (default 2)"
    )
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    parser.add_argument(
        "--optimize", action="store_true", help="rewrite the network for speed first, which helps most on a CPU"
    )
    add_force(parser)
    add_precision(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if instances.is_instance_network(arguments.network):
        return instances.evaluate(arguments)
    import torch

    from crisscross import zoo
    from crisscross.checkpoints import load
    from crisscross.data import open_dataset
    from crisscross.data.dataset import existing_folder
    from crisscross.engine.semantic.evaluate import choose_device, evaluate, is_main_process
    from crisscross.files import write_text
    from crisscross.speed.rewrite import optimize

    # What is wrong with the data shall be known before weights are downloaded.
    existing_folder(arguments.data)
    known = zoo.recipe(arguments.network).data.name if zoo.published(arguments.network) else None
    name = arguments.name or known
    dataset = open_dataset(name, arguments.data) if name else None
    device = choose_device(arguments.cpu)
    # A layout that is named here takes the place of the one of training, code that it names included.
    changes = {"data.name": arguments.name} if arguments.name else {}
    segmenter = load(
        *(arguments.network, device),
        weights=arguments.weights,
        offline=arguments.offline,
        trust=arguments.trust,
        **changes,
    )
    segmenter = segmenter.to(memory_format=torch.channels_last)
    if arguments.optimize:
        segmenter = optimize(segmenter)
    data = segmenter.experiment.data
    dataset = dataset or open_dataset(data.name, arguments.data)
    split = arguments.split or (data.test_split if data.test_split in dataset.splits else data.val_split)
    save = _saver(dataset, split, arguments)
    with computing_in(arguments, segmenter):
        result = evaluate(segmenter, dataset, split, arguments.workers, tta=arguments.tta, save=save)
    if not is_main_process():
        return 0
    print_evaluation(result, dataset.classes)
    if arguments.precision:
        say(f"computed in {arguments.precision}")
    if arguments.json:
        told = facts(result, dataset.classes) | {"precision": arguments.precision or "fp32"}
        write_text(arguments.json, json.dumps(told, indent=1) + "\n")
    return 0


def _saver(dataset: "DataSet", split: str, arguments: argparse.Namespace) -> "Save | None":
    """What saves predictions, if it is wanted; nothing that must stay is in the way of these and of the scores."""
    from crisscross.data.sets.submission import prediction_path, write_prediction
    from crisscross.files import claim

    folder: Path | None = arguments.save_predictions
    pairs = dataset.split(split)
    targets = [] if folder is None else [prediction_path(dataset, pair, folder) for pair in pairs]
    files = [file for pair in pairs for file in (pair.image, pair.mask)]
    claim([*targets, *filter(None, [arguments.json])], [*network_files(arguments), *files], arguments.force)
    if folder is None:
        return None
    return lambda pair, labels: write_prediction(dataset, pair, labels, folder)


def facts(result: "Evaluation", classes: tuple[str, ...]) -> dict[str, object]:
    """An evaluation as JSON values; an absent class is null."""
    scores = result.scores
    return {
        "split": result.split,
        "images": result.images,
        "miou": scores.miou,
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_accuracy": scores.mean_accuracy,
        "iou": dict(zip(classes, scores.iou, strict=True)),
        "accuracy": dict(zip(classes, scores.accuracy, strict=True)),
        "temporal_consistency": result.consistency._asdict() if result.consistency else None,
        "confusion": result.counts.tolist(),
        "seconds": round(result.seconds, 2),
        "tta": result.tta,
        "fps": result.fps,
        "memory_bytes": result.memory,
        "memory_kind": _memory_kind(result),
    }


def published_row(result: "Evaluation") -> list[list[str]]:
    """Head and one row with the columns of the published tables; what was not measured is "-"."""
    miou = "-" if result.scores.miou is None else f"{100 * result.scores.miou:.2f}"
    memory = "-" if result.memory is None else f"{result.memory / GIB:.2f}"
    fps = "-" if result.fps is None else f"{result.fps:.2f}"
    single, tta = ("-", miou) if result.tta else (miou, "-")
    head = ["", "mIoU", "mIoU (ms+flip)", f"memory, GiB {_memory_kind(result)}", "fps"]
    return [head, [result.split, single, tta, memory, fps]]


def _memory_kind(result: "Evaluation") -> str:
    return "allocated on the GPU" if result.on_gpu else "resident"


def print_evaluation(result: "Evaluation", classes: tuple[str, ...]) -> None:
    """Print a table of classes and the means."""
    width = max(map(len, classes))
    say(f"{'class':{width}}     IoU  accuracy   share")
    total = int(result.counts.sum())
    for index, name in enumerate(classes):
        iou, accuracy = result.scores.iou[index], result.scores.accuracy[index]
        share = int(result.counts[index].sum()) / total if total else 0.0
        values = f"{'absent':>6}" if iou is None else f"{iou:6.4f}"
        say(
            f"{name:{width}}  {values}    {'-':>6}"
            if accuracy is None
            else f"{name:{width}}  {values}    {accuracy:6.4f}  {share:6.2%}"
        )
    scores = result.scores
    shown = {"mIoU": scores.miou, "pixel accuracy": scores.pixel_accuracy, "mean accuracy": scores.mean_accuracy}
    text = "  ".join(f"{name} {'-' if value is None else f'{value:.4f}'}" for name, value in shown.items())
    say(f"{text}  ({result.split}: {result.images} images, {result.seconds:.1f} s)")
    if result.consistency:
        pixels, mean, _ = result.consistency
        say(f"temporal consistency {pixels:.4f}  mean over classes {mean:.4f}  (docs/video.md)")
    say()
    print_table(published_row(result))
    say(
        "mIoU in percent; memory: the most at one moment, in one process; fps: images / seconds of preprocessing, "
        "network and labels,",
        "one image at a time, without reading files and counting",
    )
