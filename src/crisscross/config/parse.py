"""Convert experiments from and to plain dictionaries and YAML, and apply `key=value` words to them."""

import dataclasses
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from crisscross.config.documents import parse_yaml, read_yaml
from crisscross.config.heads import HEADS, CCNetConfig, OwnHead, changed_head, kind_of_head
from crisscross.config.migrate import migrate
from crisscross.config.names import hint
from crisscross.config.rules import one_line
from crisscross.config.tree import Experiment
from crisscross.errors import CrissCrossError, shown, shown_name

HEAD = "model.head"
Node = TypeVar("Node")
# The task of an experiment that names none.
SEGMENTATION = "segmentation"


def to_dict(node: Any) -> dict[str, Any]:
    """The tree as nested plain dictionaries and lists, ready for JSON and YAML."""

    def plain(value: Any) -> Any:
        if isinstance(value, OwnHead):
            return {"name": value.name, **{key: plain(setting) for key, setting in value.settings}}
        if dataclasses.is_dataclass(value):
            return {entry.name: plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
        if isinstance(value, tuple):
            return [plain(entry) for entry in value]
        return value

    return plain(node)


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to leaf values."""
    flat: dict[str, Any] = {}
    for key, value in to_dict(node).items() if dataclasses.is_dataclass(node) else node.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(first: Any, second: Any) -> list[str]:
    """Dotted keys whose values differ between two experiments, or that only one of them has, as heads differ."""
    ours, theirs = flatten(first), flatten(second)
    return [key for key in ours | theirs if (key in ours) != (key in theirs) or ours[key] != theirs[key]]


def from_dict(kind: type[Node], values: Any, prefix: str = "") -> Node:
    """Build `kind` from nested dictionaries; missing keys keep their defaults.

    Raises CrissCrossError for an unknown key (the near miss is named), a wrong type or a value out of range.
    """
    if not isinstance(values, dict):
        where = prefix.rstrip(".") or "the configuration"
        raise CrissCrossError(f"{where} must be a mapping of keys to values, got {shown(values)}")
    if not prefix:
        _check_task(kind, values)
    if kind is OwnHead:
        return typing.cast(Node, _own_head(values, prefix))
    if not dataclasses.is_dataclass(kind):
        raise CrissCrossError(f"{prefix}name: {kind.__name__} is no dataclass, which the settings of a head must be")
    kinds = typing.get_type_hints(kind)
    known = [entry.name for entry in dataclasses.fields(kind)]  # type: ignore[arg-type]
    made = {}
    for key, value in values.items():
        if key not in known:
            raise CrissCrossError(_unknown(str(key), known, prefix))
        made[key] = _convert(kinds[key], value, prefix + key)
    return kind(**made)


def _own_head(values: dict[str, Any], prefix: str) -> OwnHead:
    """A head from outside with its settings as they are, but for lists, which become tuples: it can be a key."""

    def frozen(value: Any, key: str) -> Any:
        if isinstance(value, (list, tuple)):
            return tuple(frozen(entry, key) for entry in value)
        _expect(not isinstance(value, dict), value, key, "a value or a list of values")
        return value

    settings = {key: frozen(value, f"{prefix}{key}") for key, value in values.items() if key != "name"}
    return OwnHead(values["name"], tuple(settings.items()))


def task_of(values: Any) -> str:
    """The task that a tree of plain values is for: its `task`, `segmentation` where it names none."""
    return str(values.get("task", SEGMENTATION)) if isinstance(values, dict) else SEGMENTATION


def _check_task(kind: type, values: Any) -> None:
    """Refuse an experiment of another task where one of `kind` is wanted."""
    wanted = getattr(kind, "task", SEGMENTATION if kind is Experiment else None)
    found = values.get("task", SEGMENTATION)
    if wanted is not None and found != wanted and isinstance(found, str):
        raise CrissCrossError(f"this is an experiment of the task {shown_name(found)}, not of {wanted}")


def override(experiment: Node, words: Iterable[str]) -> Node:
    """Apply `section.key=value` words (values in YAML) and return the new experiment."""
    return apply_overrides(experiment, parse_words(words))


def _one_length(train: Any) -> None:
    """Refuse two lengths of one training in what the section `train` of a file, or `--set`, gives."""
    if isinstance(train, dict) and "iterations" in train and train.get("epochs"):
        raise CrissCrossError(
            f"train.iterations={shown(train['iterations'])} and train.epochs={shown(train['epochs'])} are two lengths "
            "of one training: give one of them"
        )


def parse_words(words: Iterable[str]) -> dict[str, Any]:
    """What `section.key=value` words (values in YAML) change, by dotted key."""
    changes: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise CrissCrossError(f"--set expects section.key=value, got {word!r}")
        changes[key.strip()] = parse_yaml(value, f"--set {shown_name(key)}")
    return changes


def apply_overrides(experiment: Node, changes: Mapping[str, Any]) -> Node:
    """Replace values by dotted key, e.g. `{"optim.lr": 0.1}`, and return the new experiment."""
    tree, flat = to_dict(experiment), flatten(changes)
    if "task" in changes and changes["task"] != (task := task_of(tree)):
        raise CrissCrossError(f"task is {task} and cannot be changed; it belongs to the recipe or the YAML file")
    given = {key.removeprefix("train."): value for key, value in flat.items() if key.startswith("train.")}
    _one_length(given)
    if "iterations" in given and tree["train"].get("epochs"):
        tree["train"]["epochs"] = 0
    classes = flat.get("data.classes")
    if isinstance(classes, list | tuple) and isinstance(former := tree["data"].get("classes"), list | tuple):
        # Colors go by the number of the class, and so do pairs that are mirrored, which mean what their names say.
        dropped = ["palette"] * (len(classes) != len(former)) + ["flip_pairs"] * (list(classes) != list(former))
        tree["data"] |= {key: [] for key in dropped if key in tree["data"]}
    for dotted, value in changes.items():
        dotted, value = (HEAD, {"name": value}) if dotted == f"{HEAD}.name" else (dotted, value)
        *path, leaf = dotted.split(".")
        node: Any = tree
        for depth, key in enumerate(path):
            if key not in node:
                raise CrissCrossError(_unknown(key, list(node), "".join(f"{part}." for part in path[:depth])))
            node = node[key]
            if not isinstance(node, dict):
                raise CrissCrossError(f"{'.'.join(path[: depth + 1])} is a value, it has no keys below it")
        # The settings of a head from outside are checked by its own class when the network is created.
        if leaf not in node and not (path == HEAD.split(".") and ":" in node["name"]):
            raise CrissCrossError(_unknown(leaf, list(node), "".join(f"{part}." for part in path), tree))
        node[leaf] = changed_head(node[leaf], value) if dotted == HEAD else _merged(node.get(leaf), value)
    return from_dict(type(experiment), tree)


def _merged(old: Any, new: Any) -> Any:
    """The new value; of a section, sections inside it included, the keys that it names, the others as they are."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


def read_tree(path: str | os.PathLike[str]) -> Any:
    """The plain values of a YAML file, of whatever task."""
    values = read_yaml(path)
    return {} if values is None else values


def load_experiment(path: str | os.PathLike[str]) -> Experiment:
    """Read an experiment from a YAML file."""
    return load_tree(path, Experiment)


def load_tree(path: str | os.PathLike[str], kind: type[Node]) -> Node:
    """Read an experiment of `kind` from a YAML file."""
    values = read_tree(path)
    try:
        _one_length(values.get("train") if isinstance(values, dict) else None)
        return from_dict(kind, migrate(values))
    except CrissCrossError as error:
        raise CrissCrossError(f"{path}: {error}") from None


def to_yaml(experiment: Any) -> str:
    """The experiment as YAML, in the order of the tree: every key, but no `train.iterations` beside `train.epochs`."""
    import yaml

    tree = to_dict(experiment)
    if isinstance(train := tree.get("train"), dict) and train.get("epochs"):
        del train["iterations"]
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def _unknown(key: str, known: list[str], prefix: str, tree: Mapping[str, Any] = types.MappingProxyType({})) -> str:
    """The line about an unknown key; `tree` is searched for a key of that name in another section."""
    heads = [name for name, row in HEADS.items() if key in (entry.name for entry in dataclasses.fields(row.config))]
    elsewhere = [full for full in flatten(tree) if full.rpartition(".")[2] == key]
    key = shown_name(key)
    if elsewhere:
        found = f"did you mean {' or '.join(elsewhere)}?"
    elif prefix == f"{HEAD}." and heads:
        found = f"the head {' or '.join(heads)} has it"
    else:
        found = hint(key, known, "known here")
    return f"unknown key {prefix}{key}; {found}"


def _convert(kind: Any, value: Any, key: str) -> Any:
    """`value` as `kind`, or an error that names `key`."""
    if dataclasses.is_dataclass(kind):
        return from_dict(typing.cast(Any, kind), value, f"{key}.")
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(arguments, value, key)
    if origin is typing.Literal:
        return _expect(value in arguments, value, key, "one of " + ", ".join(map(str, arguments)))
    if origin is tuple:
        return _convert_tuple(arguments, value, key)
    if kind is float:
        value = _number(value)
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), value, key, "a number")
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        return _expect(math.isfinite(value), value, key, "finite")
    # `key=` in YAML is nothing at all; for a text that means the empty one.
    value = "" if kind is str and value is None else value
    names = {int: "a whole number", bool: "true or false", str: "text"}
    if kind not in names:
        raise CrissCrossError(f"{key} has the type {kind}, and settings are int, float, bool, str or tuples of them")
    fits = isinstance(value, kind) and (kind is not int or not isinstance(value, bool))
    value = _expect(fits, value, key, names[kind])
    return _expect(kind is not str or one_line(value), value, key, "text of one line, without control characters")


