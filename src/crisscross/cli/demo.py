"""`crisscross demo`: draw scenes that need context, train a small CCNet with R = 0, 1 and 2, and compare the three."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_force
from crisscross.errors import CrissCrossError
from crisscross.files import claim, write_text
from crisscross.terminal import say

if TYPE_CHECKING:
    import numpy as np

    from crisscross.data import DataSet
    from crisscross.engine.semantic.evaluate import Evaluation
    from crisscross.models import Segmenter
    from crisscross.report import NetworksReport, SceneRow

SCENES = {"train": 400, "test": 60}
HEIGHT, WIDTH = 144, 256
# Scenes that the report shows, and whose predictions are written to files.
SHOWN = 4
RECURRENCES = (0, 1, 2)
# What the scenes add to the recipe: nothing is held out for validation, and the few pixels of ships count more.
DATA = ("data.val_split=none", "loss.class_weights=auto")
MEANING = {
    0: "no attention: the ship is out of sight, so a country is a guess",
    1: "one pass: a pixel attends to its row and its column, where most have no ship",
    2: "two passes: where the pixel's row crosses the ship's column, the color of the sail is passed on",
}
ABOUT = (
    "The scenes are drawn to need context. Meadows, forests and towns look alike in three countries, and all of a "
    "scene belong to the country whose color the sail of its ship has. The ship may be anywhere; most pixels have it "
    "in neither their row nor their column, and farther away than the convolutions see. Three networks, which differ "
    "in the number of passes R of their criss-cross attention alone, were trained from scratch with one seed, for "
    "{iterations} iterations on {train} scenes, and scored on {test} others."
)
PREDICTIONS = (
    "The first held-out scenes. The colors of the classes are laid over the image; whatever belongs to a country has "
    "a shade of its color."
)
GATE = (
    "The attention is added to the features times a gate, a single learned number that starts at 0. With a gate of 0 "
    "a network computes what it does without attention; its sign has no meaning."
)


@dataclass(frozen=True)
class Trained:
    """A network after its training: the number of passes, its run folder, the scores and the seconds it took."""

    recurrence: int
    folder: Path
    segmenter: "Segmenter"
    result: "Evaluation"
    seconds: float

    @property
    def name(self) -> str:
        """As it is called in the report."""
        return f"R = {self.recurrence}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Draw scenes in which a far cue decides the classes, train a small CCNet on them without attention, with one "
        "pass and with two, compare the three and write a report. Needs no data and no internet connection."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="the folder to write (default runs/demo)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the recipe for all three, e.g. train.seed=1",
    )
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross import tasks
    from crisscross.data import open_dataset
    from crisscross.data.scenes import write_scenes
    from crisscross.report import render_networks

    out, changes, began = arguments.out, arguments.set, time.monotonic()
    if any(change.startswith("model.head.recurrence") for change in changes):
        raise CrissCrossError(
            "--set model.head.recurrence: the demo trains R = 0, 1 and 2; train one with `crisscross train demo`"
        )
    # A value that cannot be is refused before anything is drawn.
    tasks.recipe("demo", changes)
    _claim(out, arguments.force)
    say(f"drawing {sum(SCENES.values())} scenes into {out / 'data'}")
    write_scenes(out / "data", SCENES, height=HEIGHT, width=WIDTH, kind="islands")
    dataset = open_dataset("folder", out / "data")
    networks = [_train(dataset, out, changes, recurrence) for recurrence in RECURRENCES]
    _write_predictions(networks[-1], dataset, out)
    report, at = _report(networks, dataset, changes)
    write_text(out / "report.html", render_networks(report))
    _tell(networks, dataset, out, at, time.monotonic() - began)
    return 0


def _claim(out: Path, force: bool) -> None:
    """Refuse a folder with files that no demo wrote: the demo writes many files below it."""
    description = out / "data" / "dataset.yaml"
    if not force and not description.exists() and out.is_dir() and any(out.iterdir()):
        raise CrissCrossError(f"{out}: contains other files; choose another --out, or use --force to write there")
    claim([description, out / "report.html"], force=force)


def _train(dataset: "DataSet", out: Path, changes: Sequence[str], recurrence: int) -> Trained:
    """Train a network from the start and score its last weights on the held-out scenes."""
    from crisscross import tasks
    from crisscross.checkpoints import load
    from crisscross.engine.run.state import BEST, LAST
    from crisscross.engine.semantic.evaluate import evaluate
    from crisscross.engine.setup import Machine
    from crisscross.engine.train import train

    folder = out / f"r{recurrence}"
    for stale in (BEST, LAST):
        (folder / stale).unlink(missing_ok=True)
    say(f"training with R = {recurrence}: {MEANING[recurrence].partition(':')[0]}")
    experiment = tasks.recipe("demo", [*DATA, *changes, f"model.head.recurrence={recurrence}"]).experiment
    # One process prepares the next batch while this one computes.
    outcome = train(experiment, dataset, folder, Machine(workers=1))
    if not outcome.finished:
        raise CrissCrossError(f"demo stopped at iteration {outcome.position.iteration}; run it again to start over")
    segmenter = load(folder / LAST, trust=folder)
    return Trained(recurrence, folder, segmenter, evaluate(segmenter, dataset, "test"), outcome.seconds)


def _write_predictions(network: Trained, dataset: "DataSet", out: Path) -> None:
    from crisscross.engine.predict import find_images, predict_files
    from crisscross.engine.semantic.task import SemanticSegmentation

    images = find_images(pair.image for pair in dataset.split("test")[:SHOWN])
    predict_files(SemanticSegmentation(), network.segmenter, images, out / "predictions")


def _report(
    networks: Sequence[Trained], dataset: "DataSet", changes: Sequence[str]
) -> tuple["NetworksReport", tuple[int, int]]:
    """The report, and the pixel of its first scene that it explains."""
    from crisscross.config import to_yaml
    from crisscross.engine.run.log import read_log
    from crisscross.engine.run.record import hardware, versions
    from crisscross.report import Curves, NetworkColumn, NetworksReport

    rows = _rows(networks, dataset)
    at = _far_pixel(rows[0])
    attention, note = _attention(networks[-1], rows[0], at)
    experiment = networks[-1].segmenter.experiment
    report = NetworksReport(
        title="What criss-cross attention is for",
        summary=ABOUT.format(iterations=experiment.train.iterations, **SCENES),
        classes=dataset.classes,
        palette=dataset.palette,
        networks=[
            NetworkColumn(
                one.name, one.result.scores.miou, one.result.scores.iou, Curves.from_log(read_log(one.folder))
            )
            for one in networks
        ],
        rows=rows,
        rows_note=PREDICTIONS,
        attention=attention,
        attention_title=f"{rows[0].name}, x = {at[0]}, y = {at[1]}, {networks[-1].name}",
        attention_note=note,
        gate_note=GATE,
        experiment_yaml=to_yaml(experiment),
        command=" ".join(["crisscross demo", *(f"--set {word}" for word in changes)]),
        versions=versions() | {name: str(value) for name, value in hardware().items()},
    )
    return report, at


def _rows(networks: Sequence[Trained], dataset: "DataSet") -> list["SceneRow"]:
    from crisscross.data.files.reading import read_pair
    from crisscross.report import SceneRow

    rows = []
    for pair in dataset.split("test")[:SHOWN]:
        image, mask = read_pair(pair, dataset)
        rows.append(SceneRow(pair.name, image, mask, [one.segmenter.predict(image).labels for one in networks]))
    return rows


def _far_pixel(row: "SceneRow") -> tuple[int, int]:
    """(x, y) amid the pixels that the last network alone labels right; amid all where there are none."""
    import numpy as np

    right = np.stack([labels == row.truth for labels in row.predictions])
    alone = right[-1] & ~right[:-1].any(0)
    y, x = np.nonzero(alone if alone.any() else np.ones_like(alone))
    nearest = int(((y - y.mean()) ** 2 + (x - x.mean()) ** 2).argmin())
    return int(x[nearest]), int(y[nearest])


def _attention(network: Trained, row: "SceneRow", at: tuple[int, int]) -> tuple[list[tuple[str, "np.ndarray"]], str]:
    """What a pixel attends to, as captioned images, and words about it."""
    from crisscross.explanation import explain, heat_map, mark

    found = explain(network.segmenter, row.image, at)
    layer = found.layers[0]
    maps = [(f"pass {number}", one) for number, one in enumerate(layer.passes, 1)] + [("both passes", layer.effective)]
    panels = [("image", row.image), *((name, heat_map(row.image, found.on_image(one))) for name, one in maps)]
    (name, sure), *_ = found.top(1)
    (other, unsure), *_ = found.top(1, without=True)
    note = (
        "The softmax weights of the marked pixel, light where they are large. One pass reaches its row and its column; "
        f"both together reach the whole image. At the pixel the network says {name} ({sure:.0%}); with the attention "
        f"switched off, {other} ({unsure:.0%})."
    )
    return [(caption, mark(pixels, at, 5)) for caption, pixels in panels], note


def _tell(networks: Sequence[Trained], dataset: "DataSet", out: Path, at: tuple[int, int], seconds: float) -> None:
    """The three numbers, what they mean, and what to try next."""
    spent = " + ".join(f"{one.seconds:.0f}" for one in networks)
    say(f"held-out mIoU on {SCENES['test']} scenes, same recipe and seed (trained in {spent} s):")
    for one in networks:
        score = one.result.scores.miou
        say(f"  {one.name}  {'absent' if score is None else f'{score:.3f}'}  {MEANING[one.recurrence]}")
    say(f"report: {out / 'report.html'}  predictions: {out / 'predictions'}  ({seconds:.0f} s in total)")
    image = dataset.split("test")[0].image
    say("next, see what another pixel attends to, or train on your own images (docs/data.md):")
    say(f"  crisscross explain {networks[-1].folder} {image} --at {at[0]},{at[1]} --out {out / 'explanation'}")
    say("  crisscross train ccnet-light --data DIR --out RUN")
