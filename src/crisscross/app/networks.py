"""The networks that the page shows."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crisscross.api.networks import Source, wanted
from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError
from crisscross.inference import Prediction, Predictor
from crisscross.tasks import predictor, refuse

if TYPE_CHECKING:
    # Exported files are run where torch is not installed.
    from crisscross.explanation import Explanation


@dataclass(frozen=True)
class Network:
    """A network that labels pixels, and its name on the page.

    Attributes:
        name: differs from that of every other network on the page.
        loaded: the module, or the predictor of an exported file.
        task: what writes its predictions.
    """

    name: str
    loaded: Any
    predictor: Predictor
    task: Task

    def label(self, image: np.ndarray) -> Prediction:
        """The labels of an image uint8 [H, W, 3]."""
        return self.predictor.predict(image)

    def explain(self, image: np.ndarray, at: tuple[int, int]) -> "Explanation":
        """What attention looks at from the pixel (x, y).

        Raises:
            CrissCrossError: the network has no criss-cross attention, or is an exported file.
        """
        if isinstance(self.loaded, Predictor):
            raise CrissCrossError(
                f"{self.name} is an exported file; to show what attention looks at, the network's weights are needed"
            )
        from crisscross.explanation import explain
        from crisscross.explanation.pixel import check_attends

        check_attends(self.loaded, self.name)
        return explain(self.loaded, image, at)

    def top(self, image: np.ndarray, at: tuple[int, int], count: int = 3) -> list[tuple[str, float]]:
        """The most probable classes at the pixel (x, y), (name, probability), largest first."""
        found = self.predictor.predict(image, probabilities=True).probabilities
        assert found is not None
        values = found[:, at[1], at[0]]
        return [(self.predictor.classes[k], float(values[k])) for k in np.argsort(-values)[:count]]


def open_networks(sources: Sequence[Source], **options: Any) -> list[Network]:
    """Load networks, for one page.

    Args:
        sources: run folders, files of weights, exported files, zoo names, or networks in memory.
        options: as in `crisscross.api.networks.wanted`.

    Raises:
        CrissCrossError: one cannot be loaded, or does not label pixels.
    """
    found: list[Network] = []
    every = [wanted(source, **options) for source in sources]
    for asked in every:
        refuse(asked.task(), {}, "app", _name(asked.source))
    for asked in every:
        name = _name(asked.source)
        same = sum(one.name == name or one.name.startswith(f"{name} (") for one in found)
        loaded = asked.load(asked.find_device(), {})
        found.append(Network(f"{name} ({same + 1})" if same else name, loaded, predictor(loaded), asked.task()))
    return found


def _name(source: Source) -> str:
    return Path(source).name if isinstance(source, str | os.PathLike) else type(source).__name__
