"""What the functions take as a network, and where it computes."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from crisscross import tasks
from crisscross.api.training import Run
from crisscross.config import to_dict
from crisscross.config.parse import task_of
from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError, shown
from crisscross.inference import Predictor
from crisscross.layers import modes
from crisscross.layers.precision import check_precision
from crisscross.speed.rewrite import optimize

# A name from the zoo, a run folder, a file of weights, a state dict, what `train` returned, or a network in memory.
Source = tasks.Source | Run | nn.Module | Predictor


@dataclass(frozen=True)
class Wanted:
    """A network as the functions are asked for it: the arguments of `crisscross.load`, and how it computes."""

    source: Any
    weights: str | os.PathLike[str] | None = None
    offline: bool = False
    trust: str | os.PathLike[str] | None = None
    device: str = "auto"
    optimize: bool = False
    precision: str | None = None

    @property
    def in_memory(self) -> bool:
        """Whether it is a network already, which stays on its device."""
        return isinstance(self.source, nn.Module | Predictor)

    @property
    def files(self) -> list[Path]:
        """The files that are read for it, for `crisscross.files.claim`."""
        paths = [Path(path) for path in (self.source, self.weights) if isinstance(path, str | os.PathLike)]
        return [file for path in paths for file in (path, *(path.iterdir() if path.is_dir() else ()))]

    def task(self) -> Task:
        """What it does."""
        if isinstance(self.source, nn.Module):
            experiment = getattr(self.source, "experiment", None)
            return tasks.task(task_of(to_dict(experiment)) if experiment is not None else task_of(None))
        if isinstance(self.source, Predictor):
            return tasks.task(task_of(None))
        return tasks.task_of_network(self.source, self.weights, self.trust)

    def load(self, device: str, changes: Mapping[str, Any]) -> Any:
        """The network, laid out for convolutions, and rewritten for speed where that is wanted."""
        if self.in_memory:
            network = self.source
        else:
            options = {"weights": self.weights, "offline": self.offline, "trust": self.trust, **changes}
            network = tasks.load(self.source, device, **options)
            modes.lay_out(network, torch.channels_last)
        if self.optimize and not isinstance(network, nn.Module):
            raise CrissCrossError(f"optimize rewrites networks, got {type(network).__name__}")
        return optimize(network) if self.optimize else network

    def computing(self, network: Any) -> AbstractContextManager[object]:
        """A context in which the network computes in the wanted precision."""
        precision = self.precision or "fp32"
        if precision not in modes.PRECISIONS:
            raise CrissCrossError(f"precision must be one of {', '.join(modes.PRECISIONS)}, got {shown(precision)}")
        device = modes.device_of(network) if isinstance(network, nn.Module) else torch.device(network.device)
        if device.type == "cuda":
            check_precision(precision, device, "--precision")
        return modes.computing_in(precision, device)


def wanted(source: Any, **options: Any) -> Wanted:
    """`Wanted` of what a function was given; a run of this process is trusted, and stands for its folder."""
    if isinstance(source, Run):
        return Wanted(source.folder, **{**options, "trust": options.get("trust") or source.folder})
    return Wanted(source, **options)
