"""What the functions take as a network, and where it computes."""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from crisscross import tasks
from crisscross.config import to_dict
from crisscross.config.parse import task_of
from crisscross.deploy import exported_kind, open_exported
from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError, shown
from crisscross.inference import Predictor

if TYPE_CHECKING:
    # Exported files are run where torch is not installed.
    import numpy as np
    from torch import nn

    from crisscross.api.training import Run

Place = str | os.PathLike[str]
# (height, width) of a drawn image to choose a backend by, where there is no other.
SCENE = (512, 1024)
# A name from the zoo, a run folder, a file of weights, a state dict, what `train` returned, or a network in memory.
Source = Union[tasks.Source, "Run", "nn.Module", Predictor]


@dataclass(frozen=True)
class Wanted:
    """A network as the functions are asked for it: the arguments of `crisscross.load`, and how it computes.

    `card` describes an exported file that does not do so itself.
    """

    source: Any
    weights: str | os.PathLike[str] | None = None
    offline: bool = False
    trust: str | os.PathLike[str] | None = None
    device: str = "auto"
    optimize: bool = False
    precision: str | None = None
    card: str | os.PathLike[str] | None = None
    backend: str | None = None

    @property
    def in_memory(self) -> bool:
        """Whether it is a network already, which stays on its device."""
        return isinstance(self.source, Predictor) or tasks.is_module(self.source)

    @property
    def exported(self) -> str:
        """The kind of an exported file, "" for everything else."""
        return exported_kind(self.source)

    def find_device(self) -> str:
        """The device to load it to; the runtimes of exported files choose their own."""
        if self.exported:
            return "cpu"
        from crisscross.layers.devices import find_device

        return str(find_device(self.device))

    @property
    def files(self) -> list[Path]:
        """The files that are read for it, for `crisscross.files.claim`."""
        paths = [Path(path) for path in (self.source, self.weights, self.card) if isinstance(path, str | os.PathLike)]
        if self.exported and paths[0].suffix == ".xml":
            paths.append(paths[0].with_suffix(".bin"))
        return [file for path in paths for file in (path, *(path.iterdir() if path.is_dir() else ()))]

    def task(self) -> Task:
        """What it does."""
        if tasks.is_module(self.source):
            experiment = getattr(self.source, "experiment", None)
            return tasks.task(task_of(to_dict(experiment)) if experiment is not None else task_of(None))
        if isinstance(self.source, Predictor):
            return tasks.task(task_of(None))
        return tasks.task_of_network(self.source, self.weights, self.trust)

    def load(self, device: str, changes: Mapping[str, Any]) -> Any:
        """The network, laid out for convolutions, and rewritten for speed where that is wanted.

        Of an exported file its predictor.
        """
        if self.exported:
            return self._open_exported()
        if self.card:
            raise CrissCrossError(f"card is for exported files (.onnx, .xml, .pt2), not for {self.source}")
        import torch
        from torch import nn

        from crisscross.engine.processes import is_first_process
        from crisscross.layers import modes
        from crisscross.layers.precision import warn_of_emulation
        from crisscross.speed.rewrite import optimize

        self._check_backend()
        if self.precision and is_first_process():
            warn_of_emulation(self.precision, torch.device(device), "--precision")
        if self.in_memory:
            network = self.source
        else:
            options = {"weights": self.weights, "offline": self.offline, "trust": self.trust, **changes}
            network = tasks.load(self.source, device, **options)
            modes.lay_out(network, torch.channels_last)
        if self.optimize and not isinstance(network, nn.Module):
            raise CrissCrossError(f"optimize rewrites networks, got {type(network).__name__}")
        return optimize(network) if self.optimize else network

    def _open_exported(self) -> Predictor:
        for name in ("weights", "optimize", "precision", "backend"):
            if getattr(self, name):
                raise CrissCrossError(
                    f"--{name}: {self.source} is an exported network ({self.exported}), which is fixed"
                )
        if str(self.device) not in ("auto", "cpu"):
            raise CrissCrossError(
                f"--device {self.device}: {self.source} is an exported network ({self.exported}), whose runtime chooses"
            )
        return open_exported(self.source, self.card)

    def _check_backend(self) -> None:
        if not self.backend:
            return
        from crisscross.measurement.backends import check_backend

        check_backend(self.backend)
        given = next((name for name in ("optimize", "precision") if getattr(self, name)), "")
        if given and self.backend != "torch":
            raise CrissCrossError(f"--{given} is for --backend torch; --backend {self.backend} computes in float32")

    def on_backend(self, network: Any, images: int | None, sample: "Callable[[], np.ndarray]") -> Any:
        """What labels `images` images (None: a great many) by the wanted backend; `sample` gives one of them."""
        if self.backend in (None, "torch"):
            return network
        from crisscross.measurement.backends import on_backend

        return on_backend(network, self.backend, images, sample)

    def computing(self, network: Any) -> AbstractContextManager[object]:
        """A context in which the network computes in the wanted precision."""
        if self.exported:
            return nullcontext()
        import torch
        from torch import nn

        from crisscross.layers import modes
        from crisscross.layers.precision import check_precision

        precision = self.precision or "fp32"
        if precision not in modes.PRECISIONS:
            raise CrissCrossError(f"precision must be one of {', '.join(modes.PRECISIONS)}, got {shown(precision)}")
        device = modes.device_of(network) if isinstance(network, nn.Module) else torch.device(network.device)
        if device.type == "cuda":
            check_precision(precision, device, "--precision")
        return modes.computing_in(precision, device)


def wanted(source: Any, **options: Any) -> Wanted:
    """`Wanted` of what a function was given; a run of this process is trusted, and stands for its folder."""
    training = sys.modules.get("crisscross.api.training")
    if training is not None and isinstance(source, training.Run):
        return Wanted(source.folder, **{**options, "trust": options.get("trust") or source.folder})
    return Wanted(source, **options)
