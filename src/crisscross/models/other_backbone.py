"""What follows where a recipe gets another backbone: its mean and std, and no frozen modules of the former one."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch

from crisscross.config import Experiment, apply_overrides
from crisscross.config.parse import flatten
from crisscross.errors import CrissCrossError
from crisscross.models.backbones import create_backbone_network

MEAN, STD, FROZEN = "preprocess.mean", "preprocess.std", "model.frozen"


def with_changes(experiment: Any, changes: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """An experiment of any task with values by dotted key; another backbone brings its own, see `with_own_values`.

    Returns:
        The experiment, and a line where something else changed with the backbone.

    Raises:
        CrissCrossError: an unknown key, or an invalid value.
    """
    changed = apply_overrides(experiment, changes)
    if not isinstance(changed, Experiment) or changed.model.backbone == experiment.model.backbone:
        return changed, []
    return with_own_values(changed, experiment.model.backbone, tuple(flatten(changes)))


def with_own_values(experiment: Experiment, former: str, chosen: Collection[str]) -> tuple[Experiment, list[str]]:
    """The experiment with the mean and std that timm states for its backbone, and without frozen modules it lacks.

    Args:
        experiment: with the new backbone.
        former: the backbone of the recipe.
        chosen: dotted keys that the user has set, which stay.

    Returns:
        The experiment, and a line where something changed.
    """
    import timm

    name, said = experiment.model.backbone, []
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is not None and not {MEAN, STD} & {*chosen}:
        mean, std = _on_255(*config.mean), _on_255(*config.std)
        if (mean, std) != (experiment.preprocess.mean, experiment.preprocess.std):
            experiment = replace(experiment, preprocess=replace(experiment.preprocess, mean=mean, std=std))
            said.append(f"{MEAN}={list(mean)} and {STD}={list(std)} are its own")
    if (frozen := experiment.model.frozen) and FROZEN not in chosen and _lacks(experiment, frozen):
        experiment = replace(experiment, model=replace(experiment.model, frozen=()))
        said.append(f"{FROZEN}=[{', '.join(frozen)}] names modules of {former} and is dropped")
    return experiment, [f"model.backbone={name}: {'; '.join(said)}"] if said else []


def _on_255(red: float, green: float, blue: float) -> tuple[float, float, float]:
    return round(255 * red, 4), round(255 * green, 4), round(255 * blue, 4)


def _lacks(experiment: Experiment, names: Collection[str]) -> bool:
    """Whether the backbone lacks one of these modules; one that cannot be built is refused later."""
    model = experiment.model
    try:
        with torch.device("meta"):
            network = create_backbone_network(model.backbone, model.output_stride)
    except CrissCrossError:
        return False
    known = dict(network.named_modules())
    return any(name not in known for name in names)
