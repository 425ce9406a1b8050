"""Our own files: safetensors whose header carries the experiment and the scores as JSON."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crisscross.config import Experiment, from_dict, to_dict
from crisscross.errors import CrissCrossError
from crisscross.files import write_atomically
from crisscross.models import Segmenter

FORMAT = "crisscross-1"
# Tensors under this prefix belong to the optimiser, in a file that training can resume from.
OPTIMISER = "optimiser/"


def save(
    segmenter: Segmenter,
    path: str | os.PathLike[str],
    dtype: torch.dtype | None = None,
    facts: dict[str, Any] | None = None,
    extra: dict[str, Tensor] | None = None,
) -> None:
    """Write weights and experiment to one safetensors file, atomically.

    Args:
        segmenter: the network to store.
        path: the file to write.
        dtype: store floating-point tensors in this type (e.g. torch.float16); none keeps theirs.
        facts: JSON values to keep beside the experiment (scores, iteration, ...).
        extra: more tensors, e.g. optimiser state.

    Raises:
        CrissCrossError: the file cannot be written, or the network is a copy made by `crisscross.optimize`.
    """
    from safetensors.torch import save_file

    if segmenter.rewritten:
        raise CrissCrossError(f"{path}: a network made by crisscross.optimize is for inference; save the original")
    tensors = {
        key: (value.to(dtype) if dtype and value.is_floating_point() else value).detach().cpu().contiguous().clone()
        for key, value in segmenter.state_dict().items()
    }
    tensors |= {key: value.detach().cpu().contiguous().clone() for key, value in (extra or {}).items()}
    header = {
        "format": FORMAT,
        "experiment": json.dumps(to_dict(segmenter.experiment)),
        "facts": json.dumps(facts or {}),
    }
    write_atomically(path, lambda temporary: _save_file(save_file, tensors, temporary, header))


def _save_file(save_file: Any, tensors: dict[str, Tensor], path: Path, header: dict[str, str]) -> None:
    from safetensors import SafetensorError

    try:
        save_file(tensors, path, header)
    except SafetensorError as error:
        # safetensors wraps "no space left" and "read-only" in its own error.
        raise OSError(str(error)) from error


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Experiment | None, dict[str, Any]]:
    """Tensors, experiment and facts of a safetensors file; the experiment is None in a file that is not ours.

    Raises:
        CrissCrossError: missing, truncated or not a safetensors file.
    """
    with _opened(path) as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dictionary
    return (tensors, *read_header(path))


def read_header(path: str | os.PathLike[str]) -> tuple[Experiment | None, dict[str, Any]]:
    """Experiment and facts of a safetensors file without its tensors, as in `read`.

    Raises:
        CrissCrossError: missing, truncated or not a safetensors file.
    """
    with _opened(path) as file:
        header = file.metadata() or {}
    if "experiment" not in header:
        return None, {}
    if header.get("format") != FORMAT:
        raise CrissCrossError(f"{path}: written by another version ({header.get('format')}); this one reads {FORMAT}")
    try:
        return from_dict(Experiment, json.loads(header["experiment"])), json.loads(header.get("facts", "{}"))
    except (CrissCrossError, ValueError) as error:
        raise CrissCrossError(f"{path}: {error}") from error


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CrissCrossError(
            f"{path}: not a readable safetensors file (truncated or of another kind): {reason}"
        ) from error


def fill(segmenter: Segmenter, tensors: dict[str, Tensor], source: str) -> None:
    """Load our own names into a network; everything must fit.

    Raises:
        CrissCrossError: the first tensor that is missing, left over or of another shape, with its file.
    """
    needed = segmenter.state_dict()
    given = {key: value for key, value in tensors.items() if not key.startswith(OPTIMISER)}
    for key, value in needed.items():
        if key not in given:
            raise CrissCrossError(f"{source}: {key} is missing; the file does not fit this configuration")
        if given[key].shape != value.shape:
            raise CrissCrossError(
                f"{source}: {key} has shape {list(given[key].shape)}, this configuration needs {list(value.shape)}"
                + _class_hint(key, given[key], value)
            )
    if left_over := [key for key in given if key not in needed]:
        raise CrissCrossError(
            f"{source}: {left_over[0]} has no place in this configuration ({len(left_over)} such tensors)"
        )
    segmenter.load_state_dict(given)


def _class_hint(key: str, given: Tensor, needed: Tensor) -> str:
    if ".classify." not in key:
        return ""
    return f" (the file has {given.shape[0]} classes, the configuration {needed.shape[0]})"
