"""A network for semantic segmentation from a name, a run folder, a file or a state dict."""

import difflib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from crisscross import zoo
from crisscross.checkpoints import native
from crisscross.checkpoints.hub.download import fetch
from crisscross.checkpoints.publishers.metadata import with_metadata
from crisscross.checkpoints.publishers.table import from_publisher
from crisscross.checkpoints.reading import Content, read_content, unwrap
from crisscross.config import Experiment, apply_overrides, differences, hint
from crisscross.config.parse import flatten
from crisscross.errors import CrissCrossError, CrissCrossWarning, shown
from crisscross.models import Segmenter, create_segmenter
from crisscross.models.other_backbone import with_changes

Kind = TypeVar("Kind")
Source = str | os.PathLike[str] | Mapping[str, Tensor]


class Loaded(NamedTuple):
    """What a source holds: `publisher` is a word of `PUBLISHERS`, None for ours; `facts` are ours alone.

    `told` are the keys of the experiment that other publishers' metadata changed.
    """

    tensors: dict[str, Tensor]
    experiment: Experiment
    name: str
    publisher: str | None
    facts: dict[str, Any]
    told: tuple[str, ...] = ()


def load(
    source: Source,
    device: str = "cpu",
    *,
    weights: str | os.PathLike[str] | None = None,
    offline: bool = False,
    trust: str | os.PathLike[str] | None = None,
    **overrides: Any,
) -> Segmenter:
    """A network with its weights, in evaluation mode.

    Args:
        source: a name from the zoo: one that ships with weights (`camvid-light`), or a published one, whose checkpoint
            is downloaded the first time and kept (`ccnet_r50-d8_4xb2-40k_cityscapes-512x1024`); a run folder (its best
            weights, else the last), a folder from `save_pretrained`, a file (`.safetensors`, `.pth`, `.pt`,
            `.pdparams`; ours, or one of the publishers' in docs/checkpoints.md), or such a state dict.
        device: where to put it.
        weights: a file with the weights for `source`, which is a name from the zoo then.
        offline: download nothing; so does `CRISSCROSS_OFFLINE=1`.
        trust: a folder whose weights may run code: what they name as `package.module:attribute` is imported. Weights
            elsewhere that name such are refused, unless `overrides` name the same.
        overrides: configuration values by their last name (`recurrence=1`, `align_corners=True`,
            `classes=[...]`) or in full through a dictionary (`**{"model.head.recurrence": 1}`).

    Raises:
        CrissCrossError: nothing of that name, an unreadable file, a download that fails, weights that do not
            fit or are not finite.
    """
    if weights is None:
        loaded = read_source(source, offline)
    else:
        loaded = read_source(weights, offline)
        loaded = loaded._replace(experiment=by_recipe(loaded, str(source)))
    experiment = with_overrides(loaded.experiment, overrides)
    refuse_code(loaded.name, experiment, overrides, trust)
    return native.placed(network_for(loaded, experiment), device)


def refuse_code(
    file: str,
    experiment: Experiment,
    overrides: Mapping[str, Any],
    trust: str | os.PathLike[str] | None = None,
    opening: bool = False,
) -> None:
    """Weights are data: what they name as `package.module:attribute` is imported only where the user wants it.

    Making the network never imports `data.name`; whoever opens the data set that weights name checks it.

    Args:
        file: where the weights come from.
        experiment: what is to be built.
        overrides: what the user changed in this call; what it names is trusted.
        trust: the folder that the user trusts; nothing that lies in a folder makes it trusted.
        opening: check `data.name` alone, instead of all other keys.

    Raises:
        CrissCrossError: the file alone asks for code, and lies outside of that folder.
    """
    if trust is not None and is_inside(Path(file), Path(trust)):
        return
    said = flatten(overrides)
    for key, value in experiment.code:
        if (key == "data.name") == opening and value not in _leaves([said.get(word) for word in _words_for(key)]):
            folder = Path(file).parent
            raise CrissCrossError(
                f"{file}: refused: it asks to run code, {key}={value}; if you trust it, and all that is in "
                f"{folder}, add --trust {folder} (in Python trust={str(folder)!r})"
            )


