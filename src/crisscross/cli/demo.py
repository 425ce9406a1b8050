"""`crisscross demo`: draw street scenes, train a small CCNet, score it, write a report. No data, no network."""

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
# Scenes shown in the report and written as files.
SHOWN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = __doc__
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo")
    parser.add_argument("--baseline", action="store_true", help="also train the same network without attention (R = 0)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one value of the recipe"
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
    names = ["demo", "demo-baseline"] if arguments.baseline else ["demo"]
    runs = {name: _train_and_score(name, dataset, out, arguments.set) for name in names}
    write_text(out / "report.html", render(_report(runs, dataset, out, arguments.set)))
    for name, (_, result, seconds) in runs.items():
        miou = _score(result.scores.miou)
        say(f"{name}: held-out mIoU {miou} on {result.images} scenes, trained in {seconds:.0f} s")
    say(f"report: {out / 'report.html'}  predictions: {out / 'predictions'}  ({time.monotonic() - began:.0f} s in all)")
    return 0


def _claim(out: Path, force: bool) -> None:
    """Refuse a folder with anything in it that no demo made: much is written below it."""
    description = out / "data" / "dataset.yaml"
    if not force and not description.exists() and out.is_dir() and any(out.iterdir()):
        raise CrissCrossError(f"{out}: holds something else already; choose another --out, or --force to write there")
    claim([description, out / "report.html"], force=force)


def _train_and_score(
    name: str, dataset: "DataSet", out: Path, changes: list[str]
) -> tuple["Segmenter", "Evaluation", float]:
    """Train one recipe anew, score its last weights on the held-out scenes and write a few predictions."""
    from crisscross import zoo
    from crisscross.checkpoints import load
    from crisscross.config import override
    from crisscross.engine.run.state import BEST, LAST
    from crisscross.engine.semantic.evaluate import evaluate
    from crisscross.engine.semantic.predict import predict_files
    from crisscross.engine.setup import Machine
    from crisscross.engine.train import train

    folder = out / name
    for stale in (BEST, LAST):
        (folder / stale).unlink(missing_ok=True)
    say(f"training {name}")
    # One process draws the next batch while this one computes.
    outcome = train(override(zoo.recipe(name), changes), dataset, folder, Machine(workers=1))
    if not outcome.finished:
        raise CrissCrossError(f"demo stopped at iteration {outcome.position.iteration}; run it again to start anew")
    segmenter = load(folder / LAST, trust=folder)
    result = evaluate(segmenter, dataset, "test")
    if name == "demo":
        predict_files(segmenter, [pair.image for pair in dataset.split("test")[:SHOWN]], out / "predictions")
    return segmenter, result, outcome.seconds


def _report(
    runs: dict[str, tuple["Segmenter", "Evaluation", float]], dataset: "DataSet", out: Path, changes: list[str]
) -> "Report":
    from crisscross.config import to_yaml
    from crisscross.engine.run.log import read_log
    from crisscross.report import BaselineRow, Curves, Report

    segmenter, result, seconds = runs["demo"]
    scores, model = result.scores, segmenter.experiment.model
    compared = [
        BaselineRow(f"{name}: {run.experiment.model.title}", entry.scores.miou, entry.scores.iou, spent)
        for name, (run, entry, spent) in runs.items()
    ]
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
        baseline=compared if len(compared) > 1 else (),
        experiment_yaml=to_yaml(segmenter.experiment),
        command=" ".join(["crisscross demo", *(f"--set {word}" for word in changes)]),
        versions=_versions(),
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


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    import torch

    from crisscross import __version__

    names = ("torch", "timm", "torchvision", "accelerate")
    return {
        "crisscross": __version__,
        **{name: version(name) for name in names},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
