"""Reading other publishers' checkpoint files without running code: PyTorch's (zip and older format) and Paddle's.

Sizes are checked before memory is allocated, types before values are used: what a file makes in memory is at most a few
times as large as the file.
"""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from crisscross.checkpoints.safe_pickle import Refused, pickle_globals, scan, torch_globals
from crisscross.errors import CrissCrossError

# First bytes of files that are certainly no checkpoint, and what to tell their owner.
OTHER_KINDS = (
    (rb"\Z", "an empty file; the download failed: fetch it again"),
    (rb"\s*<(!doctype|html|\?xml|head)", "an HTML page, not a checkpoint; the download failed: fetch it again"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ", "a compressed archive; unpack it and give the file within"),
    (rb"[\t\n\r -~]{64}|[\t\n\r -~]+$", "text, not a checkpoint; the download failed: fetch it again"),
)
# Suffixes of what `crisscross export` writes.
EXPORTED = (".onnx", ".xml", ".pt2")
# How many bytes of a file are enough to tell.
HEAD = 512
# The number that files of torch.save before 1.6 begin with, pickled.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
ELSEWHERE = "convert it to .safetensors where it came from"
# The pickles of such a file: a number, a version, a description of the system, the values and the names of storages.
LEGACY_PICKLES = 5
# A checkpoint, which may name a tensor more than once, may be so many times as large as its file, plus so many bytes.
TIMES, BYTES = 8, 16 << 20
# What wrappers for training put before the names of the tensors.
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")


class Content(NamedTuple):
    """Named tensors of a file, and its metadata (MMSegmentation's `meta`)."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def read_content(path: str | os.PathLike[str]) -> Content:
    """Tensors and metadata of a `.pth`, `.pt` or `.pdparams` file.

    Raises:
        CrissCrossError: not a checkpoint (the message says what it is), truncated, without tensors, or it uses
            something that could run code (the message names it).
    """
    path = Path(path)
    content = unwrap(_read(path))
    if not content.tensors:
        raise CrissCrossError(f"{path}: holds no tensors")
    _check_total(path, (value.numel() * value.element_size() for value in content.tensors.values()))
    return content


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of `read_content`, with the same errors."""
    return read_content(path).tensors


def unwrap(content: Any) -> Content:
    """The named tensors of a checkpoint, without the wrappers of training: `state_dict`, `model`, `module.`."""
    whole = _plain(content)
    inner = next((whole[key] for key in ("state_dict", "model") if isinstance(whole.get(key), Mapping)), whole)
    tensors = {
        # A tensor of a file may have attributes that replace its methods; a detached one has none.
        WRAPPERS.sub("", key): Tensor.detach(value)
        for key, value in _plain(inner).items()
        if type(value) in (Tensor, torch.nn.Parameter)
    }
    return Content(tensors, _plain(whole.get("meta")))


def _plain(content: Any) -> dict[str, Any]:
    """The entries of a mapping whose key is a text; a mapping of a file may have replaced its methods."""
    if not isinstance(content, Mapping):
        return {}
    entries = dict.items(content) if isinstance(content, dict) else content.items()
    return {str(key): value for key, value in entries if isinstance(key, str)}


def _check_total(path: Path, sizes: Iterable[int]) -> None:
    if (total := sum(sizes)) > TIMES * path.stat().st_size + BYTES:
        raise CrissCrossError(
            f"{path}: refused: its tensors take {total:,} bytes, the file has {path.stat().st_size:,}; {ELSEWHERE}"
        )


def head_of(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        CrissCrossError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise CrissCrossError(f"{path}: cannot be read: {error.strerror or error}") from None


def other_kind(head: bytes) -> str | None:
    """What a file that begins with these bytes is, if it is certainly no checkpoint of any kind."""
    return next((what for first, what in OTHER_KINDS if re.match(first, head, re.IGNORECASE)), None)


def _read(path: Path) -> Any:
    head = head_of(path)
    if path.suffix.lower() in EXPORTED:
        raise CrissCrossError(
            f"{path}: an exported network; its weights are needed: give the run, weights file or name that it was "
            "exported from"
        )
    if what := other_kind(head):
        raise CrissCrossError(f"{path}: {what}")
    # Eight bytes of length, then JSON.
    if head[7:10] == b'\x00{"':
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
    except Refused as error:
        raise CrissCrossError(f"{path}: refused: {error}; {ELSEWHERE}") from None
    # A damaged file can raise any exception.
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise CrissCrossError(f"{path}: not a readable checkpoint (truncated or of another kind): {reason}") from None


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            # PyTorch does not compress: no part is larger than its space in the file.
            if any(entry.file_size > entry.compress_size for entry in entries):
                raise Refused("its parts are compressed, which checkpoints are not")
            _check_total(path, (entry.file_size for entry in entries))
            for entry in entries:
                # Some readers ignore case.
                if entry.filename.lower().endswith("data.pkl"):
                    scan(io.BytesIO(archive.read(entry)))
    except (zipfile.BadZipFile, OSError):
        raise CrissCrossError(f"{path}: truncated: the end of the file is missing; fetch it again") from None
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        raise CrissCrossError(f"{path}: refused: a TorchScript archive, which holds code; save its state_dict instead")
    if "data.pkl" not in inner:
        some = ", ".join(names[:3]) or "nothing"
        raise CrissCrossError(f"{path}: a zip file (with {some}), not a checkpoint")


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(torch_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise Refused(_reason(str(error))) from None


def _reason(message: str) -> str:
    """Why torch refused the file, from its long message."""
    if found := re.search(r"GLOBAL (\S+) (was not|whose)", message):
        name = found[1] if "." in found[1] else f"builtins.{found[1]}"
        return f"it holds {name}, which could run code"
    detail = message.rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    return f"it is not a checkpoint of tensors ({' '.join(detail.split())[:120]})"


class _ArrayReader(pickle.Unpickler):
    """Makes numpy arrays and containers, and refuses every other name."""

    allowed = pickle_globals()

    def find_class(self, module: str, name: str) -> Any:
        """The allowed object of that name.

        Raises:
            Refused: there is none.
        """
        # Protocol 2 uses Python 2's name of the module.
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if full not in self.allowed:
            raise Refused(f"it holds {full}, which could run code")
        return self.allowed[full]


def _read_pickle(path: Path) -> dict[str, Any]:
    """A plain pickle of names to arrays, or to (name, array), as PaddlePaddle saves state dicts."""
    with path.open("rb") as file:
        entries = _plain(_ArrayReader(file, encoding="latin1").load())
    _check_total(path, (value.nbytes for value in map(_array, entries.values()) if value is not None))
    return {key: _as_tensor(path, key, value) for key, value in entries.items()}


def _array(value: Any) -> np.ndarray | None:
    array = value[1] if isinstance(value, tuple) and len(value) == 2 else value
    return array if isinstance(array, np.ndarray) else None


def _as_tensor(path: Path, key: str, value: Any) -> Any:
    if (array := _array(value)) is None:
        return value
    if array.dtype.kind not in "fi" or array.dtype.itemsize > 8:
        raise CrissCrossError(f"{path}: {key} holds values of type {array.dtype}, which no network has")
    return torch.from_numpy(np.array(array))
