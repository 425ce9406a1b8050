"""`crisscross train`: one experiment into one run folder."""

import argparse
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_device, workers
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.api import Run


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
        "torchvision, which the names of its R-50 recipes stand for",
    )
    parser.add_argument("--workers", type=workers, metavar="N", help="processes that read images (default 2)")
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
    resume = arguments.resume
    if isinstance(resume, str) and arguments.recipe is None and arguments.out is not None:
        # `--resume RECIPE --out RUN`, where the option has no value.
        arguments.recipe, resume = resume, True
    from crisscross.api.training import start
    from crisscross.engine.processes import is_first_process

    where = (arguments.recipe, arguments.data, arguments.out)
    outcome = start(*where, resume, vars(arguments), arguments.set)
    if is_first_process():
        print_outcome(outcome)
    # As shells report a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM.
    return 0 if outcome.finished else 128 + (outcome.signal or signal.SIGINT)


def print_outcome(outcome: "Run") -> None:
    """Say how the run ended and what to type next."""
    out = outcome.folder
    if not outcome.finished:
        saved = f"iteration {outcome.iteration}; {out / 'last.safetensors'} is saved"
        if outcome.in_validation:
            say(f"stopped during validation after {saved}, resuming validates again; resume with")
        else:
            say(f"stopped after {saved}; continue with")
        say(f"  {shlex.join(['crisscross', 'train', '--resume', str(out)])}")
        return
    if outcome.best_score is not None:
        say(f"best validation {outcome.title} {outcome.best_score:.4f} at iteration {outcome.best_iteration}")
    run, data = shlex.quote(str(out)), shlex.quote(str(outcome.data))
    trust = f" --trust {run}" if outcome.code else ""
    if (page := out / "report.html").is_file():
        say(f"curves and images: {page}; how to use the run: {out / 'README.md'}")
    if outcome.best_score is not None:
        say(f"done: {out}; score it with `crisscross evaluate {run} --data {data}{trust}`")
    else:
        # Nothing was held out: which images to score is for the user to say.
        command = f"crisscross evaluate {run} --data {data} --split NAME{trust}"
        say(f"done: {out}; label images with `crisscross predict {run} PATH{trust}`, or score it with `{command}`")
