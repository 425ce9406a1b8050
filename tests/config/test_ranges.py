"""Every key of every experiment, and every number of the command line: what is legal, and what is refused."""

import argparse
import dataclasses
import itertools
import types
import typing
from typing import Any, Literal

import pytest

from benchmarks.__main__ import create_parser as create_benchmarks_parser
from crisscross import zoo
from crisscross.cli import create_parser
from crisscross.config import Experiment, from_dict, override, to_dict
from crisscross.config.heads import CCNetConfig, CE2PConfig, HeadConfig
from crisscross.errors import CrissCrossError
from crisscross.instances.config import InstanceExperiment
from crisscross.instances.weights import recipe

NUMBERS = (int, float)
BIG = 10**12


def leaves(kind: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a tree of dataclasses, and the type of each; those of a list's entries behind `[]`."""
    found: dict[str, Any] = {}
    hints = typing.get_type_hints(kind)
    for name, inner in ((entry.name, hints[entry.name]) for entry in dataclasses.fields(kind)):
        if inner == HeadConfig:
            # Every setting of the built-in heads.
            found |= leaves(CCNetConfig, f"{prefix}{name}.")
            inner = CE2PConfig
        entries = [entry for entry in typing.get_args(inner) if dataclasses.is_dataclass(entry)]
        if dataclasses.is_dataclass(inner):
            found |= leaves(inner, f"{prefix}{name}.")
        elif entries:
            found |= leaves(entries[0], f"{prefix}{name}[].")
        else:
            found[prefix + name] = inner
    return found


def parts(kind: Any) -> set[Any]:
    """The plain types that a type is made of."""
    if typing.get_origin(kind) is Literal:
        return {Literal}
    inner = typing.get_args(kind)
    return set().union(*map(parts, inner)) if inner else {kind}


def at(key: str, *values: Any) -> list[list[str]]:
    """Each value as the words that set it; a list of words stands for itself."""
    return [value if isinstance(value, list) else [f"{key}={value}"] for value in values]


def names(count: int) -> str:
    """A list of so many names."""
    return f"[{', '.join(f'name{number}' for number in range(count))}]"


SIDES = (["[1, 1]", "[32768, 32768]"], ["[0, 5]", "[5, 0]", "[32769, 5]", "[1]", f"[5, {BIG}]"])
SCALE = (
    ["[0, 0, 0]", "[255, 255, 255]", "[0, 0, 1.5]"],
    ["[-1, 5, 5]", "[256, 5, 5]", "[0.485, 0.456, 0.406]", "[1, 1, 1]", "[.nan, 1, 1]", "[5, 5]"],
)
SPREAD = (["[1, 1, 1]", "[1000, 1000, 1000]"], ["[0.229, 0.224, 0.225]", "[0, 5, 5]", "[5, 5, -1]", "[1001, 5, 5]"])
STEPS = (["0", "1000000000"], ["-1", str(BIG), "1.5", ".inf", "1e9"])
WEIGHT = (["0", "1e+6"], ["-1", "1.1e+6", ".nan", ".inf", "x"])
CHANCE = (["0", "1"], ["-0.1", "1.1", ".nan"])
BELOW_ONE = (["0", "0.999"], ["1", "-0.1", ".nan"])
TIMES = (["1", "1000"], ["0", "-1", "1001", str(BIG)])
BOXES = (["1", "1000000"], ["0", "-1", "1000001", str(BIG)])
NAME = (["a", "'Straße 7'"], ['"a\\nb"', '"\\x1b[31m"', '"\\u2028"', "3", f"'{'x' * 1001}'"])

# Key -> (values that are taken, values that are refused). A list is several words, where a value needs another key's.
OPTIM: dict[str, tuple[list[Any], list[Any]]] = {
    "optim.lr": (["1e-9", ["optim.lr=1e+6"]], ["0", "-1", "1.1e+6", ".inf"]),
    "optim.momentum": BELOW_ONE,
    "optim.weight_decay": (["0", "1000"], ["-1", "1001", ".nan"]),
    "optim.warmup": (["0", "999"], ["-1", "1000", "1001", str(BIG)]),
    "optim.backbone_factor": (["1e-9", "1000"], ["0", "-1", "1001"]),
    "optim.gate_factor": (["1e-9", "1000"], ["0", "-1", "1001", ".nan"]),
    "optim.clip": (STEPS[0], ["-1", ".inf", str(BIG)]),
    "optim.power": (["1e-9", "1000"], ["0", "-1", "1001"]),
    "optim.layer_decay": (["1e-9", "1"], ["0", "1.1"]),
    "optim.steps": (["[]", "[1, 1000000000]"], ["[0]", "[2, 1]", "[1, 1]", f"[{BIG}]"]),
    "optim.gamma": (["1e-9", "1"], ["0", "1.1", "-1"]),
}
TRAIN = {
    "train.epochs": (["0", "1000000000"], ["-1", str(BIG), "1000000001", "1.5"]),
    "train.iterations": (["1", "1000000000"], ["0", "-1", str(BIG), "1000000001", "1.5"]),
    "train.batch": (["1", "65536"], ["0", "-1", "65537", str(BIG)]),
    "train.accumulate": (["1", ["train.batch=65536", "train.accumulate=65536"]], ["0", "-1", "3", str(BIG)]),
    "train.validate_every": STEPS,
    "train.checkpoint_every": STEPS,
    "train.seed": (["0", str(2**63 - 1)], ["-1", str(2**63), "1.5", "9" * 5000]),
    "train.ema": BELOW_ONE,
}
SEGMENTATION: dict[str, tuple[list[Any], list[Any]]] = {
    **OPTIM,
    **TRAIN,
    "optim.eta_min": (["0", "0.01"], ["-1", "0.011"]),
    "name": NAME,
    "model.backbone": NAME,
    "model.output_stride": (["8", "16", "32"], ["4", "0", "64", "12"]),
    "model.head.name": (["ccnet", "ce2p", "my_head:Head"], ["nonsense", "3", "[]"]),
    "model.head.recurrence": (["0", "1000"], ["-1", "1001", "~"]),
    "model.head.channels": (["8", "16384"], ["0", "-1", "7", "16385", str(BIG), "1e9"]),
    "model.head.reduction": (["1", "512"], ["0", "513", str(BIG)]),
    "model.head.dropout": BELOW_ONE,
    "model.head.pyramid": (["0", "16384"], ["-1", "16385", str(BIG)]),
    "model.aux_head.channels": (["0", "16384"], ["-1", "16385", str(BIG)]),
    "model.aux_head.dropout": BELOW_ONE,
    "model.network": (["my_net:Net", ""], ["my_net", "3", '"a:b\\n"', ["model.network=a:b", "model.frames=3"]]),
    "model.frozen": (["[]", "[bn1]"], ["bn1", "[1]", '["a\\nb"]']),
    "model.frames": (["0", "1000"], ["-1", "1001", str(BIG)]),
    "data.name": NAME,
    "data.classes": (["[]", names(255)], ["[a, a]", "[a, [b]]", "[1]", '["a\\x1b"]', names(256)]),
    "data.palette": (
        [["data.classes=[a]", "data.palette=[[0, 0, 0]]"], ["data.classes=[a]", "data.palette=[[255, 255, 255]]"]],
        ["[[0, 0, 0]]", *(["data.classes=[a]", f"data.palette=[[{part}, 0, 0]]"] for part in (256, -1, "[0]", 0.5))],
    ),
    "data.ignore": (
        ["0", "255", ["data.classes=[a, b]", "data.ignore=2"]],
        ["-1", "256", ["data.classes=[a, b]", "data.ignore=1"]],
    ),
    "data.train_split": NAME,
    "data.val_split": NAME,
    "data.test_split": NAME,
    "data.flip_pairs": (
        ["[]", ["data.classes=[a, b, c, d]", "data.flip_pairs=[[0, 1], [2, 3]]"]],
        ["[[0, 0]]", "[[0, 1], [1, 2]]", "[[0, 1], [0, 1]]", "[[-1, 0]]", "[[1]]",
         ["data.classes=[a, b]", "data.flip_pairs=[[1, 2]]"]],
    ),
    "preprocess.mean": SCALE,
    "preprocess.std": SPREAD,
    "preprocess.scale": (["none", *SIDES[0]], SIDES[1]),
    "augment.scale": (["none", *SIDES[0]], SIDES[1]),
    "augment.ratio": (["[0.01, 100]", "[1, 1]"], ["[0, 1]", "[2, 1]", "[0.5, 101]", "[0.001, 1]", "[1]", "[.nan, 1]"]),
    "augment.crop": SIDES,
    "augment.max_fraction": (["0.01", "1"], ["0", "-1", "1.01"]),
    "augment.flip": CHANCE,
    "augment.rotation": (["0", "180"], ["-1", "181"]),
    "augment.rotation_chance": CHANCE,
    "loss.aux_weight": WEIGHT,
    "loss.class_weights": (["[]", "[0, 1e+6]", "auto"], ["[0, 0]", "[-1, 1]", "[1, 1.1e+6]", "[.nan, 1]", "[.inf]"]),
    "loss.terms[].name": ([["loss.terms=[{name: dice}]"]], [["loss.terms=[{name: dise}]"], ["loss.terms=[]"]]),
    "loss.terms[].weight": (
        [["loss.terms=[{weight: 1e-9}]"], ["loss.terms=[{weight: 1e+6}]"]],
        [["loss.terms=[{weight: 0}]"], ["loss.terms=[{weight: -1}]"], ["loss.terms=[{weight: 1.1e+6}]"]],
    ),
    "loss.smoothing": BELOW_ONE,
    "loss.focal_gamma": (["0", "1000"], ["-1", "1001"]),
    "loss.ohem.threshold": (["0", "1"], ["-0.1", "1.1", ["loss.ohem.threshold=0", "loss.ohem.keep=0"]]),
    "loss.ohem.keep": STEPS,
    "loss.consistency.dimensions": TIMES,
    "loss.consistency.delta_v": (["0", "1.49"], ["-1", "1.5", ".nan"]),
    "loss.consistency.delta_d": (["0.51", "1e+6"], ["0.5", "-1", "1.1e+6"]),
    "train.early_stop": (
        ["0", "1000000000"],
        [
            *("-1", str(BIG)),
            *(["train.early_stop=1", "train.validate_every=0"], ["train.early_stop=1", "data.val_split=none"]),
        ],
    ),
    "inference.window": (["[513, 513]", "[32768, 32768]"], ["[512, 513]", *SIDES[1]]),
    "inference.stride": (["[1, 1]", "[769, 769]"], ["[0, 1]", "[770, 1]"]),
    "inference.ratios": (["[0.01]", "[1, 100]"], ["[]", "[0]", "[0.001]", "[101]", "[1, 1]", "[.nan]"]),
    "inference.pad_to": (["none", *SIDES[0]], SIDES[1]),
}  # fmt: skip
INSTANCES: dict[str, tuple[list[Any], list[Any]]] = {
    **OPTIM,
    **TRAIN,
    "optim.eta_min": (["0", "1"], ["-1", ["optim.schedule=poly", "optim.eta_min=0.03"]]),
    "train.early_stop": (["0", "1000000000"], ["-1", str(BIG), ["train.early_stop=1", "train.validate_every=0"]]),
    "name": NAME,
    "model.backbone": (["resnet18", "resnet152"], ["resnet9", "my:Net"]),
    "model.recurrence": TIMES,
    "model.reduction": (["1", "256"], ["0", "257", str(BIG)]),
    "model.trainable_layers": (["0", "5"], ["-1", "6"]),
    "model.norm_eps": (["0", "1"], ["-1", "1.1", ".nan"]),
    "model.channels": (["1", "16384"], ["0", "16385", str(BIG)]),
    "model.box_features": (["1", "16384"], ["0", "16385", str(BIG)]),
    "model.mask_layers": TIMES,
    "model.anchors": (
        ["[1, 1, 1, 1, 1]", "[1, 2, 3, 4, 32768]"],
        ["[0, 1, 1, 1, 1]", "[1, 1, 1, 1, 32769]", "[1, 2]", f"[{BIG}, 1, 1, 1, 1]"],
    ),
    "data.train_split": (NAME[0], [*NAME[1], "../../etc/passwd", "/etc", "'a\\b'"]),
    "data.val_split": (["none"], [*NAME[1], "../../etc/passwd", "/etc"]),
    "data.classes": ([["data.classes=[a, b]", "data.categories=[1, 2]"]], ["[a]", '["a\\n"]', "[[a]]", "[1]"]),
    "data.categories": (
        [["data.classes=[a, b]", f"data.categories=[0, {2**63 - 1}]"]],
        ["[1]", ["data.classes=[a, b]", "data.categories=[1, 1]"], ["data.classes=[a]", "data.categories=[-1]"],
         ["data.classes=[a]", f"data.categories=[{2**63}]"]],
    ),
    "preprocess.short": (["32", "1333"], ["31", "1334", "0", str(BIG)]),
    "preprocess.long": (["800", "32768"], ["799", "32769", str(BIG)]),
    "preprocess.mean": SCALE,
    "preprocess.std": SPREAD,
    "augment.flip": CHANCE,
    "augment.short": (["[]", "[32, 32768]"], ["[31]", "[32769]", f"[{BIG}]"]),
    "proposals.train": BOXES,
    "proposals.test": BOXES,
    "proposals.anchors": BOXES,
    "proposals.boxes": BOXES,
    "inference.score": BELOW_ONE,
    "inference.nms": CHANCE,
    "inference.detections": BOXES,
}  # fmt: skip
# What other keys a word needs.
NEEDS = {
    "model.head.activation": ["model.head=ce2p"],
    "train.iterations=1": ["optim.warmup=0"],
    "train.batch=65536": ["train.accumulate=65536"],
    "optim.lr=1e-9": ["optim.eta_min=0"],
    "optim.eta_min=0.01": ["optim.lr=0.01"],
}
# Below this many iterations a warm-up has to end.
ITERATIONS = "train.iterations=1000"
TREES = {"segmentation": (Experiment, SEGMENTATION), "instances": (InstanceExperiment, INSTANCES)}


def words_of(tree: str) -> list[tuple[str, list[str], bool]]:
    """(key, words, whether they are taken) of a tree: its table, and what follows from a type."""
    kind, table = TREES[tree]
    found: list[tuple[str, list[str], bool]] = []
    for key, inner in leaves(kind).items():
        if key in table:
            taken, refused = table[key]
        elif inner is bool:
            taken, refused = ["true", "false"], ["1", "maybe", "[]", "~"]
        elif typing.get_origin(inner) is Literal:
            taken, refused = list(typing.get_args(inner)), ["nonsense", "3", "[]"]
        else:
            continue
        found += [(key, words, True) for words in at(key, *taken)]
        found += [(key, words, False) for words in at(key, *refused)]
    return found


def changed(kind: Any, words: list[str]) -> Any:
    optim = [] if kind is Experiment else ["optim.warmup=0"]
    needed = list(
        itertools.chain.from_iterable(NEEDS.get(word, NEEDS.get(word.partition("=")[0], [])) for word in words)
    )
    needed = [word for word in needed if kind is Experiment or not word.startswith("optim.eta_min")]
    return override(override(kind(), [ITERATIONS, *optim]), [*needed, *words])


def refusal(kind: Any, words: list[str]) -> str | None:
    try:
        changed(kind, words)
    except CrissCrossError as error:
        return str(error)
    return None


@pytest.mark.parametrize("tree", TREES)
def test_every_key_has_its_legal_range(tree):
    kind, table = TREES[tree]
    keys = leaves(kind)
    numeric = {key for key, inner in keys.items() if parts(inner) & set(NUMBERS) and inner is not bool}
    assert numeric, "the walk over the types finds the numbers"
    assert sorted(key for key in keys if key not in table and parts(keys[key]) not in ({bool}, {Literal})) == []
    assert sorted(set(table) - set(keys)) == [], "entries for keys that are no more"
    for key in keys:
        some = {taken for name, _, taken in words_of(tree) if name == key}
        assert some == {True, False}, f"{key} needs values that are taken and values that are refused"


@pytest.mark.parametrize("tree", TREES)
def test_values_at_the_edge_are_taken_and_those_beyond_are_refused_in_one_line(tree):
    kind, _ = TREES[tree]
    for key, words, taken in words_of(tree):
        said = refusal(kind, words)
        if taken:
            assert said is None, f"{words}: {said}"
            continue
        assert said is not None, f"{words} is taken"
        section, _, leaf = key.rpartition(".")
        assert "\n" not in said and len(said) < 500
        assert leaf in said or section.rstrip("[]") in said, f"{words}: the message names no key: {said}"


def test_a_tree_refuses_what_a_dictionary_holds_as_it_does_words():
    # NaN is smaller than nothing and larger than nothing: every rule has to say what it wants.
    for tree in TREES:
        kind, table = TREES[tree]
        for key, inner in leaves(kind).items():
            if inner is float and key in table and "[]" not in key:
                values: dict[str, Any] = to_dict(kind())
                *path, leaf = key.split(".")
                node = values
                for part in path:
                    node = node[part]
                for bad in (float("nan"), float("inf"), 10**400, True, "x", [], None):
                    node[leaf] = bad
                    with pytest.raises(CrissCrossError, match=rf"^{key} must be "):
                        from_dict(kind, values)


@pytest.mark.parametrize(
    ("word", "cure"),
    [
        ("preprocess.mean=[0.485, 0.456, 0.406]", "multiply mean and std by 255"),
        ("preprocess.std=[0.229, 0.224, 0.225]", "multiply mean and std by 255"),
        ("optim.warmup=40000", r"below train.iterations \(40000\)"),
        ("train.iterations=100000000000000000000000", "at most 20 are read"),
        ("loss.ohem={threshold: 0, keep: 0}", "above 0 where loss.ohem.keep is 0"),
        ("data.classes=[[[[a]]]]", r"data.classes\[0\] must be text"),
        ('name="a\u202eb"', r"name must be text of one line, without control characters, got 'a..202eb'"),
        (f"name='{'x' * 3000}'", r"name must be text of one line, without control characters, got 'x{99} \.\.\."),
    ],
)
def test_what_to_do_is_said(word, cure):
    with pytest.raises(CrissCrossError, match=cure):
        override(Experiment(), [word])


def test_every_recipe_is_within_the_ranges():
    for name in (*zoo.RECIPES, *zoo.ALIASES):
        assert from_dict(Experiment, to_dict(zoo.recipe(name)))
    for name in zoo.INSTANCE_RECIPES:
        assert from_dict(InstanceExperiment, to_dict(recipe(name)))


# --- the command line ---

# Option -> values that are taken, values that are refused.
PIXELS = (["1", "32768"], ["0", "-1", "32769", "1.5", "x", "1_0", "٣", "9" * 5000, str(BIG)])
PROCESSES = (["0", "1024"], ["-1", "1025", "two", str(BIG)])
OPTIONS = {
    "--workers": PROCESSES,
    "--threads": PIXELS,
    "--block": PIXELS,
    "--score": (["0", "1"], ["-0.1", "1.1", "nan", "inf", "x"]),
    "--channels": PIXELS,
    "--rounds": PIXELS,
    "--recurrence": PIXELS,
    "--batch": (["1", "8"], PIXELS[1]),
    "--images": PIXELS,
    "--classes": PIXELS,
    "--size": PIXELS,
    "--non-local-limit": (["0.5"], ["x", "1,5"]),
    "--count": PIXELS,
    "--port": (["0", "65535"], ["-1", "65536", "http", str(BIG)]),
    "--requests": PIXELS,
    "--timeout": (["1", "32768"], ["0", "-1", "soon", str(BIG)]),
    "--max-size": PIXELS,
    "--max-pixels": PIXELS,
    "--format": (["png", "png,coco"], ["x", "png,x"]),
}


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All options of a parser and of its commands that read numbers."""
    found: list[argparse.Action] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                command.fill()
            found += itertools.chain.from_iterable(map(options, action.choices.values()))
        elif action.type is not None and not (isinstance(action.type, type) and action.type not in NUMBERS):
            found.append(action)
    return found


def test_every_number_of_the_command_line_has_its_legal_range():
    found = options(create_parser()) + options(create_benchmarks_parser())
    assert {action.option_strings[0] for action in found} <= set(OPTIONS), "an option without an entry"
    assert len(found) > 15
    for action in found:
        assert isinstance(action.type, types.FunctionType) or action.type is float
        taken, refused = OPTIONS[action.option_strings[0]]
        for text in taken:
            action.type(text)
        for text in refused:
            with pytest.raises((argparse.ArgumentTypeError, ValueError)) as caught:
                action.type(text)
            assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["attention", "--sizes", "64x99999"], "'64x99999' is not a size"),
        (["attention", "--sizes", "1x" + "9" * 5000], "is not a size; write HEIGHTxWIDTH"),
        (["model", "--size", "0x5"], "is not a size"),
        (["clips", "--size", "5x45x99999"], "is no clip"),
        (["attention", "--device", "cuda:" + "9" * 5000], "unknown cuda:9"),
        (["attention", "--non-local-limit", "nan"], "--non-local-limit must be above 0"),
    ],
)
def test_sizes_and_devices_of_benchmarks(words, message, capsys):
    from benchmarks.__main__ import main

    assert main(words) == 2
    assert message in capsys.readouterr().err
