"""`crisscross evaluate`: score weights on one split."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crisscross.cli.options import (
    add_card,
    add_force,
    add_network,
    add_precision,
    computing_in,
    load_network,
    network_files,
    workers,
)
from crisscross.cli.tables import print_result
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.config import Experiment
    from crisscross.deploy.opening import ExportedPredictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Score a network on one split of a data set."
    add_network(parser)
    add_card(parser)
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
    from crisscross import tasks, zoo
    from crisscross.checkpoints.loading import find_file, refuse_code
    from crisscross.config import Experiment
    from crisscross.data.dataset import existing_folder
    from crisscross.deploy.opening import ExportedPredictor
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

    network = load_network(arguments, "cpu" if arguments.cpu else str(PartialState().device), **changes)
    exported = isinstance(network, ExportedPredictor)
    experiment = _exported_experiment(network, arguments.name) if exported else network.experiment
    if data is None:
        if isinstance(experiment, Experiment) and not exported:
            source = str(find_file(arguments.network, arguments.offline))
            refuse_code(source, experiment, changes, arguments.trust, opening=True)
        data = task.open(experiment, arguments.data)
    split = arguments.split or _default_split(experiment.data, data.splits)
    # Tasks that open a split when it is asked for do so here.
    inputs = task.files(data, split)
    check_split(data, split)
    folder, scores = arguments.save_predictions, arguments.json
    targets = [*(task.outputs(data, split, folder) if folder else ()), *([scores] if scores else ())]
    claim(targets, [*network_files(arguments), *inputs], arguments.force)
    with computing_in(arguments, network):
        result = task.evaluate(network, data, split, Scoring(arguments.workers, tta=arguments.tta, save=folder))
    if not PartialState().is_main_process:
        return 0
    print_result(result)
    if arguments.precision:
        say(f"computed in {arguments.precision}")
    if scores:
        facts = {**result.facts, "precision": arguments.precision or "fp32"}
        write_text(scores, json.dumps(facts, indent=1) + "\n")
    return 0


def _exported_experiment(network: "ExportedPredictor", layout: str | None) -> "Experiment":
    """The data set that an exported network was trained on; code that only the file names is not imported."""
    from crisscross.config import DataConfig, Experiment

    said = dict(network.passport.data)
    if layout or ":" in said.get("name", ""):
        said["name"] = layout or "auto"
    known = ("name", "val_split", "test_split")
    values: dict[str, Any] = {key: value for key, value in said.items() if key in known}
    return Experiment(data=DataConfig(**values))


def _default_split(data: Any, splits: Mapping[str, Any]) -> str:
    """The experiment's test split, else the one that training validated on."""
    test = getattr(data, "test_split", "")
    return test if test in splits else data.val_split
