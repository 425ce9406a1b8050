"""`crisscross train`: one experiment into one run folder."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_device, workers
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.engine.run.state import Outcome
    from crisscross.tasks import Recipe

WORKERS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Train a network. The run folder gets the weights, a log and a record of the experiment."
    parser.add_argument("recipe", nargs="?", metavar="RECIPE|CONFIG.yaml", help="a name from the zoo, or a YAML file")
    parser.add_argument("--data", metavar="DIR", help="the data set's folder")
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run folder to write")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the experiment, e.g. train.iterations=500",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="RUN",
        help="continue the training in RUN; recipe, data and machine options are those of its last start",
    )
    parser.add_argument(
        "--backbone-weights",
        metavar="RUN|FILE|NAME",
        help="weights of the backbone instead of timm's, which it fetches",
    )
    parser.add_argument(
        "--init",
        metavar="RUN|FILE|NAME",
        help="start from a trained network, whatever its classes; for instance segmentation also a Mask R-CNN file of "
        "torchvision",
    )
    parser.add_argument("--workers", type=workers, metavar="N", help=f"processes that read images (default {WORKERS})")
    parser.add_argument("--per-class", action="store_true", help="print the scores of every class at each validation")
    add_device(parser)
    _add_machine(parser)
    parser.set_defaults(run=run)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--track",
        action="append",
        default=[],
        metavar="NAME",
        help="also log to this tracker: tensorboard (files in RUN), wandb, mlflow, ...; repeat for several",
    )
    parser.add_argument(
        "--cache", default="", metavar="ram|disk[:DIR]", help="keep decoded training images in memory or on disk"
    )
    parser.add_argument("--compile", action="store_true", help="run the network through torch.compile")
    parser.add_argument(
        "--shard",
        action="store_true",
        help="shard weights, gradients and optimizer state over the processes: less memory in each",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    _complete(arguments)
    if arguments.init and arguments.backbone_weights:
        raise CrissCrossError("--init fills the whole network and --backbone-weights its backbone: give one of them")
    if arguments.out.resolve() == Path(arguments.data).resolve():
        raise CrissCrossError(f"--out {arguments.out} is the data set's own folder; a run needs one of its own")
    from crisscross import tasks
    from crisscross.engine.processes import is_first_process

    recipe = tasks.recipe(arguments.recipe, arguments.set)
    tasks.refuse(recipe.task, vars(arguments))
    if recipe.lines and is_first_process():
        say(*recipe.lines, error=True)
    data = recipe.task.open(recipe.experiment, arguments.data)
    from crisscross.engine.setup import Machine
    from crisscross.engine.train import train

    machine = Machine(
        arguments.workers,
        arguments.device,
        tuple(dict.fromkeys(arguments.track)),
        arguments.compile,
        arguments.cache,
        arguments.shard,
        arguments.per_class,
    )
    outcome = train(
        *(recipe.experiment, data, arguments.out, machine, arguments.backbone_weights, arguments.resume),
        init=arguments.init,
        task=recipe.task,
        chosen=recipe.chosen,
    )
    if outcome.main_process:
        print_outcome(outcome, arguments, recipe)
    return 0 if outcome.finished else 130


def _complete(arguments: argparse.Namespace) -> None:
    """Fill in what `--resume RUN` leaves out, and refuse what nothing says.

    Raises:
        CrissCrossError: no recipe, data or out, or a run that does not record its own.
    """
    if isinstance(arguments.resume, str):
        if arguments.recipe is None and arguments.out is not None:
            # `--resume RECIPE --out RUN`, where the option has no value.
            arguments.recipe = arguments.resume
        elif arguments.out is None:
            arguments.out = Path(arguments.resume)
        elif arguments.out != Path(arguments.resume):
            raise CrissCrossError(
                f"--resume {arguments.resume} and --out {arguments.out} are two runs: give one of them"
            )
        arguments.resume = True
    if arguments.resume and arguments.recipe is None and arguments.out is not None:
        from crisscross.engine.run.record import last_start
        from crisscross.engine.run.state import check_resumable

        check_resumable(arguments.out)
        for name, value in last_start(arguments.out).items():
            if (given := getattr(arguments, name)) is False or given in (None, "", [], "auto"):
                setattr(arguments, name, value)
        arguments.recipe = str(arguments.out / "experiment.yaml")
    arguments.workers = WORKERS if arguments.workers is None else arguments.workers
    if arguments.resume and arguments.data is None and arguments.out is not None:
        raise CrissCrossError(
            f"{arguments.out}: run.json does not say where the data are; add --data DIR to `--resume {arguments.out}`"
        )
    for name, word in (("recipe", "RECIPE"), ("data", "--data DIR"), ("out", "--out RUN")):
        if getattr(arguments, name) is None:
            raise CrissCrossError(f"train: {word} is missing; only `--resume RUN` goes without")


def print_outcome(outcome: "Outcome", arguments: argparse.Namespace, recipe: "Recipe") -> None:
    """Say how the run ended and what to type next."""
    from crisscross.engine.run.readme import runs_code

    position, out = outcome.position, arguments.out
    if not outcome.finished:
        saved = f"iteration {position.iteration}; {out / 'last.safetensors'} is saved"
        if outcome.in_validation:
            say(f"stopped during validation after {saved}, resuming validates again; resume with")
        else:
            say(f"stopped after {saved}; continue with")
        say(f"  {shlex.join(['crisscross', 'train', '--resume', str(out)])}")
        return
    if position.best_score is not None:
        say(f"best validation {recipe.task.title} {position.best_score:.4f} at iteration {position.best_iteration}")
    trust = f" --trust {out}" if runs_code(recipe.experiment) else ""
    if (page := out / "report.html").is_file():
        say(f"curves and images: {page}; how to use the run: {out / 'README.md'}")
    command = f"crisscross evaluate {out} --data {arguments.data}{trust}"
    if position.validated:
        say(f"done: {out}; score it with `{command}`")
    else:
        say(f"done: {out}; label images with `crisscross predict {out} PATH{trust}`, or score it with `{command}`")
