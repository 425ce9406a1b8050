"""Our own file format: safetensors with the experiment and facts (scores, ...) as JSON in the header."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from crisscross.checkpoints.reading import head_of, other_kind
from crisscross.checkpoints.writing import TYPES, write_safetensors
from crisscross.config import Experiment, from_dict, to_dict
from crisscross.config.documents import parse_json
from crisscross.config.migrate import migrate
from crisscross.config.parse import task_of
from crisscross.errors import CrissCrossError
from crisscross.files import write_atomically
from crisscross.surgery import inserted_attention

Kind = TypeVar("Kind")
Network = TypeVar("Network", bound=nn.Module)

FORMAT = "crisscross-1"
# Tensors under this prefix belong to the optimizer, in a file that training can resume from.
OPTIMIZER = "optimizer/"
# Only a loss uses it: files without it fit networks with it, and the other way round.
EMBEDDING = "head.embed."
# The weights of a run folder, in order of preference.
RUN_WEIGHTS = ("best.safetensors", "last.safetensors")
# The name of the weights in a folder of the Hugging Face Hub.
HUB_WEIGHTS = "model.safetensors"


def run_weights(path: str | os.PathLike[str]) -> Path:
    """The weights file of a run folder: the best weights, else the last; the path of a file is returned as it is.

    Raises:
        CrissCrossError: the folder has no such weights.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for name in RUN_WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise CrissCrossError(f"{path}: not a run folder: it has neither {' nor '.join(RUN_WEIGHTS)}")


class Misfit(CrissCrossError):
    """Weights that do not fit a network; `missing`, `left_over` and `reshaped` list all tensors, in our names."""

    def __init__(self, message: str, missing: list[str], left_over: list[str], reshaped: list[str]) -> None:
        super().__init__(message)
        self.missing, self.left_over, self.reshaped = missing, left_over, reshaped


def save(
    segmenter: nn.Module,
    path: str | os.PathLike[str],
    dtype: torch.dtype | None = None,
    facts: dict[str, Any] | None = None,
    extra: dict[str, Tensor] | None = None,
) -> None:
    """Write weights and experiment to one safetensors file, atomically.

    Args:
        segmenter: the network to store.
        path: the file to write.
        dtype: store floating-point tensors in this type (e.g. torch.float16); None keeps theirs.
        facts: JSON values to store with the experiment (scores, iteration, ...).
        extra: more tensors, e.g. optimizer state.

    Raises:
        CrissCrossError: the file cannot be written, or the network is a copy made by `crisscross.optimize`.
    """
    tensors = stored_tensors(segmenter, path, dtype)
    tensors |= {key: value.detach().cpu().contiguous().clone() for key, value in (extra or {}).items()}
    header = {
        "format": FORMAT,
        "experiment": json.dumps(to_dict(segmenter.experiment)),
        "facts": json.dumps(facts or {}),
    }
    if odd := [key for key, value in tensors.items() if value.dtype not in TYPES]:
        raise CrissCrossError(f"{path}: {odd[0]} is {tensors[odd[0]].dtype}, which cannot be stored; convert it first")
    write_atomically(path, lambda temporary: write_safetensors(temporary, tensors, header))


def stored_tensors(
    segmenter: nn.Module, path: str | os.PathLike[str], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """The state dict as it is stored: on the CPU, with floating-point tensors in `dtype` if one is given.

    Raises:
        CrissCrossError: a copy made by `crisscross.optimize`, attention inserted by `crisscross.surgery`, or a value
            too large for `dtype`; `path` is named.
    """
    if getattr(segmenter, "rewritten", False):
        raise CrissCrossError(f"{path}: a network made by crisscross.optimize is for inference; save the original")
    described, found = getattr(segmenter, "described_attention", []), inserted_attention(segmenter)
    if places := [place for place, layer in found.items() if not any(layer is one for one in described)]:
        raise CrissCrossError(
            f"{path}: {places[0]} was inserted by crisscross.surgery, which an experiment cannot "
            "describe: save state_dict(), and load it after inserting again"
        )
    if len(found) < len(described):
        raise CrissCrossError(
            f"{path}: attention that the network itself inserts was taken out, which an experiment cannot describe: "
            "save state_dict(), and load it after taking it out again"
        )
    tensors = {}
    for key, value in segmenter.state_dict().items():
        stored = value.to(dtype) if dtype and value.is_floating_point() else value
        if dtype and stored.is_floating_point() and value.isfinite().all() and not stored.isfinite().all():
            raise CrissCrossError(f"{path}: {key} has values too large for {dtype}; store it in its own type")
        tensors[key] = stored.detach().cpu().contiguous().clone()
    return tensors


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Experiment | None, dict[str, Any]]:
    """Tensors, experiment and facts of a safetensors file; the experiment is None if the file is not ours.

    Raises:
        CrissCrossError: missing, truncated or not a safetensors file.
    """
    return (read_tensors(path), *read_header(path))


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of any safetensors file.

    Raises:
        CrissCrossError: missing, truncated or not a safetensors file.
    """
    with _opened(path) as file:
        # Files from before this version begin the optimizer's names with `optimiser/`.
        return {re.sub("^optimiser/", OPTIMIZER, key): file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def read_header(path: str | os.PathLike[str]) -> tuple[Experiment | None, dict[str, Any]]:
    """Experiment and facts of a safetensors file without its tensors, as in `read`.

    Raises:
        CrissCrossError: missing, truncated or not a safetensors file.
    """
    return read_header_as(Experiment, path)


def stored_task(path: str | os.PathLike[str]) -> str:
    """The task of the network in a safetensors file; `segmentation` if the file does not say.

    Raises:
        CrissCrossError: missing, truncated or not a safetensors file.
    """
    with _opened(path) as file:
        header = file.metadata() or {}
    try:
        return task_of(parse_json(header.get("experiment", "{}"), str(path)))
    except CrissCrossError:
        return task_of({})


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The facts of a safetensors file of any task; none where they are missing or damaged.

    Raises:
        CrissCrossError: missing, truncated or not a safetensors file.
    """
    with _opened(path) as file:
        header = file.metadata() or {}
    try:
        facts = parse_json(header.get("facts", "{}"), f"{path}: its facts")
    except CrissCrossError:
        return {}
    return facts if isinstance(facts, dict) else {}


