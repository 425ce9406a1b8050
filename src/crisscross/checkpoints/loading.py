"""One door: a name, a run folder, a file or a state dict in, a ready network out."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from crisscross import zoo
from crisscross.checkpoints import mmseg, native
from crisscross.config import Experiment, apply_overrides
from crisscross.config.parse import flatten
from crisscross.data.palette import default_palette
from crisscross.errors import CrissCrossError
from crisscross.models import Segmenter

Source = str | os.PathLike[str] | Mapping[str, Tensor]


def load(source: Source, device: str = "cpu", **overrides: Any) -> Segmenter:
    """A network with its weights, in evaluation mode.

    Args:
        source: a name from the zoo that ships with weights (`camvid-light`), a run folder (its best weights, else the
            last), a `.safetensors` or `.pth` file (ours or MMSegmentation's CCNet), or such a state dict.
        device: where to put it.
        overrides: configuration values by their last name (`recurrence=1`, `align_corners=True`,
            `classes=[...]`) or in full through a dictionary (`**{"model.recurrence": 1}`).

    Raises:
        CrissCrossError: nothing of that name, an unreadable file, weights that do not fit.
    """
    tensors, experiment, name = _read(source)
    experiment = _with_overrides(experiment, overrides)
    segmenter = Segmenter(experiment, initialise=False)
    native.fill(segmenter, tensors, name)
    return segmenter.to(device).eval()


def build(source: str | Experiment, **overrides: Any) -> Segmenter:
    """A freshly initialised network from a zoo name or an experiment, in training mode; overrides as in `load`.

    Raises:
        CrissCrossError: no such recipe, or a configuration that cannot be built.
    """
    experiment = zoo.recipe(source) if isinstance(source, str) else source
    return Segmenter(_with_overrides(experiment, overrides))


def weights_file(source: str | os.PathLike[str]) -> Path:
    """The weights that a zoo name, a run folder or a file stands for.

    Raises:
        CrissCrossError: there are none; the message says what was looked for.
    """
    path = Path(source)
    if path.is_dir():
        for name in ("best.safetensors", "last.safetensors"):
            if (path / name).is_file():
                return path / name
        raise CrissCrossError(f"{path}: not a run folder: neither best.safetensors nor last.safetensors is there")
    if path.is_file():
        return path
    name = os.fspath(source)
    if name in zoo.RECIPES:
        if shipped := zoo.shipped_weights(name):
            return shipped
        raise CrissCrossError(
            f"{name} has no weights in this package; train it with `crisscross train {name} --data DIR`"
        )
    with_weights = ", ".join(recipe for recipe in zoo.RECIPES if zoo.shipped_weights(recipe))
    raise CrissCrossError(f"{name}: no such file or run folder, and no model of that name ({with_weights})")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.pth`/`.pt` file, read without running pickled code.

    Raises:
        CrissCrossError: unreadable or truncated, or it holds more than tensors and plain values.
    """
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it is not a checkpoint, or one that would run code"
        raise CrissCrossError(f"{path}: refused, {reason}; convert it to .safetensors where it came from") from error
    # A damaged file can make the reader fail in any way.
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise CrissCrossError(f"{path}: not a readable checkpoint (truncated or of another kind): {reason}") from error
    tensors = _tensors(content)
    if not tensors:
        raise CrissCrossError(f"{path}: holds no tensors")
    return tensors


def _tensors(content: Any) -> dict[str, Tensor]:
    """The named tensors of a checkpoint, without the wrapper names of data-parallel training."""
    if not isinstance(content, Mapping):
        return {}
    inner = content.get("state_dict", content)
    named = inner.items() if isinstance(inner, Mapping) else ()
    return {str(key).removeprefix("module."): value for key, value in named if isinstance(value, Tensor)}


def _read(source: Source) -> tuple[dict[str, Tensor], Experiment, str]:
    if isinstance(source, Mapping):
        tensors, experiment, name = _tensors(source), None, "state dict"
    else:
        path = weights_file(source)
        name = str(path)
        if path.suffix == ".safetensors":
            tensors, experiment, _ = native.read(path)
        else:
            tensors, experiment = read_state_dict(path), None
    if experiment is not None:
        return tensors, experiment, name
    if mmseg.recognises(tensors):
        return (*mmseg.convert(tensors), name)
    if "head.classify.weight" in tensors:
        raise CrissCrossError(
            f"{name}: our own weights without their experiment; write them with crisscross.save instead"
        )
    some = ", ".join(list(tensors)[:3])
    raise CrissCrossError(f"{name}: weights of no system known here (it holds {some}, ...)")


def _unknown_override(name: str, keys: Iterable[str]) -> str:
    full = {key.rpartition(".")[2]: key for key in keys}
    near = difflib.get_close_matches(name, full, 1, 0.5)
    hint = f"did you mean {full[near[0]]}?" if near else f"known: {', '.join(full)}"
    return f"unknown key {name}; {hint}"


def _with_overrides(experiment: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    if not overrides:
        return experiment
    keys = flatten(experiment)
    changes = {}
    for name, value in overrides.items():
        matches = [key for key in keys if key == name or key.rpartition(".")[2] == name]
        if len(matches) > 1 and name not in keys:
            raise CrissCrossError(f"override {name!r} is ambiguous: {', '.join(matches)}")
        if not matches and "." not in name:
            raise CrissCrossError(_unknown_override(name, keys))
        changes[matches[0] if matches else name] = value
    if "data.classes" in changes and "data.palette" not in changes:
        changes["data.palette"] = [list(colour) for colour in default_palette(len(changes["data.classes"]))]
    if changes.get("model.recurrence") == 0:
        # Asking for no attention in code is explicit enough.
        changes["model.baseline"] = True
    return apply_overrides(experiment, changes)
