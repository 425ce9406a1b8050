"""What a pickled checkpoint may name. Everything else in it is refused before anything runs."""

import math
import pickle
import re
from typing import Any

import numpy as np


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


class PlainKind:
    """A numpy dtype of plain values, made anew from its code.

    numpy's own takes flags and fields from the file, by which bytes of the file become pointers to objects.
    """

    dtype: np.dtype[Any]

    def __new__(cls, code: Any = "", *ignored: Any) -> "PlainKind":
        """From `dtype`'s own arguments.

        Raises:
            UnpicklingError: a type with fields, or none at all.
        """
        made = super().__new__(cls)
        if not isinstance(code, str) or not re.fullmatch("[biufcmMSUO][0-9]{0,9}", code):
            raise pickle.UnpicklingError(f"numpy values of type {str(code)[:40]!r} are not read")
        made.dtype = np.dtype(code)
        return made

    def __setstate__(self, state: Any) -> None:
        """The order of the bytes alone is taken."""
        if state[1] in (">", "<"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PlainArray(np.ndarray):
    """A numpy array of such values: empty at first, as numpy's `_reconstruct` makes it, then filled by its state."""

    def __new__(cls, *ignored: Any) -> "PlainArray":
        """An empty one; the file's word on it comes later."""
        return super().__new__(cls, 0)

    def __setstate__(self, state: Any) -> None:
        """Version, shape, dtype, order and content, as numpy's own.

        Raises:
            UnpicklingError: another number of objects than the shape says, which numpy does not count.
        """
        version, shape, kind, fortran, content = state
        dtype = _dtype(kind)
        if dtype.hasobject and len(content) != math.prod(shape):
            raise pickle.UnpicklingError("a numpy array with another number of objects than its shape says")
        super().__setstate__((version, shape, dtype, fortran, content))


class PlainScalar:
    """A numpy number or text."""

    def __new__(cls, kind: Any, content: Any = b"") -> Any:
        """From the arguments of numpy's `scalar`."""
        if _dtype(kind).hasobject:
            return content
        array = PlainArray()
        array.__setstate__((1, (), kind, False, content))
        return array[()]

    def __setstate__(self, state: Any) -> None:
        pass


def _dtype(kind: Any) -> Any:
    if not isinstance(kind, PlainKind):
        raise pickle.UnpicklingError("a numpy array without a type")
    return kind.dtype


def numpy_globals() -> dict[str, Any]:
    """What numpy's arrays, scalars and types are pickled as: plain values alone. Numpy 2 moved two of the functions."""
    found: dict[str, Any] = {"numpy.ndarray": PlainArray, "numpy.dtype": PlainKind}
    for home in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found |= {f"{home}._reconstruct": PlainArray, f"{home}.scalar": PlainScalar}
    # Without arguments it is the content of an empty array in protocol 2.
    return found | {"builtins.bytes": bytes}


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

    No functions written in Python, and no class without `__setstate__`: a pickle could set attributes on them.
    """
    from collections import OrderedDict

    # Protocol 2 writes bytes as text to be encoded in latin1: bytes(text, "latin1").
    plain: dict[str, Any] = {"builtins.tuple": tuple, "_codecs.encode": bytes, "collections.OrderedDict": OrderedDict}
    return numpy_globals() | plain