def _convert_union(arguments: tuple[Any, ...], value: Any, key: str) -> Any:
    """`kind | None`, `kind | Literal["word", ...]`, or `HeadConfig`, of which a name alone will do."""
    if OwnHead in arguments:
        value = {"name": value} if isinstance(value, str) else value
        name = value.get("name", CCNetConfig.name) if isinstance(value, dict) else CCNetConfig.name
        return from_dict(kind_of_head(name), value, f"{key}.")
    if type(None) in arguments and value in (None, "none", "None"):
        return None
    words = [word for kind in arguments if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)]
    if words and isinstance(value, str):
        return _expect(value in words, value, key, f"a list or {' or '.join(words)}")
    return _convert(arguments[0], value, key)


def _convert_tuple(arguments: tuple[Any, ...], value: Any, key: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        names = " of names" if arguments[0] is str else ""
        raise CrissCrossError(f"{key} must be a list{names}, got {shown(value)}")
    if arguments[-1] is Ellipsis:
        return tuple(_convert(arguments[0], entry, f"{key}[{i}]") for i, entry in enumerate(value))
    _expect(len(value) == len(arguments), value, key, f"a list of {len(arguments)} values")
    return tuple(
        _convert(kind, entry, f"{key}[{i}]") for i, (kind, entry) in enumerate(zip(arguments, value, strict=True))
    )


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-4 as text; people mean a number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _expect(fits: bool, value: Any, key: str, rule: str) -> Any:
    if not fits:
        raise CrissCrossError(f"{key} must be {rule}, got {shown(value)}")
    return value
