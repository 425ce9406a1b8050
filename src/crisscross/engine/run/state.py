"""Training state on disk: one file, replaced atomically, holds weights, optimizer and position."""

import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crisscross.checkpoints import native
from crisscross.config import differences, from_dict, hint
from crisscross.config.parse import flatten
from crisscross.engine.average import WeightAverage
from crisscross.engine.run.record import RECORD, read_record
from crisscross.engine.run.split import SPLIT
from crisscross.engine.shard import local, part_of, take, whole, whole_states
from crisscross.errors import CrissCrossError, shown
from crisscross.losses.processes import processes

BEST, LAST = native.RUN_WEIGHTS
# The other files of a run.
FILES = (BEST, RECORD, SPLIT, "experiment.yaml", "log.jsonl", "log.csv", "report.html", "README.md")
ITERATIONS, EPOCHS = "train.iterations", "train.epochs"
# A run may go on with other values of these: the first change no result, the others are said.
FREE = ("train.memory", "train.validate_every", "train.checkpoint_every", "train.early_stop")
CHANGEABLE = (ITERATIONS, EPOCHS, "train.batch", "train.accumulate", "augment.crop")
# With averaged weights in the file: the weights that training continues from.
LIVE = f"{native.OPTIMIZER}live/"


@dataclass
class Position:
    """Where training stands: finished iterations, the last validated one, and the best score of a validation so far.

    `waited` counts the validations since the best one, `skipped` the steps that fp16 left out.
    """

    iteration: int = 0
    validated: int = 0
    best_score: float | None = None
    best_iteration: int | None = None
    waited: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: where it stands, whether it reached its end, and how many seconds this part of it took.

    `main_process` is false in all processes but the first, which reports to the user. `in_validation`: the run was
    stopped during a validation, which resuming makes up for. `signal`: the one that asked this process to stop.
    """

    position: Position
    finished: bool
    seconds: float
    main_process: bool = True
    in_validation: bool = False
    signal: int = 0


def save_state(
    folder: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    facts: dict[str, Any],
    average: WeightAverage | None = None,
    write: bool = True,
) -> None:
    """Write `last.safetensors`. Sampler and random state follow from (seed, iteration) and need no storing.

    With an average its tensors are the file's weights; the network's own are stored beside the optimizer's. The file of
    a sharded run is that of a plain one: all processes call this, and one of them writes (`write`).

    Raises:
        CrissCrossError: weights or running statistics are NaN or infinite, in whichever process, or the file cannot be
            written; the file that was there stays.
    """
    _check_weights(folder / LAST, network, position.iteration)
    states = whole_states(network, optimizer, write)
    extra = {f"{native.OPTIMIZER}{name}": value for name, value in states.items()}
    if average is not None:
        with whole(network, write) as full:
            extra |= {f"{LIVE}{key}": value.clone() for key, value in full.state_dict().items() if write}
    with average.in_place() if average is not None else nullcontext(), whole(network, write) as full:
        if write:
            native.save(full, folder / LAST, facts={**facts, "position": vars(position)}, extra=extra)


def _check_weights(path: Path, network: torch.nn.Module, iteration: int) -> None:
    tensors = {key: local(value) for key, value in network.state_dict().items() if value.is_floating_point()}
    broken = [key for key, value in tensors.items() if not value.isfinite().all()]
    count = torch.tensor(len(broken), device=next(network.parameters()).device)
    if processes() > 1:
        torch.distributed.all_reduce(count)
    if count:
        name = broken[0] if broken else "a tensor of another process"
        raise CrissCrossError(
            f"{path} is not written: {name} holds NaN or infinity after iteration {iteration}; older checkpoints stay; "
            "try a smaller optim.lr, a longer optim.warmup or train.precision=fp32"
        )


def saved_line(folder: Path, iteration: int) -> str:
    """What an error says after the run in `folder` was saved, or before there is anything to save."""
    if not iteration:
        return "nothing was trained yet: mend it and start again"
    command = shlex.join(["crisscross", "train", "--resume", str(folder)])
    return f"{folder / LAST} is saved at iteration {iteration}, continue with `{command}`"


@contextmanager
def after_saving(folder: Path, iteration: int) -> Iterator[None]:
    """Errors inside also say that the run is saved: ours in their line, others in a note."""
    try:
        yield
    except CrissCrossError as error:
        raise CrissCrossError(f"{error}; {saved_line(folder, iteration)}") from None
    except Exception as error:
        error.add_note(saved_line(folder, iteration))
        raise


def load_state(
    folder: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None = None
) -> tuple[Position, dict[str, Any]]:
    """Read `last.safetensors` back into network, optimizer and average.

    Raises:
        CrissCrossError: unreadable, no training state in it, or one from beyond the end of this training.
    """
    path = folder / LAST
    tensors, (_, facts) = native.read_tensors(path), native.read_header_as(type(network.experiment), path)
    position = take_position(path, facts)
    experiment: Any = network.experiment
    if (end := experiment.train.iterations) < position.iteration:
        raise CrissCrossError(
            f"{ITERATIONS} must be at least {position.iteration}, where the run in {folder} stands, got {end}"
        )
    with whole(network) as full:
        native.fill(full, tensors, str(path))
        if average is not None:
            average.fill(tensors)
            live = {key.removeprefix(LIVE): value for key, value in tensors.items() if key.startswith(LIVE)}
            native.fill(full, live, str(path))
        take(network, full)
    fill_optimizer(network, optimizer, tensors)
    return position, facts


def take_position(path: Path, facts: dict[str, Any]) -> Position:
    """The position among the facts of a file, which is taken out of them: it is not that of files still to be written.

    Raises:
        CrissCrossError: there is none, it is damaged, or the facts lack the seconds of training.
    """
    if "position" not in facts:
        raise CrissCrossError(f"{path}: holds weights but no training state; it cannot be resumed from")
    seconds = facts.get("seconds")
    if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise CrissCrossError(f"{path}: its facts: seconds must be a number from 0, got {shown(seconds)}")
    try:
        return from_dict(Position, _migrated(facts.pop("position")), "position.")
    except CrissCrossError as error:
        raise CrissCrossError(f"{path}: its facts: {error}") from None


def _migrated(position: Any) -> Any:
    """A stored position in today's words: each task once had its own name for the best score."""
    if not isinstance(position, dict):
        return position
    earlier = {"best_miou": "best_score", "best_mask_ap": "best_score"}
    return {earlier.get(key, key): value for key, value in position.items() if key != "best_box_ap"}