def _words_for(key: str) -> Iterator[str]:
    """What an override may call a key: its name in full, or its last parts; a section stands for its `name`."""
    for whole in (key, key.removesuffix(".name")):
        parts = whole.split(".")
        yield from (".".join(parts[start:]) for start in range(len(parts)))


def _leaves(value: Any) -> Iterator[Any]:
    """All values in nested lists and mappings."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else None
    if inner is None:
        yield value
    else:
        yield from (leaf for entry in inner for leaf in _leaves(entry))


def is_inside(file: Path, folder: Path) -> bool:
    """Whether a file lies in a folder or below it; folders that are links count as what they lead to."""
    parent, folder = file.parent.resolve(), folder.resolve()
    return folder == parent or folder in parent.parents


def build(source: str | Experiment, **overrides: Any) -> Segmenter:
    """A freshly initialized network from a zoo name or an experiment, in training mode; overrides as in `load`.

    Another `model.backbone` brings the mean and std that timm states for it, unless the overrides name these.

    Raises:
        CrissCrossError: no such recipe, or a configuration that cannot be built.
    """
    if not isinstance(source, str | Experiment):
        raise CrissCrossError(f"a recipe must be a name from the zoo or an experiment, got {shown(source)}")
    experiment = zoo.with_known_classes(zoo.recipe(source)) if isinstance(source, str) else source
    return create_segmenter(with_changes(experiment, full_keys(experiment, overrides))[0])


def weights_file(source: str | os.PathLike[str], offline: bool = False) -> Path:
    """The weights that a zoo name, a run folder or a file stands for; those of a published name are downloaded once.

    Raises:
        CrissCrossError: there are none; the message says what was looked for.
    """
    path = native.run_weights(Path(source))
    if path.is_file():
        return path
    name = os.fspath(source)
    if row := zoo.published(name):
        return fetch(row.url, row.digest, offline)
    if name in zoo.RECIPES:
        if shipped := zoo.shipped_weights(name):
            return shipped
        raise CrissCrossError(
            f"{name} has no weights in this package; train it with `crisscross train {name} --data DIR --out RUN`"
        )
    if name in zoo.INSTANCE_RECIPES:
        raise CrissCrossError(f"{name}: finds instances, and does not label pixels; crisscross.load takes it")
    with_weights = ", ".join(recipe for recipe in zoo.RECIPES if zoo.shipped_weights(recipe))
    near = hint(name, [*zoo.RECIPES, *zoo.ALIASES, *zoo.INSTANCE_RECIPES])
    near = f"; {near}" if near.startswith("did") else ""
    more = f"{with_weights}; `crisscross zoo` lists more"
    raise CrissCrossError(f"{name}: no such file or run folder, and no model of that name ({more}){near}")


def read_source(source: Source, offline: bool = False) -> Loaded:
    """Tensors in our names, the experiment they belong to, and where they come from; nothing is checked against it.

    Raises:
        CrissCrossError: nothing of that name, an unreadable file, weights of an unknown publisher.
    """
    if isinstance(source, Mapping):
        content, name = unwrap(source), "state dict"
    else:
        path = find_file(source, offline)
        name = str(path)
        if path.suffix == ".safetensors":
            tensors, experiment, facts = native.read(path)
            if experiment is not None:
                return Loaded(tensors, experiment, name, None, facts)
            content = Content(tensors, {})
        else:
            content = read_content(path)
    publisher, tensors, experiment = from_publisher(content.tensors, name)
    told = with_metadata(experiment, content.meta, name)
    # What the metadata changed.
    keys = [key for key in differences(experiment, told) if key.startswith(("model.", "preprocess.", "inference."))]
    loaded = Loaded(tensors, told, name, publisher, {}, tuple(keys))
    if isinstance(source, str) and zoo.published(source) and not Path(source).exists():
        loaded = loaded._replace(experiment=by_recipe(loaded, source))
    return loaded


def by_recipe(loaded: Loaded, name: str) -> Experiment:
    """The experiment of a recipe for these weights; classes are the recipe's, its data set's, or those of the file.

    Raises:
        CrissCrossError: no such recipe, or another number of classes.
    """
    wanted = zoo.with_known_classes(zoo.recipe(name))
    found = loaded.experiment.data
    if not wanted.data.classes:
        wanted = replace(wanted, data=replace(wanted.data, classes=found.classes, palette=found.palette))
    if len(wanted.data.classes) != len(found.classes):
        counts = f"{len(found.classes)} classes, the recipe {name} has {len(wanted.data.classes)}"
        raise CrissCrossError(f"{loaded.name}: the file has {counts}; choose the recipe that it was trained by")
    _warn_of_differences(loaded, wanted)
    return wanted


def _warn_of_differences(loaded: Loaded, wanted: Experiment) -> None:
    """Warn where the recipe overrides the file's metadata: another score may come of it."""
    ours, theirs = flatten(wanted), flatten(loaded.experiment)
    keys = [key for key in loaded.told if key in ours and key in theirs and ours[key] != theirs[key]]
    if keys:
        said = ", ".join(f"{key}={theirs[key]} (recipe: {ours[key]})" for key in keys)
        warnings.warn(f"{loaded.name}: says {said}; the recipe {wanted.name} is followed", CrissCrossWarning, 2)


