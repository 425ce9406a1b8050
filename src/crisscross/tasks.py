"""Tasks by name, and the networks of all of them."""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crisscross import zoo
from crisscross.config import Experiment, ModelConfig, from_dict, hint, import_attribute, to_dict
from crisscross.config.parse import SEGMENTATION, flatten, load_tree, parse_words, read_tree, task_of
from crisscross.deploy import exported_files, exported_kind, open_exported
from crisscross.engine.task import Task
from crisscross.errors import CrissCrossError, shown, shown_name
from crisscross.inference import Predictor, predictor_of

if TYPE_CHECKING:
    # Exported files are opened where torch is not installed.
    from torch import Tensor, nn

# What `task` is in an experiment -> the class that implements it; anything else is `package.module:Class`.
TASKS = {
    SEGMENTATION: "crisscross.engine.semantic.task:SemanticSegmentation",
    "instances": "crisscross.instances.task:InstanceSegmentation",
}
# The methods of a task that have no default.
REQUIRED = ("open", "settle", "build", "samples", "losses", "evaluate", "predictor")
Source = str | os.PathLike[str] | Mapping[str, "Tensor"]


class Recipe(NamedTuple):
    """A task, an experiment of its kind, the dotted keys that the user has set, and lines to show."""

    task: Task
    experiment: Any
    chosen: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def task(name: str) -> Task:
    """The task that an experiment names; `package.module:Class` is imported, which runs its code.

    Raises:
        CrissCrossError: there is no such task.
    """
    if name in TASKS:
        module, _, attribute = TASKS[name].partition(":")
        return getattr(import_module(module), attribute)()
    if ":" not in name:
        raise CrissCrossError(f"no task {shown_name(name)}; {hint(name, [*TASKS, 'package.module:Class'])}")
    found = import_attribute(name, "task")
    if problem := _missing(found, name):
        raise CrissCrossError(f"task {shown_name(name)}: {problem}")
    return found()


def _missing(found: Any, name: str) -> str:
    """What a class that was imported as `name` lacks to be a task, or ""."""
    if Task not in getattr(found, "__mro__", ()):
        return "must be a class with crisscross.engine.task.Task as its base"
    for method in REQUIRED:
        if not callable(own := getattr(found, method)) or own is getattr(Task, method):
            return f"must define the method `{method}`"
    for attribute in ("name", "title", "experiment", "columns"):
        if not hasattr(found, attribute):
            return f"must define the attribute `{attribute}`"
    kind = found.experiment
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return f"`experiment` must be a dataclass, got {shown(kind)}"
    defaults = {entry.name: entry.default for entry in fields(kind)}
    if lacking := [key for key in ("task", "name", "data", "optim", "train") if key not in defaults]:
        return f"`experiment` must have the field `{lacking[0]}`"
    said = {"`name`": found.name, "the default of `experiment.task`": defaults["task"]}
    return next((f"{what} must be {name!r}, got {shown(value)}" for what, value in said.items() if value != name), "")


def recipe(source: str | os.PathLike[str] | Any, changes: Iterable[str] | Mapping[str, Any] = ()) -> Recipe:
    """The experiment of a zoo name or a YAML file, or the one that is given, with changes.

    Another backbone brings the mean and std that timm states for it, unless the file or the changes name these. Where
    changes shorten the training of a recipe, its warm-up ends after a tenth of it, unless they name that.

    Args:
        source: a name, a file, or an experiment of any task.
        changes: `section.key=value` words, or values by their last name or in full, as `load` takes them.

    Raises:
        CrissCrossError: there is no such recipe, file or task, or an invalid value.
    """
    found, before, written = _read_recipe(source)
    from crisscross.checkpoints.loading import full_keys
    from crisscross.models.other_backbone import with_changes, with_own_values

    given = full_keys(before, changes) if isinstance(changes, Mapping) else parse_words(changes)
    # In a file or an experiment the warm-up is the user's own.
    from_zoo = not written and not is_dataclass(source)
    shorter = _shorter_warmup(before, flatten(given)) if from_zoo else {}
    experiment, lines = with_changes(before, {**given, **shorter})
    chosen = (*flatten(given), *written)
    if not lines and isinstance(experiment, Experiment) and "model.backbone" in written:
        experiment, lines = with_own_values(experiment, ModelConfig.backbone, chosen)
    warmup = (f"{key}: {value}, a tenth of the iterations" for key, value in shorter.items())
    return Recipe(found, experiment, chosen, (*lines, *warmup))