def fill_optimizer(network: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give the optimizer of a network its stored state."""
    for name, parameter in network.named_parameters():
        prefix = f"{native.OPTIMIZER}{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            # AdamW keeps its step count on the CPU.
            optimizer.state[parameter] = {k: v if k == "step" else part_of(v, parameter) for k, v in state.items()}


def check_run_folder(folder: Path, experiment: Any, resume: bool) -> list[str]:
    """Refuse to write over another run, and to resume one with values that its weights were not trained for.

    Args:
        folder: of the run.
        experiment: what is to be trained.
        resume: whether the run in `folder` is to be continued.

    Returns:
        A line about what changes in the resumed run, if anything.

    Raises:
        CrissCrossError: the folder holds a run, or files of others that a run would replace; or none to resume, or one
            of another experiment.
    """
    if not resume:
        if (folder / LAST).exists():
            raise CrissCrossError(f"{folder}: holds a run already; continue it with --resume or choose another --out")
        others = [folder / name for name in FILES if (folder / name).exists()]
        # A run that ended before it was first saved has left its record, and begins anew.
        if others and not read_record(folder):
            raise CrissCrossError(f"{others[0]}: is there already, and no training wrote it; choose another --out")
        return []
    stored = stored_experiment(type(experiment), folder)
    changed = [key for key in differences(experiment, stored) if key not in FREE]
    if fixed := sorted(key for key in changed if key not in CHANGEABLE):
        raise CrissCrossError(
            f"{folder}: cannot resume with another experiment; it differs in {', '.join(fixed)}; "
            f"continue with `{shlex.join(['crisscross', 'train', '--resume', str(folder)])}`"
        )
    return _change_line(flatten(stored), flatten(experiment), changed)


def _change_line(before: dict[str, Any], now: dict[str, Any], changed: list[str]) -> list[str]:
    """What a resumed run does otherwise than it began."""
    if not changed:
        return []
    values = ", ".join(f"{key}={now[key]} (was {before[key]})" for key in changed)
    schedule = "; the learning rate follows the schedule with its new end" if ITERATIONS in changed else ""
    said = "the result differs from that of a run with these values from the start"
    return [f"this run goes on with {values}{schedule}; {said}"]


def check_resumable(folder: Path) -> None:
    """Refuse a folder that holds no run to go on with.

    Raises:
        CrissCrossError: what is missing, and what to type.
    """
    if not folder.exists():
        runs = sorted(str(path.parent) for path in folder.parent.glob(f"*/{LAST}"))
        near = f"; {hint(str(folder), runs, 'runs there')}" if runs else ""
        raise CrissCrossError(
            f"--resume {folder}: no such folder; give the one that --out named when the training was started{near}"
        )
    if folder.is_file():
        raise CrissCrossError(f"--resume {folder}: is a file; give the run's folder: --resume {folder.parent}")
    if not (folder / LAST).is_file():
        raise CrissCrossError(
            f"--resume {folder}: {LAST} is not there, so nothing was saved yet; start the training with "
            f"`crisscross train RECIPE --data DIR --out {folder}`"
        )
    if not (folder / "experiment.yaml").is_file():
        raise CrissCrossError(
            f"--resume {folder}: experiment.yaml is not there; give the recipe that the run began with: "
            f"`crisscross train RECIPE --data DIR --out {folder} --resume`"
        )


def stored_experiment(kind: type[Any], folder: Path) -> Any:
    """The experiment, a `kind`, of the run in `folder`.

    Raises:
        CrissCrossError: there is nothing to resume.
    """
    if not (folder / LAST).is_file():
        raise CrissCrossError(f"{folder}: nothing to resume, {LAST} is not there; start without --resume")
    experiment = native.read_header_as(kind, folder / LAST)[0]
    if experiment is None:
        raise CrissCrossError(f"{folder / LAST}: holds no experiment; it cannot be resumed from")
    return experiment
