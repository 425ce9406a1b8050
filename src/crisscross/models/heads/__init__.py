"""From feature maps to class logits."""

import importlib
from typing import Any

from torch import nn

from crisscross.config import ModelConfig, from_dict, import_attribute
from crisscross.config.heads import HEADS, OwnHead
from crisscross.errors import CrissCrossError
from crisscross.models.heads.auxiliary import AuxiliaryHead
from crisscross.models.heads.contract import HeadInputs, Logits

__all__ = ["AuxiliaryHead", "HeadInputs", "Logits", "create_head"]


def create_head(model: ModelConfig, given: HeadInputs) -> Any:
    """The head that `model.head` names, as `crisscross.models.heads.contract` describes it.

    Raises:
        CrissCrossError: a head from outside that cannot be imported, is none, or does not know a setting; one that
            cannot take these feature maps, or clips.
    """
    config: Any = model.head
    if isinstance(config, OwnHead):
        made = import_attribute(config.name, "model.head.name")
        if not (isinstance(made, type) and issubclass(made, nn.Module)) or not hasattr(made, "Config"):
            raise CrissCrossError(f"model.head.name {config.name}: must be a torch module with a dataclass `Config`")
        config = from_dict(made.Config, dict(config.settings), "model.head.")
    else:
        module, _, name = HEADS[config.name].head.partition(":")
        made = getattr(importlib.import_module(module), name)
    if given.frames and not hasattr(made, "encode"):
        raise CrissCrossError(f"model.frames must be 0 with model.head.name={model.head.name}, got {given.frames}")
    head = made(config, given)
    if missing := [name for name in getattr(head, "classifiers", ("classifiers",)) if not _has(head, name)]:
        raise CrissCrossError(
            f"model.head.name {model.head.name}: `classifiers` must name its layers with the classes as their first "
            f"dimension, and {missing[0]!r} is not there"
        )
    return head


def _has(head: nn.Module, name: str) -> bool:
    return name in dict(head.named_modules())
