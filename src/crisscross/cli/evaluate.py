"""`crisscross evaluate`: score weights on one split."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crisscross.cli.options import (
    add_device,
    add_force,
    add_network,
    add_precision,
    computing_in,
    load_network,
    network_files,
    workers,
)
from crisscross.cli.tables import print_result
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.engine.task import Data


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
    parser.add_argument(
        "--dice", action="store_true", help="also print Dice (F1), precision and recall of each class, in one table"
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
    add_device(parser)
    parser.add_argument(
        "--optimize", action="store_true", help="rewrite the network for speed first, which helps most on a CPU"
    )
    add_force(parser)
    add_precision(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from crisscross import tasks, zoo
    from crisscross.checkpoints.loading import find_file, refuse_code
    from crisscross.config import Experiment
    from crisscross.data.dataset import existing_folder
    from crisscross.engine.processes import start_on
    from crisscross.engine.task import Scoring, check_split
    from crisscross.files import claim, write_text

    task = tasks.task_of_network(arguments.network, arguments.weights, arguments.trust)
    tasks.refuse(task, vars(arguments))
    # What is wrong with the data shall be known before weights are downloaded.
    existing_folder(arguments.data)
    # A layout that is named here takes the place of the one of training, code that it names included.
    changes = {"data.name": arguments.name} if arguments.name else {}
    words = [f"{key}={value}" for key, value in changes.items()]
    known = tasks.recipe(arguments.network, words).experiment if zoo.published(arguments.network) else None
    data = task.open(known, arguments.data) if known else None
    from accelerate import PartialState

    network = load_network(arguments, str(start_on(arguments.device)), **changes)
    if data is None:
        if isinstance(network.experiment, Experiment):
            source = str(find_file(arguments.network, arguments.offline))
            refuse_code(source, network.experiment, changes, arguments.trust, opening=True)
        data = task.open(network.experiment, arguments.data)
    data = _as_trained(Path(arguments.network), network.experiment, data)
    split = arguments.split or _default_split(network.experiment.data, data)
    # Tasks that open a split when it is asked for do so here.
    inputs = task.files(data, split)
    check_split(data, split)
    folder, scores = arguments.save_predictions, arguments.json
    targets = [*(task.outputs(data, split, folder) if folder else ()), *([scores] if scores else ())]
    claim(targets, [*network_files(arguments), *inputs], arguments.force)
    scoring = Scoring(arguments.workers, tta=arguments.tta, save=folder, dice=arguments.dice)
    with computing_in(arguments, network):
        result = task.evaluate(network, data, split, scoring)
    if not PartialState().is_main_process:
        return 0
    print_result(result)
    if arguments.precision:
        say(f"computed in {arguments.precision}")
    if scores:
        facts = {**result.facts, "precision": arguments.precision or "fp32"}
        write_text(scores, json.dumps(facts, indent=1) + "\n")
    return 0


def _as_trained(run: Path, experiment: Any, data: Any) -> Any:
    """The data with the sides that the run in a folder trained and validated on, where no split of its own says so."""
    from crisscross.engine.run.split import held_in, keep_split

    folder = run if run.is_dir() else run.parent
    data, lines = keep_split(
        folder if run.exists() else Path(os.devnull), held_in(data, getattr(experiment.data, "val_split", ""))
    )
    if lines:
        say(*lines, error=True)
    return data


def _default_split(settings: Any, data: "Data") -> str:
    """The experiment's test split, else the one that training validated on.

    Raises:
        CrissCrossError: the data has neither.
    """
    from crisscross.config import NO_SPLIT

    test = getattr(settings, "test_split", "")
    if test not in data.splits and settings.val_split == NO_SPLIT:
        raise CrissCrossError(
            f"{data.root}: no split {test!r}, and this network was trained with data.val_split={NO_SPLIT}: name the "
            f"images to score with --split ({', '.join(data.splits)})"
        )
    return test if test in data.splits else settings.val_split
