"""Metadata of checkpoints: MMSegmentation's `meta`, and our experiment in files of `crisscross convert --to`."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from crisscross.config import Experiment, InferenceConfig, from_dict, to_dict
from crisscross.config.documents import YAML_BYTES, parse_json
from crisscross.config.migrate import migrate
from crisscross.data.palette import default_palette
from crisscross.errors import CrissCrossError, shown

# The key of our experiment under `meta`.
OURS = "crisscross"
Config = dict[str, Any]


def with_metadata(experiment: Experiment, meta: Mapping[str, Any], source: str) -> Experiment:
    """`experiment` with the classes, colors and configuration of a checkpoint's metadata.

    Known are `CLASSES`, `PALETTE` and `config` (MMSegmentation 0.x), `dataset_meta` and `cfg` (1.x), and `crisscross`,
    a whole experiment of ours. The configuration text is parsed, never run; `experiment` has the rest.

    Raises:
        CrissCrossError: the metadata names another number of classes than the weights have, or a network that does not
            exist here.
    """
    if isinstance(own := meta.get(OURS), str):
        return _own(own, source)
    for key in ("cfg", "config"):
        if isinstance(text := meta.get(key), str):
            try:
                # Converting to plain values and back checks the types of all values of the text.
                experiment = from_dict(Experiment, to_dict(_with_config(experiment, _parse(text))))
            except (CrissCrossError, TypeError, ValueError) as error:
                raise CrissCrossError(f"{source}: its configuration text: {error}") from None
    names = meta.get("dataset_meta")
    names = names if isinstance(names, Mapping) else meta
    classes, palette = (_first(names, key, key.upper()) for key in ("classes", "palette"))
    if classes is None:
        return experiment
    if isinstance(classes, str) or not isinstance(classes, Iterable):
        raise CrissCrossError(f"{source}: its class names are not a list, but {shown(classes)}")
    return with_classes(experiment, classes, palette, source) if len(tuple(classes)) else experiment


def with_classes(experiment: Experiment, classes: Any, palette: Any, source: str) -> Experiment:
    """`experiment` with these class names and colors; default colors if these do not fit.

    Raises:
        CrissCrossError: the weights have another number of classes, or a name occurs twice.
    """
    classes = tuple(classes)
    if other := [name for name in classes if not isinstance(name, str | int)]:
        raise CrissCrossError(f"{source}: its class names must be texts, got {shown(other[0])}")
    names = tuple(str(name).strip() for name in classes)
    needed = len(experiment.data.classes)
    if len(names) != needed:
        raise CrissCrossError(f"{source}: {len(names)} class names for weights with {needed} classes")
    colors = _colors(palette)
    colors = colors if len(colors) == needed else default_palette(names)
    try:
        data = replace(experiment.data, classes=names, palette=colors)
    except CrissCrossError as error:
        raise CrissCrossError(f"{source}: {error}") from None
    return replace(experiment, data=data)


def _colors(palette: Any) -> tuple[tuple[int, int, int], ...]:
    """Red, green and blue of each class; an empty tuple if `palette` is something else."""
    try:
        return tuple((int(red), int(green), int(blue)) for red, green, blue in palette)
    except (TypeError, ValueError, OverflowError):
        return ()


def _own(text: str, source: str) -> Experiment:
    values = parse_json(text, f"{source}: its experiment")
    try:
        return from_dict(Experiment, migrate(values))
    except CrissCrossError as error:
        raise CrissCrossError(f"{source}: {error}") from None


def _first(mapping: Mapping[str, Any], *keys: str) -> Any:
    return next((mapping[key] for key in keys if mapping.get(key) is not None), None)


def _with_config(experiment: Experiment, config: Config) -> Experiment:
    network = _mapping(config, "model")
    head, backbone = _mapping(network, "decode_head"), _mapping(network, "backbone")
    ours: Any = experiment.model.head
    ours = replace(ours, recurrence=_of_type(head, "recurrence", int, ours.recurrence))
    corners = _of_type(head, "align_corners", bool, experiment.model.align_corners)
    model = replace(experiment.model, head=ours, align_corners=corners)
    if backbone:
        stride, factors = 4, backbone.get("strides", (1, 2, 1, 1))
        if any(type(factor) is not int for factor in factors):
            raise ValueError(f"the backbone's strides must be whole numbers, got {str(factors)[:40]!r}")
        for factor in factors:
            stride *= factor
        # Their networks do not contract unless they are told to; a stage that is not dilated has nothing to contract.
        dilated = any(factor != 1 for factor in backbone.get("dilations", ()))
        if dilated and not _of_type(backbone, "contract_dilation", bool, False):
            raise ValueError("contract_dilation=False: no published CCNet of theirs has such a backbone")
        model = replace(model, output_stride=stride)
    preprocess = experiment.preprocess
    normal = _mapping(network, "data_preprocessor") or _mapping(config, "img_norm_cfg")
    if "mean" in normal and "std" in normal:
        rgb = normal.get("bgr_to_rgb", normal.get("to_rgb", True))
        mean, std = tuple(normal["mean"]), tuple(normal["std"])
        preprocess = replace(preprocess, mean=mean, std=std, order="rgb" if rgb else "bgr")
    if scale := _test_scale(config.get("test_pipeline")):
        preprocess = replace(preprocess, scale=scale)
    test = _mapping(network, "test_cfg") or _mapping(config, "test_cfg")
    inference = _inference(experiment.inference, test)
    return replace(experiment, model=model, preprocess=preprocess, inference=inference)


def _inference(inference: InferenceConfig, test: Config) -> InferenceConfig:
    if test.get("mode") != "slide":
        return inference
    window, stride = tuple(test.get("crop_size", inference.window)), tuple(test.get("stride", inference.stride))
    return replace(inference, mode="slide", window=window, stride=stride)


def _test_scale(pipeline: Any) -> tuple[int, int] | None:
    """(width, height) that images are resized to fit in the test pipeline."""
    for step in pipeline if isinstance(pipeline, list) else []:
        scale = step.get("img_scale", step.get("scale")) if isinstance(step, dict) else None
        if isinstance(scale, tuple) and len(scale) == 2:
            return scale
    return None


def _mapping(config: Config, key: str) -> Config:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _of_type(config: Config, key: str, kind: type, default: Any) -> Any:
    value = config.get(key, default)
    return value if isinstance(value, kind) else default


def _parse(text: str) -> Config:
    """The assignments of a configuration in Python's syntax; empty if it is something else, or too long."""
    try:
        if len(text) > YAML_BYTES:
            return {}
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return {
        statement.targets[0].id: _value(statement.value)
        for statement in body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def _value(node: ast.expr) -> Any:
    """Numbers, texts, lists, tuples, dictionaries and dict(...) calls; None for everything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {word.arg: _value(word.value) for word in node.keywords if word.arg}
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {key.value: _value(value) for key, value in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.List):
        return [_value(entry) for entry in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(entry) for entry in node.elts)
    return node.value if isinstance(node, ast.Constant) else None