def network_for(loaded: Loaded, experiment: Experiment) -> Segmenter:
    """The network of an experiment with its weights. It takes memory only when all shapes fit.

    Raises:
        CrissCrossError: a tensor that is missing, left over, of another shape, or not finite.
    """
    # Code of the user's own may not support a device without memory.
    if not any(key.startswith("model.") for key, _ in experiment.code):
        with torch.device("meta"):
            native.fitting(create_segmenter(experiment, initialize=False).state_dict(), loaded.tensors, loaded.name)
    native.check_finite(loaded.tensors, loaded.name)
    segmenter = create_segmenter(experiment, initialize=False)
    native.fill(segmenter, loaded.tensors, loaded.name)
    return segmenter


def find_file(source: str | os.PathLike[str], offline: bool = False) -> Path:
    """`weights_file`, and the weights of a folder as the Hugging Face Hub has them."""
    inside = Path(source) / native.HUB_WEIGHTS
    return inside if inside.is_file() else weights_file(source, offline)


def _unknown_override(name: str, keys: Iterable[str]) -> str:
    full = {key.rpartition(".")[2]: key for key in keys}
    near = difflib.get_close_matches(name, full, 1, 0.5)
    hint = f"did you mean {full[near[0]]}?" if near else f"known: {', '.join(full)}"
    return f"unknown key {name}; {hint}"


def with_overrides(experiment: Kind, overrides: Mapping[str, Any]) -> Kind:
    """`experiment` with values by their last name or in full, as `load` takes them.

    Raises:
        CrissCrossError: an unknown or ambiguous name, or a senseless value.
    """
    return apply_overrides(experiment, full_keys(experiment, overrides)) if overrides else experiment


def full_keys(experiment: Any, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key from values by their last name or in full.

    Raises:
        CrissCrossError: an unknown or ambiguous name.
    """
    leaves = flatten(experiment)
    # A section can be named, too: `head={"name": "ce2p"}`.
    keys = dict.fromkeys([*leaves, *(key[: key.rindex(".")] for key in leaves if key.count("."))])
    changes = {}
    for name, value in overrides.items():
        matches = [key for key in keys if key == name or key.rpartition(".")[2] == name]
        if len(matches) > 1 and name not in keys:
            raise CrissCrossError(f"override {name!r} is ambiguous: {', '.join(matches)}")
        if not matches and "." not in name:
            raise CrissCrossError(_unknown_override(name, leaves))
        changes[matches[0] if matches else name] = value
    return changes