def _shorter_warmup(experiment: Any, changes: Mapping[str, Any]) -> dict[str, int]:
    """The value of `optim.warmup` that goes with another number of iterations, if it needs one."""
    iterations, warmup = changes.get("train.iterations"), getattr(experiment.optim, "warmup", 0)
    if "optim.warmup" in changes or type(iterations) is not int or warmup <= iterations // 10 or iterations < 1:
        return {}
    return {"optim.warmup": iterations // 10}


def _read_recipe(source: Any) -> tuple[Task, Any, tuple[str, ...]]:
    """The task and the experiment that `recipe` takes, and the dotted keys that a YAML file names."""
    if is_dataclass(source) and not isinstance(source, type):
        return task(task_of(to_dict(source))), source, ()
    if not isinstance(source, str | os.PathLike):
        raise CrissCrossError(
            f"a recipe must be a name from the zoo, a YAML file or an experiment, got {shown(source)}"
        )
    name = os.fspath(source)
    if name.endswith((".yaml", ".yml")) or Path(name).is_file():
        tree = read_tree(name)
        found = task(task_of(tree))
        return found, load_tree(name, found.experiment), tuple(flatten(tree))
    row = zoo.row(name)
    found = task(task_of(row))
    return found, from_dict(found.experiment, row), ()


def task_of_network(
    source: Source, weights: str | os.PathLike[str] | None = None, trust: str | os.PathLike[str] | None = None
) -> Task:
    """What a network does, from its name or the header of its file; the arguments are those of `load`.

    Raises:
        CrissCrossError: no name or path at all, an unreadable file, or one that asks to run code and lies outside
            of the folder `trust`.
    """
    if isinstance(source, Mapping) or exported_kind(source):
        return task(SEGMENTATION)
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        raise CrissCrossError(f"a network must be a name, a path or a state dict, got {shown(source)}")
    path, name = Path(source), os.fspath(source)
    try:
        path.exists()
    except OSError as error:
        raise CrissCrossError(f"{shown_name(name)}: {error.strerror}") from None
    if weights is None and path.is_dir() and not any(path.glob("*.safetensors")) and (files := exported_files(path)):
        raise CrissCrossError(f"{path}: a folder with an exported network: give its file, {files[0]}")
    from crisscross.checkpoints import native
    from crisscross.checkpoints.loading import is_inside

    inside = path / native.HUB_WEIGHTS
    if weights is None and (path.is_dir() or path.suffix == ".safetensors"):
        path = inside if inside.is_file() else native.run_weights(path)
        stored = native.stored_task(path) if path.is_file() else SEGMENTATION
        if stored not in TASKS and (trust is None or not is_inside(path, Path(trust))):
            folder = path.parent
            raise CrissCrossError(
                f"{path}: refused: it asks to run code, task={shown_name(stored)}; if you trust it, and all that is in "
                f"{folder}, add --trust {folder} (in Python trust={str(folder)!r})"
            )
        return task(stored)
    return task(task_of(zoo.INSTANCE_RECIPES.get(name)))


def task_of_data(layout: str) -> Task | None:
    """The task whose `check` looks through data sets of a layout; None for those of semantic segmentation."""
    return next((found for found in map(task, TASKS) if layout in found.layouts), None)


def load(
    source: Source,
    device: str = "cpu",
    *,
    weights: str | os.PathLike[str] | None = None,
    offline: bool = False,
    trust: str | os.PathLike[str] | None = None,
    **overrides: Any,
) -> "nn.Module":
    """A network of any task with its weights, in evaluation mode.

    Args:
        source: a name from the zoo, a run folder, a weights file or a state dict; for semantic segmentation see
            `crisscross.checkpoints.load`, for instances `crisscross.instances.weights.load_instances`.
        device: where to put it.
        weights: a file with the weights for `source`, which is a name from the zoo then.
        offline: download nothing; so does `CRISSCROSS_OFFLINE=1`.
        trust: a folder whose weights may run code.
        overrides: configuration values by their last name (`recurrence=1`) or in full through a dictionary
            (`**{"model.head.recurrence": 1}`).

    Returns:
        A `crisscross.Segmenter`, a `crisscross.InstanceSegmenter`, or the network of a task of your own.

    Raises:
        CrissCrossError: nothing of that name, an unreadable file, a download that fails, weights that do not fit or are
            not finite.
    """
    if kind := exported_kind(source):
        raise CrissCrossError(f"{source}: an exported network ({kind}); crisscross.predictor opens it")
    found = task_of_network(source, weights, trust)
    return found.load(source, device, weights=weights, offline=offline, trust=trust, **overrides)


def predictor(source: "Source | nn.Module | Predictor", device: str = "cpu", **options: Any) -> Predictor:
    """The predictor, which labels images and videos, of a network that labels pixels.

    Args:
        source: a network, which stays on its device; an exported file (`.onnx`, `.xml`, `.pt2`), which its runtime
            runs, without torch; or whatever `load` takes.
        device: where to put a network that is loaded.
        options: as in `load`; of an exported file `card`, a JSON file, where it does not carry its own.

    Raises:
        CrissCrossError: as in `load`, or the network does not label pixels.
    """
    if isinstance(source, Predictor) or is_module(source):
        return predictor_of(source)
    found: Any = source
    if exported_kind(found):
        return open_exported(found, **options)
    names = ("weights", "trust")
    of_task = task_of_network(found, **{name: options[name] for name in names if name in options})
    refuse(of_task, {}, "crisscross.predictor", shown_name(found) if isinstance(found, str | os.PathLike) else "it")
    return predictor_of(load(found, device, **options))


def is_module(source: Any) -> bool:
    """Whether it is a network of torch, which is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.nn.Module)


def refuse(found: Task, options: Mapping[str, Any], command: str = "", source: str = "") -> None:
    """Refuse the first option that was given, or the command on the network `source`, that a task does not support.

    Raises:
        CrissCrossError: with the task's reason.
    """
    if command in found.refuses:
        raise CrissCrossError(f"{source} is of the task {found.name}; {command} {found.refuses[command]}")
    for name, reason in found.refuses.items():
        value = options.get(name)
        if value is not None and value is not False and value != "":
            raise CrissCrossError(f"--{name.replace('_', '-')} {reason}")
