"""A predictor of whatever holds a network."""

from typing import Any

from torch import nn

from crisscross.checkpoints.loading import Source, load
from crisscross.inference import Predictor, predictor_of


def predictor(source: Source | nn.Module | Predictor, device: str = "cpu", **options: Any) -> Predictor:
    """What labels images with a network, wherever that is.

    Args:
        source: a network, which stays where it is; or whatever `load` takes: a name from the zoo, a run folder, a file
            of weights.
        device: where to put a network that is loaded.
        options: as in `load`.

    Raises:
        CrissCrossError: as in `load`, or a network that does not label pixels.
    """
    if isinstance(source, nn.Module | Predictor):
        return predictor_of(source)
    # An exported file, told by its suffix, has its branch here: a `Predictor` of its runtime and the card stored in it.
    return predictor_of(load(source, device, **options))
