"""Trained weights as the start of another training, whatever their classes."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from crisscross.checkpoints import native
from crisscross.checkpoints.license import license_note, license_of
from crisscross.checkpoints.loading import Loaded, find_file, read_source
from crisscross.config import Experiment
from crisscross.config.parse import flatten
from crisscross.data.palette import default_names
from crisscross.errors import CrissCrossError
from crisscross.models import Segmenter

AUXILIARY = "aux_head."
# Values of `model` that weights of another value can be trained on with.
FREE = ("model.pretrained", "model.frozen", "model.frames", "model.label", "model.aux_head.")
# What the weights were trained on, and what the network therefore has to be given.
COLORS = ("preprocess.mean", "preprocess.std", "preprocess.order")
NAMES_SHOWN = 6


class Started(NamedTuple):
    """Facts to keep with the weights of the run, and lines to show."""

    facts: dict[str, Any]
    lines: list[str]


def start_from(segmenter: Segmenter, source: str | os.PathLike[str]) -> Started:
    """Fill a network with the weights of a trained one, before it is trained on.

    Everything is taken over but the classifiers (`Segmenter.classifiers`), which start anew except for the rows of
    classes that both networks have. A network for clips takes the weights of one for images, whose 1 x 1 projections
    become 1 x 1 x 1 ones, and the other way round. An auxiliary head of another kind starts anew. All else must fit.

    Args:
        segmenter: changed in place.
        source: a zoo name, a run folder or a file, as `crisscross.load` takes them.

    Raises:
        CrissCrossError: no such weights, or tensors that are missing, left over or of another shape.
    """
    loaded = read_source(source)
    native.check_finite(loaded.tensors, loaded.name)
    own, ours = segmenter.state_dict(), segmenter.classes
    given = {key: _as_deep(value, own.get(key)) for key, value in loaded.tensors.items()}
    given, without = _without_other_auxiliary(given, own)
    layers = [layer for layer in segmenter.classifiers if not (without and layer.startswith(AUXILIARY))]
    theirs = loaded.experiment.data.classes
    rows = same_classes(theirs, ours)
    if [*rows.items()] != [(place, place) for place in range(len(theirs))] or len(theirs) != len(ours):
        given |= _classifiers(layers, given, own, rows, len(theirs))
    try:
        native.fill(segmenter, given, loaded.name)
    except native.Misfit as misfit:
        raise CrissCrossError(f"{misfit}{_cure(loaded, segmenter.experiment)}") from None
    license = license_of(Path(loaded.name), loaded.facts)
    said = f"--init {source}: {taken(layers, rows, theirs, ours, without)}{_otherwise(loaded, segmenter.experiment)}"
    facts = {"init": str(source)} | ({"license": license} if license else {})
    return Started(facts, [f"{said}{license_note(license)}"])


def with_colors_of(
    experiment: Experiment, source: str | os.PathLike[str], chosen: Collection[str] = ()
) -> tuple[Experiment, list[str]]:
    """The experiment with the mean, std and channel order that the weights to start from were trained with.

    Args:
        experiment: what is to be trained.
        source: as in `start_from`, or a backbone's file, which says nothing of them.
        chosen: dotted keys that the user has set; with one of these three nothing is taken over.

    Returns:
        The experiment, and a line where something changed.

    Raises:
        CrissCrossError: no such weights, or an unreadable file.
    """
    stored = None if any(key in chosen for key in COLORS) else _experiment_of(source)
    if stored is None:
        return experiment, []
    ours, theirs = flatten(experiment), flatten(stored)
    if not (changed := [key for key in COLORS if ours[key] != theirs[key]]):
        return experiment, []
    preprocess = stored.preprocess
    kept = replace(experiment.preprocess, mean=preprocess.mean, std=preprocess.std, order=preprocess.order)
    said = ", ".join(f"{key}={written(theirs[key])}" for key in changed)
    return replace(experiment, preprocess=kept), [f"the weights of {source} were trained with {said}: taken over"]


def same_classes(theirs: Sequence[str], ours: Sequence[str]) -> dict[int, int]:
    """Our class number -> theirs, for the classes of one name; case, blanks, `_` and `-` make no difference.

    Classes that are only numbered (`class 0`, of files without names) are the same in equal lists alone.
    """
    if tuple(theirs) == tuple(ours):
        return {place: place for place in range(len(ours))}
    if is_unnamed(theirs):
        return {}
    first, second = ([re.sub(r"[\s_-]+", " ", name.casefold()).strip() for name in names] for names in (theirs, ours))
    return {
        place: first.index(name)
        for place, name in enumerate(second)
        if first.count(name) == 1 and second.count(name) == 1
    }


def is_unnamed(classes: Sequence[str]) -> bool:
    """Whether classes are only numbered, as those of files that name none."""
    return tuple(classes) == default_names(len(classes))


def _experiment_of(source: str | os.PathLike[str]) -> Experiment | None:
    """The experiment of weights, None for those of a backbone alone; of our own files only the header is read."""
    path = find_file(source)
    try:
        stored = native.read_header(path)[0] if path.suffix == ".safetensors" else None
        return read_source(source).experiment if stored is None else stored
    except CrissCrossError:
        # What is wrong with them is said where they are read to be used.
        return None


def _as_deep(given: Tensor, own: Tensor | None) -> Tensor:
    """A 1 x 1 kernel [O, I, 1, 1] as a 1 x 1 x 1 one [O, I, 1, 1, 1] or back, as `own` is; all else as it is."""
    if own is None or {own.dim(), given.dim()} != {4, 5} or set([*own.shape[2:], *given.shape[2:]]) != {1}:
        return given
    return given[..., None] if own.dim() > given.dim() else given[..., 0]


def _without_other_auxiliary(given: dict[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The tensors with our own auxiliary head where theirs has other layers, and whether that is so."""

    def shapes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        # The first dimension of the classifier is the classes.
        layers = {key: value for key, value in tensors.items() if key.startswith(AUXILIARY)}
        return {key: value.shape[1:] if ".classify." in key else value.shape for key, value in layers.items()}

    if shapes(given) == shapes(own):
        return given, False
    kept = {key: value for key, value in given.items() if not key.startswith(AUXILIARY)}
    return kept | {key: value for key, value in own.items() if key.startswith(AUXILIARY)}, True


