"""One door: a name, a run folder, a file or a state dict in, a ready network out."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from crisscross import zoo
from crisscross.checkpoints import native, publishers
from crisscross.checkpoints.metadata import with_metadata
from crisscross.checkpoints.reading import Content, read_content, unwrap
from crisscross.config import Experiment, apply_overrides
from crisscross.config.parse import flatten
from crisscross.data.palette import default_palette
from crisscross.errors import CrissCrossError
from crisscross.models import Segmenter

Source = str | os.PathLike[str] | Mapping[str, Tensor]


class Loaded(NamedTuple):
    """What a source holds: `publisher` is a word of `publishers.PUBLISHERS`, None for ours; `facts` are ours alone."""

    tensors: dict[str, Tensor]
    experiment: Experiment
    name: str
    publisher: str | None
    facts: dict[str, Any]


def load(source: Source, device: str = "cpu", **overrides: Any) -> Segmenter:
    """A network with its weights, in evaluation mode.

    Args:
        source: a name from the zoo that ships with weights (`camvid-light`), a run folder (its best weights, else the
            last), a folder from `save_pretrained`, a file (`.safetensors`, `.pth`, `.pt`, `.pdparams`; ours, or one of
            the publishers' in docs/checkpoints.md), or such a state dict.
        device: where to put it.
        overrides: configuration values by their last name (`recurrence=1`, `align_corners=True`,
            `classes=[...]`) or in full through a dictionary (`**{"model.recurrence": 1}`).

    Raises:
        CrissCrossError: nothing of that name, an unreadable file, weights that do not fit or are not finite.
    """
    loaded = read_source(source)
    segmenter = Segmenter(with_overrides(loaded.experiment, overrides), initialise=False)
    fill(segmenter, loaded)
    return segmenter.to(device).eval()


def build(source: str | Experiment, **overrides: Any) -> Segmenter:
    """A freshly initialised network from a zoo name or an experiment, in training mode; overrides as in `load`.

    Raises:
        CrissCrossError: no such recipe, or a configuration that cannot be built.
    """
    experiment = zoo.recipe(source) if isinstance(source, str) else source
    return Segmenter(with_overrides(experiment, overrides))


def weights_file(source: str | os.PathLike[str]) -> Path:
    """The weights that a zoo name, a run folder or a file stands for.

    Raises:
        CrissCrossError: there are none; the message says what was looked for.
    """
    path = Path(source)
    if path.is_dir():
        for name in ("best.safetensors", "last.safetensors"):
            if (path / name).is_file():
                return path / name
        raise CrissCrossError(f"{path}: not a run folder: neither best.safetensors nor last.safetensors is there")
    if path.is_file():
        return path
    name = os.fspath(source)
    if name in zoo.RECIPES:
        if shipped := zoo.shipped_weights(name):
            return shipped
        raise CrissCrossError(
            f"{name} has no weights in this package; train it with `crisscross train {name} --data DIR`"
        )
    with_weights = ", ".join(recipe for recipe in zoo.RECIPES if zoo.shipped_weights(recipe))
    raise CrissCrossError(f"{name}: no such file or run folder, and no model of that name ({with_weights})")


def read_source(source: Source) -> Loaded:
    """Tensors in our names, the experiment they belong to, and where they come from; nothing is checked against it.

    Raises:
        CrissCrossError: nothing of that name, an unreadable file, weights of nobody known.
    """
    if isinstance(source, Mapping):
        content, name = unwrap(source), "state dict"
    else:
        path = _file(source)
        name = str(path)
        if path.suffix == ".safetensors":
            tensors, experiment, facts = native.read(path)
            if experiment is not None:
                return Loaded(tensors, experiment, name, None, facts)
            content = Content(tensors, {})
        else:
            content = read_content(path)
    publisher, tensors, experiment = publishers.convert(content.tensors, name)
    return Loaded(tensors, with_metadata(experiment, content.meta, name), name, publisher, {})


def fill(segmenter: Segmenter, loaded: Loaded) -> None:
    """Give a network its weights.

    Raises:
        CrissCrossError: a tensor that is missing, left over, of another shape, or not finite.
    """
    native.check_finite(loaded.tensors, loaded.name)
    native.fill(segmenter, loaded.tensors, loaded.name)


def _file(source: str | os.PathLike[str]) -> Path:
    """`weights_file`, and the weights of a folder as the Hugging Face Hub has them."""
    inside = Path(source) / native.HUB_WEIGHTS
    return inside if inside.is_file() else weights_file(source)


def _unknown_override(name: str, keys: Iterable[str]) -> str:
    full = {key.rpartition(".")[2]: key for key in keys}
    near = difflib.get_close_matches(name, full, 1, 0.5)
    hint = f"did you mean {full[near[0]]}?" if near else f"known: {', '.join(full)}"
    return f"unknown key {name}; {hint}"


def with_overrides(experiment: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    """`experiment` with values by their last name or in full, as `load` takes them.

    Raises:
        CrissCrossError: an unknown or ambiguous name, or a senseless value.
    """
    if not overrides:
        return experiment
    keys = flatten(experiment)
    changes = {}
    for name, value in overrides.items():
        matches = [key for key in keys if key == name or key.rpartition(".")[2] == name]
        if len(matches) > 1 and name not in keys:
            raise CrissCrossError(f"override {name!r} is ambiguous: {', '.join(matches)}")
        if not matches and "." not in name:
            raise CrissCrossError(_unknown_override(name, keys))
        changes[matches[0] if matches else name] = value
    if "data.classes" in changes and "data.palette" not in changes:
        changes["data.palette"] = [list(colour) for colour in default_palette(len(changes["data.classes"]))]
    if changes.get("model.recurrence") == 0:
        # Asking for no attention in code is explicit enough.
        changes["model.baseline"] = True
    return apply_overrides(experiment, changes)
