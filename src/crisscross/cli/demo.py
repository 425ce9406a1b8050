"""`crisscross demo`: draw street scenes, train a small CCNet on them, score it and write a report."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_force
from crisscross.errors import CrissCrossError
from crisscross.files import claim, write_text
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.data import DataSet
    from crisscross.engine.semantic.evaluate import Evaluation
    from crisscross.models import Segmenter
    from crisscross.report import ImageRow, Report

SCENES = {"train": 480, "val": 24, "test": 60}
HEIGHT, WIDTH = 128, 256
# Scenes that the report shows, and whose predictions are written to files.
SHOWN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Draw street scenes, train a small CCNet on them, score it and write a report. Needs no data and no internet "
        "connection."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="the folder to write (default runs/demo)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the recipe, e.g. train.iterations=100",
    )
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross.data import open_dataset
    from crisscross.data.scenes import write_scenes
    from crisscross.report import render

    out, began = arguments.out, time.monotonic()
    _claim(out, arguments.force)
    say(f"drawing {sum(SCENES.values())} street scenes into {out / 'data'}")
    write_scenes(out / "data", SCENES, height=HEIGHT, width=WIDTH)
    dataset = open_dataset("folder", out / "data")
    segmenter, result, seconds = _train_and_score(dataset, out, arguments.set)
    write_text(out / "report.html", render(_report(segmenter, result, seconds, dataset, out, arguments.set)))
    say(f"held-out mIoU {_score(result.scores.miou)} on {result.images} scenes, trained in {seconds:.0f} s")
    seconds = time.monotonic() - began
    say(f"report: {out / 'report.html'}  predictions: {out / 'predictions'}  ({seconds:.0f} s in total)")
    return 0


def _claim(out: Path, force: bool) -> None:
    """Refuse a folder with files that no demo wrote: the demo writes many files below it."""
    description = out / "data" / "dataset.yaml"
    if not force and not description.exists() and out.is_dir() and any(out.iterdir()):
        raise CrissCrossError(f"{out}: contains other files; choose another --out, or use --force to write there")
    claim([description, out / "report.html"], force=force)


def _train_and_score(dataset: "DataSet", out: Path, changes: list[str]) -> tuple["Segmenter", "Evaluation", float]:
    """Train from the start, score the last weights on the held-out scenes and write a few predictions."""
    from crisscross import tasks
    from crisscross.checkpoints import load
    from crisscross.engine.predict import find_images, predict_files
    from crisscross.engine.run.state import BEST, LAST
    from crisscross.engine.semantic.evaluate import evaluate
    from crisscross.engine.semantic.task import SemanticSegmentation
    from crisscross.engine.setup import Machine
    from crisscross.engine.train import train

    folder = out / "demo"
    for stale in (BEST, LAST):
        (folder / stale).unlink(missing_ok=True)
    say("training")
    # One process prepares the next batch while this one computes.
    outcome = train(tasks.recipe("demo", changes).experiment, dataset, folder, Machine(workers=1))
    if not outcome.finished:
        raise CrissCrossError(f"demo stopped at iteration {outcome.position.iteration}; run it again to start over")
    segmenter = load(folder / LAST, trust=folder)
    result = evaluate(segmenter, dataset, "test")
    images = find_images(pair.image for pair in dataset.split("test")[:SHOWN])
    predict_files(SemanticSegmentation(), segmenter, images, out / "predictions")
    return segmenter, result, outcome.seconds


def _report(
    segmenter: "Segmenter", result: "Evaluation", seconds: float, dataset: "DataSet", out: Path, changes: list[str]
) -> "Report":
    from crisscross.config import to_yaml
    from crisscross.engine.run.log import read_log
    from crisscross.engine.run.record import hardware, versions
    from crisscross.report import Curves, Report

    scores, model = result.scores, segmenter.experiment.model
    parameters = sum(parameter.numel() for parameter in segmenter.parameters())
    return Report(
        title="CCNet on scenes drawn by formula",
        summary=(
            f"{model.title}, trained from scratch on "
            f"{SCENES['train']} scenes in {seconds:.0f} s and scored on {result.images} others."
        ),
        headline=[
            ("held-out mIoU", _score(scores.miou)),
            ("pixel accuracy", _score(scores.pixel_accuracy)),
            ("training time", f"{seconds:.0f} s"),
            ("parameters", f"{parameters / 1e6:.2f} M"),
        ],
        curves=Curves.from_log(read_log(out / "demo")),
        classes=segmenter.classes,
        palette=segmenter.palette,
        iou=scores.iou,
        accuracy=scores.accuracy,
        confusion=result.counts.tolist(),
        rows=_rows(segmenter, dataset),
        experiment_yaml=to_yaml(segmenter.experiment),
        command=" ".join(["crisscross demo", *(f"--set {word}" for word in changes)]),
        versions=versions() | {name: str(value) for name, value in hardware().items()},
    )


def _score(value: float | None) -> str:
    return "absent" if value is None else f"{value:.3f}"


def _rows(segmenter: "Segmenter", dataset: "DataSet") -> list["ImageRow"]:
    from crisscross.data.files.reading import read_pair
    from crisscross.report import ImageRow

    rows = []
    for pair in dataset.split("test")[:SHOWN]:
        image, mask = read_pair(pair, dataset)
        rows.append(ImageRow(pair.name, image, mask, segmenter.predict(image).labels))
    return rows
