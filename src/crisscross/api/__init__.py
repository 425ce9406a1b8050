"""The commands `train`, `evaluate` and `predict` as functions: a command reads its words and calls one of these."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crisscross.api.evaluating import evaluate
    from crisscross.api.predicting import predict
    from crisscross.api.training import Run, train

# Public name -> module, imported when it is used: `predict` runs exported networks without torch.
_MODULES = {"Run": "training", "evaluate": "evaluating", "predict": "predicting", "train": "training"}

__all__ = ["Run", "evaluate", "predict", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'crisscross.api' has no attribute {name!r}")
    return getattr(importlib.import_module(f"crisscross.api.{_MODULES[name]}"), name)
