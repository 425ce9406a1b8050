"""What a pickled checkpoint may name. Everything else in it is refused before anything runs."""

import importlib
import pickle
from typing import Any


class Inert:
    """Stands in for an object of training (a log, the options of a command): takes any state and keeps none of it."""

    def __new__(cls, *ignored: Any, **also_ignored: Any) -> "Inert":
        """Whatever the file hands over is dropped."""
        return super().__new__(cls)

    def __init__(self, *ignored: Any, **also_ignored: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _attribute(owner: Any, name: str) -> None:
    """getattr of stand-ins alone: MMEngine pickles methods of its log as `getattr(HistoryBuffer, "mean")`.

    Raises:
        UnpicklingError: of anything else, in the words that torch uses for what is not allowed.
    """
    if owner is not Inert and not isinstance(owner, Inert):
        raise pickle.UnpicklingError("Unsupported global: GLOBAL getattr was not an allowed global")


def _text(*parts: Any) -> str:
    """A path as text: a Windows path cannot be made elsewhere."""
    return "/".join(map(str, parts))


def numpy_globals() -> dict[str, Any]:
    """What numpy's arrays, scalars and types are pickled as: numbers alone. Numpy 2 moved two of the functions."""
    import numpy as np

    found: dict[str, Any] = {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
    for name in ("_reconstruct", "scalar"):
        function = getattr(importlib.import_module("numpy._core.multiarray"), name)
        found |= {f"numpy.core.multiarray.{name}": function, f"numpy._core.multiarray.{name}": function}
    kinds = {type(np.dtype(code)) for code in np.typecodes["All"]}
    return found | {f"numpy.dtypes.{kind.__name__}": kind for kind in kinds}


def torch_globals() -> list[Any]:
    """For `torch.serialization.safe_globals`, beside what torch itself allows.

    MMEngine's training checkpoints hold `HistoryBuffer`s (the log of losses) and, in metadata, `ConfigDict`s; scripts
    with argparse keep their options beside the weights.
    """
    inert = ("mmengine.logging.history_buffer.HistoryBuffer", "argparse.Namespace")
    mappings = ("mmengine.config.config.ConfigDict",)
    paths = ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    found: dict[str, Any] = numpy_globals()
    found |= dict.fromkeys(inert, Inert) | dict.fromkeys(mappings, dict) | {"builtins.getattr": _attribute}
    found |= {f"{module}.{name}": _text for module in ("pathlib", "pathlib._local") for name in paths}
    return [(value, name) for name, value in found.items()]


def pickle_globals() -> dict[str, Any]:
    """For plain pickles of numpy arrays, as Paddle writes them, by any protocol.

    Only types and functions in C: a pickle can set attributes on functions and classes written in Python.
    """
    from collections import OrderedDict

    # Protocol 2 writes bytes as text to be encoded in latin1: bytes(text, "latin1").
    plain: dict[str, Any] = {"builtins.tuple": tuple, "_codecs.encode": bytes, "collections.OrderedDict": OrderedDict}
    return numpy_globals() | plain
