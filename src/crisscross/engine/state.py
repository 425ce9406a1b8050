"""Training state on disk: one file, replaced atomically, holds weights, optimiser and position."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crisscross.checkpoints import native
from crisscross.config import Experiment
from crisscross.errors import CrissCrossError
from crisscross.models import Segmenter

LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass
class Position:
    """Where training stands: finished iterations, the last validated one, and the best validation mIoU so far."""

    iteration: int = 0
    validated: int = 0
    best_miou: float | None = None
    best_iteration: int | None = None


def save_state(
    folder: Path, segmenter: Segmenter, optimiser: torch.optim.Optimizer, position: Position, facts: dict[str, Any]
) -> None:
    """Write `last.safetensors`. Sampler and random state follow from (seed, iteration) and need no storing."""
    extra: dict[str, Tensor] = {}
    for name, parameter in segmenter.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                extra[f"{native.OPTIMISER}{name}/{key}"] = value
    native.save(segmenter, folder / LAST, facts={**facts, "position": vars(position)}, extra=extra)


def load_state(folder: Path, segmenter: Segmenter, optimiser: torch.optim.Optimizer) -> tuple[Position, dict[str, Any]]:
    """Read `last.safetensors` back into network and optimiser.

    Raises:
        CrissCrossError: unreadable, or no training state in it.
    """
    path = folder / LAST
    tensors, _, facts = native.read(path)
    if "position" not in facts:
        raise CrissCrossError(f"{path}: holds weights but no training state; it cannot be resumed from")
    native.fill(segmenter, tensors, str(path))
    for name, parameter in segmenter.named_parameters():
        prefix = f"{native.OPTIMISER}{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            # AdamW keeps its step count on the CPU.
            optimiser.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in state.items()}
    return Position(**facts["position"]), facts


def stored_experiment(folder: Path) -> Experiment:
    """The experiment of the run in `folder`.

    Raises:
        CrissCrossError: there is nothing to resume.
    """
    if not (folder / LAST).is_file():
        raise CrissCrossError(f"{folder}: nothing to resume, {LAST} is not there; start without --resume")
    experiment = native.read_header(folder / LAST)[0]
    if experiment is None:
        raise CrissCrossError(f"{folder / LAST}: holds no experiment; it cannot be resumed from")
    return experiment