def read_header_as(kind: type[Kind], path: str | os.PathLike[str]) -> tuple[Kind | None, dict[str, Any]]:
    """`read_header` for an experiment of `kind`; one of another task is refused."""
    with _opened(path) as file:
        header = file.metadata() or {}
    if "experiment" not in header:
        return None, {}
    if header.get("format") != FORMAT:
        written = repr(header.get("format"))[:40]
        raise CrissCrossError(f"{path}: written by another version ({written}); this one reads {FORMAT}")
    values = migrate(parse_json(header["experiment"], f"{path}: its experiment"))
    facts = parse_json(header.get("facts", "{}"), f"{path}: its facts")
    try:
        experiment = from_dict(kind, values)
    except CrissCrossError as error:
        raise CrissCrossError(f"{path}: {error}") from None
    if not isinstance(facts, dict):
        raise CrissCrossError(f"{path}: its facts must be a mapping of keys to values, got {str(facts)[:40]}")
    return experiment, facts


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    # A damaged file can raise any exception.
    except Exception as error:
        if Path(path).is_file() and (what := other_kind(head_of(Path(path)))):
            raise CrissCrossError(f"{path}: {what}") from None
        reason = " ".join(str(error).split())
        raise CrissCrossError(
            f"{path}: not a readable safetensors file (truncated or of another kind): {reason}"
        ) from None


def fill(segmenter: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load tensors with our own names into a network; everything must fit.

    Only the embedding of the category-consistent loss may be missing, left over or of another width; the network then
    keeps its own.

    Raises:
        Misfit: tensors are missing, left over or of another shape; the message names the first, with its file.
    """
    segmenter.load_state_dict(fitting(segmenter.state_dict(), tensors, source))


def fitting(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors that `fill` loads into a network with the state dict `own`; only shapes are compared.

    Raises:
        Misfit: as in `fill`.
    """
    given = {key: value for key, value in tensors.items() if not key.startswith(OPTIMIZER)}
    loose = {key for key in {*own, *given} if key.startswith(EMBEDDING) and not _same_shape(key, own, given)}
    needed, given = ({key: value for key, value in side.items() if key not in loose} for side in (own, given))
    missing = [key for key in needed if key not in given]
    left_over = [key for key in given if key not in needed]
    reshaped = [key for key in needed if key in given and given[key].shape != needed[key].shape]
    if problem := _first_problem(needed, given, missing, left_over, reshaped):
        raise Misfit(f"{source}: {problem}", missing, left_over, reshaped)
    return given | {key: value for key, value in own.items() if key in loose}


def placed(network: Network, device: str) -> Network:
    """The network on a device, in evaluation mode.

    Raises:
        CrissCrossError: the device does not exist.
    """
    try:
        return network.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise CrissCrossError(f"device {device!r}: {str(error).splitlines()[0]}") from None


def _same_shape(key: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> bool:
    return key in own and key in given and own[key].shape == given[key].shape


def _first_problem(
    needed: dict[str, Tensor], given: dict[str, Tensor], missing: list[str], left_over: list[str], reshaped: list[str]
) -> str | None:
    if reshaped:
        # A different number of classes is the most helpful explanation.
        classes = [key for key in reshaped if ".classify" in key and len(given[key]) != len(needed[key])]
        key = (classes or reshaped)[0]
        shapes = f"{list(given[key].shape)}, this configuration needs {list(needed[key].shape)}"
        hint = f" (the file has {len(given[key])} classes, the configuration {len(needed[key])})" if classes else ""
        return f"{key} has shape {shapes}{hint}"
    if missing:
        more = f" ({len(missing)} of {len(needed)} tensors are)" if len(missing) > 1 else ""
        return f"{missing[0]} is missing; the file does not fit this configuration{more}"
    if left_over:
        return f"{left_over[0]} does not belong to this configuration ({len(left_over)} such tensors)"
    return None


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are not finite numbers.

    Raises:
        CrissCrossError: a value is NaN or infinite, or a tensor does not hold plain numbers; the first one is named.
    """
    for key, value in tensors.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_complex():
            raise CrissCrossError(
                f"{source}: {key} is sparse, quantized, complex or without content, not plain numbers"
            )
        if value.dtype not in TYPES:
            raise CrissCrossError(f"{source}: {key} holds {value.dtype}, not plain numbers")
        if not key.startswith(OPTIMIZER) and value.is_floating_point() and not value.isfinite().all():
            raise CrissCrossError(
                f"{source}: {key} holds NaN or infinity: the training diverged, or the file is damaged"
            )
