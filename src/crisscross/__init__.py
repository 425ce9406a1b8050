"""CCNet: criss-cross attention for semantic segmentation, from images to a measured network.

>>> import crisscross
>>> segmenter = crisscross.load("camvid-light")
>>> labels = segmenter.predict("street.jpg").labels
"""

import importlib

# As type checkers know it, without the import of `typing`: until the command has begun, Ctrl-C ends in a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from crisscross import surgery
    from crisscross.api import Run, evaluate, predict, train
    from crisscross.checkpoints import build, from_pretrained, push_to_hub, save, save_pretrained
    from crisscross.config import Experiment
    from crisscross.data import DataSet, Pair, open_dataset
    from crisscross.errors import CrissCrossError
    from crisscross.explanation import Explanation, explain
    from crisscross.inference import Prediction, Predictor
    from crisscross.instances.network import InstanceSegmenter
    from crisscross.layers import (
        CrissCrossAttention,
        CrissCrossAttention3d,
        RecurrentCrissCrossAttention,
        RecurrentCrissCrossAttention3d,
    )
    from crisscross.models import Logits, Segmenter, VideoSegmenter
    from crisscross.ops import criss_cross_attention, criss_cross_attention_3d
    from crisscross.speed.rewrite import optimize
    from crisscross.tasks import load, predictor

__version__ = "0.1.0"

# Public name -> module, which is imported when the name is used: importing the package imports nothing heavy.
_MODULES = {
    "CrissCrossAttention": "layers",
    "CrissCrossAttention3d": "layers",
    "CrissCrossError": "errors",
    "DataSet": "data",
    "Experiment": "config",
    "Explanation": "explanation",
    "InstanceSegmenter": "instances.network",
    "Logits": "models",
    "Pair": "data",
    "Prediction": "inference",
    "Predictor": "inference",
    "RecurrentCrissCrossAttention": "layers",
    "RecurrentCrissCrossAttention3d": "layers",
    "Run": "api",
    "Segmenter": "models",
    "VideoSegmenter": "models",
    "build": "checkpoints",
    "criss_cross_attention": "ops",
    "criss_cross_attention_3d": "ops",
    "evaluate": "api",
    "explain": "explanation",
    "from_pretrained": "checkpoints",
    "load": "tasks",
    "open_dataset": "data",
    "optimize": "speed.rewrite",
    "predict": "api",
    "predictor": "tasks",
    "push_to_hub": "checkpoints",
    "save": "checkpoints",
    "save_pretrained": "checkpoints",
    "train": "api",
}

__all__ = [
    "CrissCrossAttention",
    "CrissCrossAttention3d",
    "CrissCrossError",
    "DataSet",
    "Experiment",
    "Explanation",
    "InstanceSegmenter",
    "Logits",
    "Pair",
    "Prediction",
    "Predictor",
    "RecurrentCrissCrossAttention",
    "RecurrentCrissCrossAttention3d",
    "Run",
    "Segmenter",
    "VideoSegmenter",
    "build",
    "criss_cross_attention",
    "criss_cross_attention_3d",
    "evaluate",
    "explain",
    "from_pretrained",
    "load",
    "open_dataset",
    "optimize",
    "predict",
    "predictor",
    "push_to_hub",
    "save",
    "save_pretrained",
    "surgery",
    "train",
]


def __getattr__(name: str) -> "Any":
    if name == "surgery":
        return importlib.import_module("crisscross.surgery")
    if name not in _MODULES:
        raise AttributeError(f"module 'crisscross' has no attribute {name!r}")
    return getattr(importlib.import_module(f"crisscross.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
