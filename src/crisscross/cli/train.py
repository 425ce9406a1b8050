"""`crisscross train`: one experiment into one run folder."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import workers
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.engine.train import Outcome
    from crisscross.tasks import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Train a network. The run folder gets the weights, a log and a record of the experiment."
    parser.add_argument("recipe", metavar="RECIPE|CONFIG.yaml", help="a name from the zoo, or a YAML file")
    parser.add_argument("--data", required=True, metavar="DIR", help="the data set's folder")
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="the run folder to write")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the experiment, e.g. train.iterations=500",
    )
    parser.add_argument("--resume", action="store_true", help="continue the training in RUN")
    parser.add_argument(
        "--backbone-weights", type=Path, metavar="FILE", help="pretrained weights of the backbone, a local file"
    )
    parser.add_argument(
        "--init",
        metavar="RUN|FILE|NAME",
        help="start from a trained network; for instance segmentation also a Mask R-CNN file of torchvision",
    )
    parser.add_argument(
        "--workers", type=workers, default=2, metavar="N", help="processes that read images (default 2)"
    )
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
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


def resume_command(arguments: argparse.Namespace) -> str:
    """The line that continues this run with the same machine options."""
    config = str(arguments.out / "experiment.yaml")
    words = ["crisscross", "train", config, "--data", arguments.data, "--out", str(arguments.out), "--resume"]
    words += ["--workers", str(arguments.workers)]
    words += ["--cpu"] if arguments.cpu else []
    words += [word for name in arguments.track for word in ("--track", name)]
    words += ["--cache", arguments.cache] if arguments.cache else []
    words += ["--compile"] if arguments.compile else []
    words += ["--shard"] if arguments.shard else []
    return shlex.join(words)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.init and arguments.backbone_weights:
        raise CrissCrossError("--init fills the whole network and --backbone-weights its backbone: give one of them")
    from crisscross import tasks

    recipe = tasks.recipe(arguments.recipe, arguments.set)
    tasks.refuse(recipe.task, vars(arguments))
    data = recipe.task.open(recipe.experiment, arguments.data)
    from crisscross.engine.setup import Machine
    from crisscross.engine.train import train

    machine = Machine(
        arguments.workers,
        arguments.cpu,
        tuple(dict.fromkeys(arguments.track)),
        arguments.compile,
        arguments.cache,
        arguments.shard,
    )
    outcome = train(
        *(recipe.experiment, data, arguments.out, machine, arguments.backbone_weights, arguments.resume),
        init=arguments.init,
        task=recipe.task,
    )
    if outcome.main_process:
        print_outcome(outcome, arguments, recipe)
    return 0 if outcome.finished else 130


def print_outcome(outcome: "Outcome", arguments: argparse.Namespace, recipe: "Recipe") -> None:
    """Say how the run ended and what to type next."""
    position, out = outcome.position, arguments.out
    if not outcome.finished:
        say(f"stopped after iteration {position.iteration}; {out / 'last.safetensors'} is saved; continue with")
        say(f"  {resume_command(arguments)}")
        return
    if position.best_score is not None:
        say(f"best validation {recipe.task.title} {position.best_score:.4f} at iteration {position.best_iteration}")
    runs_code = ":" in recipe.task.name or bool(getattr(recipe.experiment, "code", False))
    trust = f" --trust {out}" if runs_code else ""
    say(f"done: {out}; score it with `crisscross evaluate {out} --data {arguments.data}{trust}`")
