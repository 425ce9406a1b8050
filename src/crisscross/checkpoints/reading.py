"""Other publishers' checkpoint files, read without running what they hold: PyTorch's (zip and older) and Paddle's.

Sizes are checked before memory is taken, kinds before values are used: what a file makes is no more than a few times
as large as the file.
"""

import io
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crisscross.checkpoints.allowed import pickle_globals, torch_globals
from crisscross.checkpoints.other_files import HEAD, is_safetensors, stranger
from crisscross.checkpoints.safe_pickle import Excessive, scan
from crisscross.errors import CrissCrossError

# The number that files of torch.save before 1.6 begin with, pickled.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
ELSEWHERE = "convert it to .safetensors where it came from"
# Before the weights of such a file: a number, a version, what wrote it, the values and the names of their contents.
LEGACY_PICKLES = 5
# So many times as large as its file may a checkpoint be, which may name a tensor more than once, and so many bytes.
TIMES, BYTES = 8, 16 << 20
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
    _check_total(path, (value.numel() * value.element_size() for value in content.tensors.values()))
    return content


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors alone of `read_content`, with the same errors."""
    return read_content(path).tensors


def unwrap(content: Any) -> Content:
    """The named tensors of a checkpoint, without the wrappers of training: `state_dict`, `model`, `module.`."""
    whole = _plain(content)
    inner = next((whole[key] for key in ("state_dict", "model") if isinstance(whole.get(key), Mapping)), whole)
    tensors = {
        # A tensor of a file may have attributes in the place of its methods; its share of the memory has none.
        WRAPPERS.sub("", key): Tensor.detach(value)
        for key, value in _plain(inner).items()
        if type(value) in (Tensor, torch.nn.Parameter)
    }
    return Content(tensors, _plain(whole.get("meta")))


def _plain(content: Any) -> dict[str, Any]:
    """The entries of a mapping that have a text as their name; those of a file may pretend to other methods."""
    if not isinstance(content, Mapping):
        return {}
    entries = dict.items(content) if isinstance(content, dict) else content.items()
    return {str(key): value for key, value in entries if isinstance(key, str)}


def _check_total(path: Path, sizes: Iterable[int]) -> None:
    if (total := sum(sizes)) > TIMES * path.stat().st_size + BYTES:
        raise CrissCrossError(
            f"{path}: refused: its tensors take {total:,} bytes, the file has {path.stat().st_size:,}; {ELSEWHERE}"
        )


def _read(path: Path) -> Any:
    head = _head(path)
    if what := stranger(head):
        raise CrissCrossError(f"{path}: {what}")
    if is_safetensors(head):
        raise CrissCrossError(f"{path}: a safetensors file; name it .safetensors")
    try:
        if head.startswith(b"PK"):
            _check_zip(path)
            return _read_torch(path)
        with path.open("rb") as file:
            for _ in range(LEGACY_PICKLES if head.startswith(LEGACY) else 1):
                scan(file)
        return _read_torch(path) if head.startswith(LEGACY) else _read_pickle(path)
    except CrissCrossError:
        raise
    except Excessive as error:
        raise CrissCrossError(f"{path}: refused: {error}; {ELSEWHERE}") from error
    # A damaged file can make the reader fail in any way.
    except Exception as error:
        raise _unreadable(path, error) from error


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise CrissCrossError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            # PyTorch packs nothing, so that no part is larger than its place in the file.
            if any(entry.file_size > entry.compress_size for entry in entries):
                raise CrissCrossError(
                    f"{path}: refused: its parts are compressed, which checkpoints are not; {ELSEWHERE}"
                )
            _check_total(path, (entry.file_size for entry in entries))
            for entry in entries:
                # Readers differ in whether case matters.
                if entry.filename.lower().endswith("data.pkl"):
                    scan(io.BytesIO(archive.read(entry)))
    except (zipfile.BadZipFile, OSError) as error:
        raise CrissCrossError(f"{path}: truncated: the end of the file is missing; fetch it again") from error
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise CrissCrossError(f"{path}: refused: a TorchScript archive, which holds code; save its state_dict instead")
    if "data.pkl" not in inner:
        some = ", ".join(names[:3]) or "nothing"
        raise CrissCrossError(f"{path}: a zip file of something else (it holds {some}), not a checkpoint")


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(torch_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CrissCrossError(f"{path}: refused: {_reason(str(error))}; {ELSEWHERE}") from error


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
    entries = _plain(content)
    _check_total(path, (value.nbytes for value in map(_array, entries.values()) if value is not None))
    return {key: _as_tensor(path, key, value) for key, value in entries.items()}


def _array(value: Any) -> np.ndarray | None:
    array = value[1] if isinstance(value, tuple) and len(value) == 2 else value
    return array if isinstance(array, np.ndarray) else None


def _as_tensor(path: Path, key: str, value: Any) -> Any:
    if (array := _array(value)) is None:
        return value
    if array.dtype.kind not in "fi" or array.dtype.itemsize > 8:
        raise CrissCrossError(f"{path}: {key} holds values of type {array.dtype}, not numbers that a network has")
    return torch.from_numpy(np.array(array))
