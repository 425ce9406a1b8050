"""Converting a publisher's file to ours, and back."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crisscross import zoo
from crisscross.checkpoints import native
from crisscross.checkpoints.license import license_of
from crisscross.checkpoints.loading import Source, by_recipe, network_for, read_source, refuse_code
from crisscross.checkpoints.publishers.metadata import OURS, with_classes
from crisscross.checkpoints.publishers.table import PUBLISHERS
from crisscross.config import apply_overrides, to_dict
from crisscross.config.parse import parse_words
from crisscross.data import DATASETS
from crisscross.errors import CrissCrossError, shown
from crisscross.files import write_atomically
from crisscross.models import Segmenter


class Converted(NamedTuple):
    """A network with a publisher's weights; `publisher` is a key of `PUBLISHERS`, None for our own weights."""

    segmenter: Segmenter
    publisher: str | None
    facts: dict[str, Any]


def convert(
    source: Source,
    recipe: str | None = None,
    classes: Sequence[str] | str | None = None,
    changes: Sequence[str] = (),
    trust: str | os.PathLike[str] | None = None,
) -> Converted:
    """Read weights of any known publisher, with everything that our files contain.

    Args:
        source: as in `crisscross.load`.
        recipe: a name from the zoo; it decides everything but the weights, which must fit.
        classes: names, or the name of a known data set; by default the metadata's, the recipe's, or numbers.
        changes: changes of the experiment in the form KEY=VALUE, as `--set` takes them.
        trust: as in `crisscross.load`.

    Raises:
        Misfit: tensors are missing, left over or of another shape; the error lists all in the publisher's names.
        CrissCrossError: as in `crisscross.load`, no such recipe, or another number of classes.
    """
    loaded = read_source(source)
    experiment = by_recipe(loaded, recipe) if recipe else loaded.experiment
    if isinstance(classes, str):
        if (known := zoo.known_classes(classes)) is None:
            having = ", ".join(name for name in DATASETS if zoo.known_classes(name))
            raise CrissCrossError(f"no data set {classes!r} with known classes; known: {having}")
        experiment = with_classes(experiment, known.classes, known.palette, loaded.name)
    elif classes:
        experiment = with_classes(experiment, classes, None, loaded.name)
    changed = parse_words(changes)
    experiment = apply_overrides(experiment, changed)
    refuse_code(loaded.name, experiment, changed, trust)
    try:
        segmenter = network_for(loaded, experiment)
    except native.Misfit as misfit:
        raise _in_their_names(misfit, loaded.publisher) from None
    # The position to resume at belongs to the optimizer's state, which is not kept.
    kept = {key: value for key, value in loaded.facts.items() if key not in ("position", "scaler")}
    if license := license_of(Path(loaded.name), kept):
        kept["license"] = license
    facts = {"publisher": loaded.publisher} if loaded.publisher else kept
    return Converted(segmenter.eval(), loaded.publisher, facts)


def _in_their_names(misfit: native.Misfit, publisher: str | None) -> native.Misfit:
    theirs = PUBLISHERS[publisher].names.theirs if publisher else str
    lists = (misfit.missing, misfit.left_over, misfit.reshaped)
    missing, left_over, reshaped = ([theirs(key) for key in names] for names in lists)
    return native.Misfit(str(misfit), missing, left_over, reshaped)


def save_as(
    segmenter: Segmenter, path: str | os.PathLike[str], publisher: str, dtype: torch.dtype | None = None
) -> None:
    """Write a network's weights in a publisher's names and file format.

    `mmseg`: `state_dict` and `meta` (classes and colors under the keys of 0.x and 1.x, and our experiment). `authors`:
    the state dict alone, as their scripts read it.

    Args:
        segmenter: the network.
        path: the file to write, atomically.
        publisher: `mmseg` or `authors`.
        dtype: store floating-point tensors in this type; None keeps theirs.

    Raises:
        CrissCrossError: no such publisher, it has no such network, or the file cannot be written.
    """
    target = PUBLISHERS.get(publisher)
    if target is None or not target.written:
        written = ", ".join(word for word, row in PUBLISHERS.items() if row.written)
        raise CrissCrossError(f"{path}: weights cannot be written for {shown(publisher)}; known: {written}")
    if reason := target.why_not(segmenter.experiment):
        raise CrissCrossError(f"{path}: {target.title} has no such network: {reason}")
    stored = native.stored_tensors(segmenter, path, dtype)
    # No publisher's network has an embedding.
    kept = {key: value for key, value in stored.items() if not key.startswith(native.EMBEDDING)}
    tensors = target.back(kept)
    content = _wrapped(tensors, segmenter, publisher)
    write_atomically(path, lambda temporary: _save(content, temporary))


def _save(content: dict[str, Any], path: Path) -> None:
    # Given a path, torch writes its name into the file, and names of temporary files differ.
    with path.open("wb") as file:
        torch.save(content, file)


def _wrapped(tensors: dict[str, Tensor], segmenter: Segmenter, publisher: str) -> dict[str, Any]:
    if publisher != "mmseg":
        return dict(tensors)
    classes, palette = list(segmenter.classes), [list(color) for color in segmenter.palette]
    meta: dict[str, Any] = {"CLASSES": classes, "PALETTE": palette}
    meta |= {"dataset_meta": {"classes": classes, "palette": palette}, OURS: json.dumps(to_dict(segmenter.experiment))}
    return {"meta": meta, "state_dict": tensors}