def _classifiers(
    layers: Sequence[str], given: Mapping[str, Tensor], own: Mapping[str, Tensor], rows: Mapping[int, int], count: int
) -> dict[str, Tensor]:
    """The classifiers' tensors as they are, but with the given rows of classes that both have; `count`: theirs."""
    made = {}
    for key in [f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias")]:
        if key not in own or key not in given:
            continue
        made[key] = own[key].clone()
        # Of another width are those of another network, which is refused for its other layers.
        if given[key].shape[1:] == own[key].shape[1:] and len(given[key]) == count:
            for place, row in rows.items():
                made[key][place] = given[key][row]
    return made


def taken(
    layers: Sequence[str],
    rows: Mapping[int, int],
    theirs: Sequence[str] | None,
    ours: Sequence[str],
    without_auxiliary: bool = False,
) -> str:
    """What was taken over and what is new, in one sentence.

    Args:
        layers: the classifiers.
        rows: our class number -> theirs, of the classes that both have.
        theirs: their classes, None if these have no names.
        ours: our classes.
        without_auxiliary: the auxiliary head is new.
    """
    aux = "; the auxiliary head starts anew" if without_auxiliary else ""
    if theirs is not None and tuple(theirs) == tuple(ours):
        return f"all weights are taken over, of the same {len(ours)} classes{aux}"
    new = [name for place, name in enumerate(ours) if place not in rows]
    unnamed = " (the weights do not name their classes)" if theirs is None or is_unnamed(theirs) else ""
    heads = " and ".join(layers)
    if not rows:
        return f"all is taken over but {heads}, new for {_list(new)}{unnamed}{aux}"
    kept = _list([ours[place] for place in rows])
    rest = f" and start anew for {_list(new)}" if new else ""
    return f"all is taken over; {heads} keep their rows for {kept}{rest}{unnamed}{aux}"


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _differences(loaded: Loaded, experiment: Experiment) -> dict[str, tuple[Any, Any]]:
    """Values of `model` that theirs and ours differ in, and that matter to the weights."""
    ours, theirs = flatten(experiment), flatten(loaded.experiment)
    keys = [key for key in theirs if key.startswith("model.") and not key.startswith(FREE)]
    return {key: (theirs[key], ours[key]) for key in keys if key in ours and theirs[key] != ours[key]}


def _cure(loaded: Loaded, experiment: Experiment) -> str:
    """What to add to the command where the networks differ."""
    words = [f"--set {key}={written(theirs)}" for key, (theirs, _) in _differences(loaded, experiment).items()]
    return f"; for the network of these weights add {' '.join(words)}" if words else ""


def _otherwise(loaded: Loaded, experiment: Experiment) -> str:
    """What the weights were trained with that the network now does otherwise."""
    found = _differences(loaded, experiment).items()
    said = ", ".join(f"{key}={written(theirs)} (now {written(ours)})" for key, (theirs, ours) in found)
    return f"; they were trained with {said}" if said else ""


def written(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(written, value))}]" if isinstance(value, list) else str(value)
