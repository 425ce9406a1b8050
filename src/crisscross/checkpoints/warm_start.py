"""Trained weights as the start of another training."""

import os
from typing import Any

from torch import Tensor

from crisscross.checkpoints import native
from crisscross.checkpoints.loading import read_source
from crisscross.errors import CrissCrossError
from crisscross.models import Segmenter


def start_from(segmenter: Segmenter, source: str | os.PathLike[str]) -> dict[str, Any]:
    """Fill a network with the weights of a trained one, before it is trained on.

    A network for clips takes those of one for images, whose 1 x 1 projections become 1 x 1 x 1 ones. All else must
    fit.

    Args:
        segmenter: changed in place.
        source: a zoo name, a run folder or a file, as `crisscross.load` takes them.

    Returns:
        Facts to keep: where the weights came from.

    Raises:
        CrissCrossError: no such weights, other classes, or tensors that are missing, left over or of another shape.
    """
    loaded = read_source(source)
    theirs, ours = loaded.experiment.data.classes, segmenter.classes
    if theirs != ours:
        raise CrissCrossError(
            f"{loaded.name}: trained on {len(theirs)} classes ({', '.join(theirs[:4])}, ...), "
            f"the data has {len(ours)} ({', '.join(ours[:4])}, ...); --init takes weights of the same classes"
        )
    native.check_finite(loaded.tensors, loaded.name)
    own = segmenter.state_dict()
    given = {key: _deepened(value, own.get(key)) for key, value in loaded.tensors.items()}
    native.fill(segmenter, given, loaded.name)
    return {"init": str(source)}


def _deepened(given: Tensor, own: Tensor | None) -> Tensor:
    """A 1 x 1 kernel [O, I, 1, 1] as the 1 x 1 x 1 one [O, I, 1, 1, 1] that is asked for; all else as it is."""
    pointwise = own is not None and own.dim() == 5 and given.dim() == 4 and given.shape[2:] == (1, 1)
    return given[..., None] if pointwise else given
