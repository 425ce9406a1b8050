"""One way to read a folder: what `dataset.yaml` would say, and the masks to draw first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.color import write_mask
from crisscross.data.sets.record import Job


@dataclass(frozen=True)
class Reading:
    """How a folder is read.

    Attributes:
        kind: name of the format, for messages.
        description: the content of `dataset.yaml`.
        notes: what was assumed, one line each.
        draw: index masks by their path below the folder of drawn masks; empty where the data set has masks.
    """

    kind: str
    description: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    draw: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)

    def jobs(self, folder: Path) -> Sequence[Job]:
        """The masks to draw, below `folder`."""
        return [Job(folder / name, _Drawing(make)) for name, make in self.draw.items()]


@dataclass(frozen=True)
class _Drawing:
    make: Callable[[], np.ndarray]

    def __call__(self, target: Path) -> int:
        write_mask(target, self.make())
        return 0
