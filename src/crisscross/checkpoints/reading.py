"""Other publishers' checkpoint files, read without running what they hold: PyTorch's (zip and older) and Paddle's."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from crisscross.checkpoints.allowed import pickle_globals, torch_globals
from crisscross.checkpoints.strangers import HEAD, is_safetensors, stranger
from crisscross.errors import CrissCrossError

# The number that files of torch.save before 1.6 begin with, pickled.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
ELSEWHERE = "convert it to .safetensors where it came from"
# What wrappers put before the names of the tensors.
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")


class Content(NamedTuple):
    """Named tensors of a file, and what it tells about them (MMSegmentation's `meta`)."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def read_content(path: Path) -> Content:
    """Tensors and metadata of a `.pth`, `.pt` or `.pdparams` file.

    Raises:
        CrissCrossError: not a checkpoint (the message says what it is), truncated, without tensors, or it wants
            something that could run code (the message names it).
    """
    content = unwrap(_read(path))
    if not content.tensors:
        raise CrissCrossError(f"{path}: holds no tensors")
    return content


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors alone of `read_content`, with the same errors."""
    return read_content(path).tensors


def unwrap(content: Any) -> Content:
    """The named tensors of a checkpoint, without the wrappers of training: `state_dict`, `model`, `module.`."""
    if not isinstance(content, Mapping):
        return Content({}, {})
    inner = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), Mapping)), content)
    meta = content.get("meta")
    tensors = {WRAPPERS.sub("", str(key)): value for key, value in inner.items() if isinstance(value, Tensor)}
    return Content(tensors, dict(meta) if isinstance(meta, Mapping) else {})


def _read(path: Path) -> Any:
    head = _head(path)
    if what := stranger(head):
        raise CrissCrossError(f"{path}: {what}")
    if is_safetensors(head):
        raise CrissCrossError(f"{path}: a safetensors file; name it .safetensors")
    if head.startswith(b"PK"):
        _check_zip(path)
    elif not head.startswith(LEGACY) and head.startswith(b"\x80"):
        return _read_pickle(path)
    return _read_torch(path)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise CrissCrossError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise CrissCrossError(f"{path}: truncated: the end of the file is missing; fetch it again") from error
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise CrissCrossError(f"{path}: refused: a TorchScript archive, which holds code; save its state_dict instead")
    if "data.pkl" not in inner:
        some = ", ".join(names[:3]) or "nothing"
        raise CrissCrossError(f"{path}: a zip file of something else (it holds {some}), not a checkpoint")


def _read_torch(path: Path) -> Any:
    import torch

    try:
        with torch.serialization.safe_globals(torch_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CrissCrossError(f"{path}: refused: {_reason(str(error))}; {ELSEWHERE}") from error
    # A damaged file can make the reader fail in any way.
    except Exception as error:
        raise _unreadable(path, error) from error


def _reason(message: str) -> str:
    """Why torch refused, from its long message."""
    if found := re.search(r"GLOBAL (\S+) (was not|whose)", message):
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"
        return f"it holds {name}, which could run code"
    detail = message.rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    return f"it is no checkpoint of tensors ({' '.join(detail.split())[:120]})"


def _unreadable(path: Path, error: Exception) -> CrissCrossError:
    reason = " ".join(str(error).split())[:160]
    return CrissCrossError(f"{path}: not a readable checkpoint (truncated or of another kind): {reason}")


class _Refused(Exception):
    """A pickle named something that is not allowed."""


class _ArrayReader(pickle.Unpickler):
    """Makes numpy arrays and containers; every other name in the file stops it."""

    allowed = pickle_globals()

    def find_class(self, module: str, name: str) -> Any:
        """The allowed object of that name.

        Raises:
            _Refused: there is none.
        """
        # Python 2's name of the module, which protocol 2 keeps.
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full not in self.allowed:
            raise _Refused(full)
        return self.allowed[full]


def _read_pickle(path: Path) -> dict[str, Any]:
    """A plain pickle of names to arrays, or to (name, array), as PaddlePaddle saves state dicts."""
    try:
        with path.open("rb") as file:
            content = _ArrayReader(file, encoding="latin1").load()
    except _Refused as error:
        raise CrissCrossError(f"{path}: refused: it holds {error}, which could run code; {ELSEWHERE}") from error
    # A damaged file can make the reader fail in any way.
    except Exception as error:
        raise _unreadable(path, error) from error
    entries = content.items() if isinstance(content, Mapping) else ()
    return {str(key): _as_tensor(path, str(key), value) for key, value in entries}


def _as_tensor(path: Path, key: str, value: Any) -> Any:
    import numpy as np
    import torch

    array = value[1] if isinstance(value, tuple) and len(value) == 2 else value
    if not isinstance(array, np.ndarray):
        return value
    if array.dtype.kind not in "fi" or array.dtype.itemsize > 8:
        raise CrissCrossError(f"{path}: {key} holds values of type {array.dtype}, not numbers that a network has")
    return torch.from_numpy(np.array(array))
