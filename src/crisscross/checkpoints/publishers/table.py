"""Whose weights are these? The publishers whose names are known, and what each calls its tensors."""

from collections.abc import Mapping
from types import ModuleType

from torch import Tensor

from crisscross.checkpoints.publishers import authors, mmseg, paddleseg, sssegmentation
from crisscross.config import Experiment
from crisscross.config.heads import CCNetConfig
from crisscross.errors import CrissCrossError

# Whose files are read, by our word for them.
PUBLISHERS: dict[str, ModuleType] = {
    "mmseg": mmseg,
    "authors": authors,
    "sssegmentation": sssegmentation,
    "paddleseg": paddleseg,
}
# Whose files are written: the words that `crisscross convert --to` takes.
WRITTEN = ("mmseg", "authors")


def recognize(tensors: Mapping[str, Tensor]) -> str | None:
    """The word for the publisher of a state dict, or None."""
    return next((word for word, publisher in PUBLISHERS.items() if publisher.recognizes(tensors)), None)


def convert(tensors: Mapping[str, Tensor], source: str) -> tuple[str, dict[str, Tensor], Experiment]:
    """Publisher, tensors in our names, and the experiment that shapes tell.

    Raises:
        CrissCrossError: nobody's names, ours without their experiment, or too few tensors to tell the configuration.
    """
    word = recognize(tensors)
    if word is None:
        if "head.classify.weight" in tensors:
            raise CrissCrossError(
                f"{source}: our own weights without their experiment; write them with crisscross.save instead"
            )
        some = ", ".join(list(tensors)[:3])
        raise CrissCrossError(f"{source}: weights of no system known here (it holds {some}, ...)")
    try:
        return word, *PUBLISHERS[word].convert(tensors)
    except CrissCrossError as error:
        raise CrissCrossError(f"{source}: {error}") from error


def why_not(word: str, experiment: Experiment) -> str | None:
    """The reason for which a network cannot be that publisher's, or None."""
    publisher, model = PUBLISHERS[word], experiment.model
    if model.backbone not in publisher.BACKBONES.values():
        return f"model.backbone={model.backbone} (theirs: {', '.join(publisher.BACKBONES.values())})"
    theirs = publisher.EXPERIMENT.model
    if not isinstance(model.head, CCNetConfig) or model.head.name != theirs.head.name:
        return f"model.head.name={model.head.name} (theirs: {theirs.head.name})"
    if not model.head.recurrence:
        return "model.head.recurrence=0"
    return None if model.variant == theirs.variant else f"model.variant={model.variant} (theirs: {theirs.variant})"
