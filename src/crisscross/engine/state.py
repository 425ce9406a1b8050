"""Training state on disk: one file, replaced atomically, holds weights, optimiser and position."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from crisscross.checkpoints import native
from crisscross.config import Experiment, InstanceExperiment
from crisscross.config.parse import Tree
from crisscross.engine.average import WeightAverage
from crisscross.errors import CrissCrossError
from crisscross.models import Segmenter

if TYPE_CHECKING:
    from crisscross.models.instances import InstanceSegmenter

LAST, BEST = "last.safetensors", "best.safetensors"
# Where an average stands in the place of the weights, the weights that training continues from.
LIVE = f"{native.OPTIMISER}live/"


@dataclass
class Position:
    """Where training stands: finished iterations, the last validated one, and the best validation mIoU so far.

    `waited` counts the validations since the best one, `skipped` the steps that fp16 left out.
    """

    iteration: int = 0
    validated: int = 0
    best_miou: float | None = None
    best_iteration: int | None = None
    waited: int = 0
    skipped: int = 0


def save_state(
    folder: Path,
    segmenter: "Segmenter | InstanceSegmenter",
    optimiser: torch.optim.Optimizer,
    position: Any,
    facts: dict[str, Any],
    average: WeightAverage | None = None,
) -> None:
    """Write `last.safetensors`. Sampler and random state follow from (seed, iteration) and need no storing.

    With an average its tensors are the file's weights, and the network's own stand beside the optimiser's.
    """
    extra: dict[str, Tensor] = {}
    for name, parameter in segmenter.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                extra[f"{native.OPTIMISER}{name}/{key}"] = value
    if average is None:
        native.save(segmenter, folder / LAST, facts={**facts, "position": vars(position)}, extra=extra)
        return
    extra |= {f"{LIVE}{key}": value.clone() for key, value in segmenter.state_dict().items()}
    with average.in_place():
        native.save(segmenter, folder / LAST, facts={**facts, "position": vars(position)}, extra=extra)


def load_state(
    folder: Path, segmenter: Segmenter, optimiser: torch.optim.Optimizer, average: WeightAverage | None = None
) -> tuple[Position, dict[str, Any]]:
    """Read `last.safetensors` back into network, optimiser and average.

    Raises:
        CrissCrossError: unreadable, or no training state in it.
    """
    path = folder / LAST
    tensors, _, facts = native.read(path)
    _check_position(path, facts)
    native.fill(segmenter, tensors, str(path))
    if average is not None:
        average.fill(tensors)
        live = {key.removeprefix(LIVE): value for key, value in tensors.items() if key.startswith(LIVE)}
        native.fill(segmenter, live, str(path))
    fill_optimiser(segmenter, optimiser, tensors)
    return Position(**facts["position"]), facts


def _check_position(path: Path, facts: dict[str, Any]) -> None:
    if "position" not in facts:
        raise CrissCrossError(f"{path}: holds weights but no training state; it cannot be resumed from")


def load_instance_state(
    folder: Path, segmenter: "InstanceSegmenter", optimiser: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`load_state` for instances: the fields of the position, and the facts."""
    path = folder / LAST
    tensors, (_, facts) = native.read_tensors(path), native.read_header_as(InstanceExperiment, path)
    _check_position(path, facts)
    native.fill(segmenter, tensors, str(path))
    fill_optimiser(segmenter, optimiser, tensors)
    return facts["position"], facts


def fill_optimiser(network: torch.nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give the optimiser of a network its stored state."""
    for name, parameter in network.named_parameters():
        prefix = f"{native.OPTIMISER}{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            # AdamW keeps its step count on the CPU.
            optimiser.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}


def stored_experiment(folder: Path) -> Experiment:
    """The experiment of the run in `folder`.

    Raises:
        CrissCrossError: there is nothing to resume.
    """
    return stored_experiment_as(Experiment, folder)


def stored_experiment_as(kind: type[Tree], folder: Path) -> Tree:
    """`stored_experiment` of a task's own kind."""
    if not (folder / LAST).is_file():
        raise CrissCrossError(f"{folder}: nothing to resume, {LAST} is not there; start without --resume")
    experiment = native.read_header_as(kind, folder / LAST)[0]
    if experiment is None:
        raise CrissCrossError(f"{folder / LAST}: holds no experiment; it cannot be resumed from")
    return experiment
