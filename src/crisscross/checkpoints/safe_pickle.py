"""Pickles from outside: what they ask for before anything is made of them, and the only names that they may use."""

import math
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

# Levels of nested values; checkpoints have about ten. Far deeper ones overflow the interpreter's stack.
DEPTH = 100
# Allocates as many bytes as a number in the file says.
REFUSED = ("builtins bytearray", "__builtin__ bytearray")
# Instructions whose arguments all become parts of a new value; in others the first one takes in the rest.
_CONTAINERS = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "DICT", "FROZENSET")
_MARK = -1


class Refused(Exception):
    """A file that uses something that no checkpoint needs; the message says what."""


def scan(stream: BinaryIO) -> None:
    """Read one pickle to its end without executing it.

    Raises:
        Refused: values nested more than `DEPTH` deep, a memo index beyond what the pickle can fill (the unpickler
            allocates that much memory), or a `bytearray`.
        Exception: whatever else `pickletools` finds wrong.
    """
    # The depth of nesting of every value on the unpickler's stack and in its memo.
    stack: list[int] = []
    memo: dict[int, int] = {}
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        name = operation.name
        if name in ("GLOBAL", "INST") and argument in REFUSED:
            raise Refused("it holds builtins.bytearray, which is not part of a checkpoint of tensors")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(memo) if argument is None else int(argument)
            if index > count:
                raise Refused(f"it wants a memo of {index} entries for its {count} instructions")
            memo[index] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            taken = list(_taken(operation, stack))
            if name in _CONTAINERS:
                depth = 1 + max(taken, default=0)
            else:
                *parts, whole = taken or [0]
                depth = max(whole, 1 + max(parts, default=-1))
            stack += [depth] * len(operation.stack_after)
        if stack and stack[-1] > DEPTH:
            raise Refused(f"its values are nested more than {DEPTH} deep")


def _taken(operation: pickletools.OpcodeInfo, stack: list[int]) -> Iterator[int]:
    """Pop the depths of an instruction's arguments, the last one first."""
    below = len(operation.stack_before)
    if pickletools.markobject in operation.stack_before:
        below = operation.stack_before.index(pickletools.markobject)
        while (depth := stack.pop()) != _MARK:
            yield depth
    elif operation.name == "POP" and stack[-1] == _MARK:
        stack.pop()
        return
    for _ in range(below):
        yield stack.pop()


def torch_globals() -> list[Any]:
    """For `torch.serialization.safe_globals`, in addition to what torch itself allows.

    MMEngine's training checkpoints hold `HistoryBuffer`s (the log of losses) and, in metadata, `ConfigDict`s; scripts
    with argparse keep their options beside the weights.
    """
    inert = ("mmengine.logging.history_buffer.HistoryBuffer", "argparse.Namespace")
    paths = ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    found = numpy_globals() | dict.fromkeys(inert, Inert)
    found |= {"mmengine.config.config.ConfigDict": dict, "builtins.getattr": _attribute}
    found |= {f"{module}.{name}": _path_text for module in ("pathlib", "pathlib._local") for name in paths}
    return [(value, name) for name, value in found.items()]


def pickle_globals() -> dict[str, Any]:
    """For plain pickles of numpy arrays, as Paddle writes them, in any protocol.

    No functions written in Python, and no class without `__setstate__`: a pickle could set attributes on them.
    """
    # Protocol 2 writes bytes as text to be encoded in latin1: bytes(text, "latin1").
    plain: dict[str, Any] = {"builtins.tuple": tuple, "_codecs.encode": bytes, "collections.OrderedDict": OrderedDict}
    return numpy_globals() | plain


def numpy_globals() -> dict[str, Any]:
    """What numpy pickles arrays, scalars and types as: plain values only. Numpy 2 moved two of the functions."""
    found: dict[str, Any] = {"numpy.ndarray": PlainArray, "numpy.dtype": PlainKind}
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        found |= {f"{module}._reconstruct": PlainArray, f"{module}.scalar": PlainScalar}
    # Without arguments it is the content of an empty array in protocol 2.
    return found | {"builtins.bytes": bytes}


class Inert:
    """Stands in for an object of a training script (a log, the options of a command); accepts and drops any state."""

    def __new__(cls, *ignored: Any, **also_ignored: Any) -> "Inert":
        """Accept any arguments."""
        return super().__new__(cls)

    def __init__(self, *ignored: Any, **also_ignored: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _attribute(owner: Any, name: str) -> None:
    """getattr of stand-ins only: MMEngine pickles methods of its log as `getattr(HistoryBuffer, "mean")`.

    Raises:
        UnpicklingError: for anything else, in the words that torch uses for what is not allowed.
    """
    if owner is not Inert and not isinstance(owner, Inert):
        raise pickle.UnpicklingError("Unsupported global: GLOBAL getattr was not an allowed global")


def _path_text(*parts: Any) -> str:
    """A path as text: a Windows path cannot be created on other systems."""
    return "/".join(map(str, parts))


class PlainKind:
    """A numpy dtype of plain values, made anew from its code.

    numpy's own dtype takes flags and fields from the file, which can turn bytes of the file into object pointers.
    """

    dtype: np.dtype[Any]

    def __new__(cls, code: Any = "", *ignored: Any) -> "PlainKind":
        """From the arguments of `numpy.dtype`.

        Raises:
            UnpicklingError: a type with fields, or no type at all.
        """
        made = super().__new__(cls)
        if not isinstance(code, str) or not re.fullmatch("[biufcmMSUO][0-9]{0,9}", code):
            raise pickle.UnpicklingError(f"numpy values of type {str(code)[:40]!r} are not read")
        made.dtype = np.dtype(code)
        return made

    def __setstate__(self, state: Any) -> None:
        """Take only the byte order."""
        if state[1] in (">", "<"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PlainArray(np.ndarray):
    """A numpy array of such values: empty at first, as numpy's `_reconstruct` makes it, then filled by its state."""

    def __new__(cls, *ignored: Any) -> "PlainArray":
        """An empty array, whatever the arguments say."""
        return super().__new__(cls, 0)

    def __setstate__(self, state: Any) -> None:
        """Version, shape, dtype, order and content, as numpy's own.

        Raises:
            UnpicklingError: the number of objects differs from the shape, which numpy does not check.
        """
        version, shape, kind, fortran, content = state
        dtype = _dtype(kind)
        if dtype.hasobject and len(content) != math.prod(shape):
            raise pickle.UnpicklingError("a numpy array whose number of objects differs from its shape")
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
