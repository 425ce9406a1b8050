"""The configuration: round trips, and one clear line for everything that is refused."""

import json
from dataclasses import fields, is_dataclass

import pytest
import yaml

from crisscross.checkpoints import native
from crisscross.config import (
    DataConfig,
    Experiment,
    ModelConfig,
    PreprocessConfig,
    apply_overrides,
    differences,
    from_dict,
    load_experiment,
    override,
    to_dict,
    to_yaml,
)
from crisscross.config.heads import AuxHeadConfig, CCNetConfig, CE2PConfig, OwnHead
from crisscross.config.parse import flatten
from crisscross.errors import CrissCrossError
from crisscross.zoo import RECIPES, recipe


def refusal(values):
    with pytest.raises(CrissCrossError) as caught:
        from_dict(Experiment, values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def set_refusal(*words):
    with pytest.raises(CrissCrossError) as caught:
        override(Experiment(), words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Every field has another value than its default.
FULL = {
    "name": "every field",
    "model": {
        "backbone": "my_net:TinyNet",
        "output_stride": 16,
        "pretrained": True,
        "frozen": ["conv1", "bn1"],
        "head": {
            "name": "ce2p",
            "channels": 96,
            "recurrence": 3,
            "reduction": 4,
            "dropout": 0.25,
            "activation": "relu",
        },
        "aux_head": {"channels": 0, "dropout": 0.5},
        "align_corners": True,
        "variant": "authors",
        "frames": 0,
        "label": "every",
        "network": "my_net:Whole",
    },
    "data": {
        "name": "folder",
        "classes": ["road", "yes", "1"],
        "palette": [[0, 1, 2], [255, 0, 9], [3, 3, 3]],
        "ignore": 11,
        "train_split": "a",
        "val_split": "b",
        "test_split": "c",
        "flip_pairs": [[0, 2]],
    },
    "preprocess": {
        "mean": [1.5, 2.0, 3.0],
        "std": [4.0, 5.0, 6.0],
        "order": "bgr",
        "scale": [2049, 1025],
    },
    "augment": {
        "scale": [720, 540],
        "ratio": [0.75, 1.5],
        "crop": [320, 384],
        "max_fraction": 0.5,
        "flip": 0.0,
        "distortion": False,
        "pad": "black",
        "rotation": 30.0,
        "rotation_chance": 0.6,
    },
    "loss": {
        "normalizer": "valid",
        "aux_weight": 0.2,
        "class_weights": [0.5, 2.0],
        "terms": [{"name": "ohem", "weight": 0.5}, {"name": "category_consistent", "weight": 2.0}],
        "smoothing": 0.1,
        "focal_gamma": 1.5,
        "ohem": {"threshold": 0.6, "keep": 200},
        "consistency": {
            "dimensions": 8,
            "delta_v": 0.25,
            "delta_d": 2.0,
        },
    },
    "optim": {
        "name": "adamw",
        "lr": 6e-4,
        "momentum": 0.5,
        "weight_decay": 1e-2,
        "power": 1.0,
        "eta_min": 1e-6,
        "warmup": 50,
        "backbone_factor": 0.1,
        "gate_factor": 20.0,
        "layer_decay": 0.9,
        "decay_norms": False,
        "clip": 35.0,
        "schedule": "steps",
        "steps": [500, 800],
        "gamma": 0.5,
    },
    "train": {
        "iterations": 1000,
        "epochs": 0,
        "batch": 12,
        "accumulate": 3,
        "memory": "lean",
        "winograd": True,
        "validate_every": 250,
        "checkpoint_every": 50,
        "seed": 7,
        "precision": "bf16",
        "ema": 0.999,
        "batch_norm": "frozen",
        "early_stop": 5,
        "deterministic": True,
    },
    "inference": {
        "mode": "slide",
        "window": [65, 129],
        "stride": [33, 65],
        "ratios": [1.0, 2.0],
        "flip": False,
        "pad_to": [65, 33],
    },
}


def leaves(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# --- round trips ---


def test_the_full_example_leaves_no_field_out():
    default = dict(leaves(to_dict(Experiment())))
    full = dict(leaves(FULL))
    # Another head than the default one.
    assert full.keys() ^ default.keys() == {"model.head.activation", "model.head.pyramid"}
    # A whole network labels single images, and a training has one length.
    assert {key for key in default.keys() & full.keys() if full[key] == default[key]} == {
        "model.frames",
        "train.epochs",
    }


@pytest.mark.parametrize("values", [{}, FULL], ids=["defaults", "every field"])
def test_round_trips_by_dictionary_yaml_file_and_checkpoint_header(values, tmp_path):
    experiment = from_dict(Experiment, values)
    assert to_dict(experiment) == {**to_dict(Experiment()), **values}
    assert from_dict(Experiment, to_dict(experiment)) == experiment
    assert from_dict(Experiment, yaml.safe_load(to_yaml(experiment))) == experiment
    assert from_dict(Experiment, json.loads(json.dumps(to_dict(experiment)))) == experiment
    (tmp_path / "e.yaml").write_text(to_yaml(experiment), encoding="utf-8")
    assert load_experiment(tmp_path / "e.yaml") == experiment
    # A tree holds no list: it can be compared, hashed and shared.
    assert hash(experiment) == hash(from_dict(Experiment, values))


def test_a_loss_of_three_keys_means_cross_entropy():
    stored = {"loss": {"normalizer": "all", "aux_weight": 0.4, "class_weights": []}}
    experiment = from_dict(Experiment, stored)
    assert experiment == Experiment() and experiment.loss.dimensions == 0
    assert [(term.name, term.weight) for term in experiment.loss.terms] == [("cross_entropy", 1.0)]


def test_only_a_weighted_category_consistent_term_asks_for_an_embedding():
    terms = "loss.terms=[{name: dice}, {name: category_consistent, weight: %s}]"
    assert override(Experiment(), [terms % 0.5]).loss.dimensions == 16
    assert override(Experiment(), [terms % 0.5, "loss.consistency.dimensions=4"]).loss.dimensions == 4
    assert override(Experiment(), [terms % 0]).loss.dimensions == 0


def test_class_weights_are_numbers_or_the_word_auto():
    assert override(Experiment(), ["loss.class_weights=auto"]).loss.class_weights == "auto"
    assert override(Experiment(), ["loss.class_weights=[1, 2]"]).loss.class_weights == (1.0, 2.0)


def test_the_experiment_travels_in_a_checkpoint(tmp_path):
    import torch
    from safetensors.torch import save_file

    experiment = from_dict(Experiment, FULL)
    header = {"format": native.FORMAT, "experiment": json.dumps(to_dict(experiment))}
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", header)
    assert native.read(tmp_path / "a.safetensors")[1] == experiment
    header["experiment"] = json.dumps({"optm": {}})
    save_file({"a": torch.ones(1)}, tmp_path / "b.safetensors", header)
    with pytest.raises(CrissCrossError, match=r"b\.safetensors: unknown key optm; did you mean optim\?"):
        native.read(tmp_path / "b.safetensors")


def test_defaults_are_the_published_values():
    experiment = Experiment()
    assert experiment.model == ModelConfig(
        "resnet50c", 8, False, (), CCNetConfig("ccnet", 512, 2, 8, 0.1), AuxHeadConfig(256, 0.1), False, "mmseg"
    )
    optim = experiment.optim
    assert (optim.name, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
    assert (optim.power, optim.eta_min, optim.warmup) == (0.9, 1e-4, 0)
    assert experiment.preprocess == PreprocessConfig((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "rgb", None)
    assert (experiment.loss.normalizer, experiment.loss.aux_weight) == ("all", 0.4)
    assert (experiment.augment.ratio, experiment.augment.max_fraction, experiment.augment.flip) == (
        (0.5, 2.0),
        0.75,
        0.5,
    )
    assert experiment.data.ignore == 255


def test_a_tree_is_frozen_all_the_way_down():
    experiment = Experiment()
    for node in (experiment, *(getattr(experiment, field.name) for field in fields(experiment))):
        if is_dataclass(node):
            with pytest.raises(AttributeError):
                setattr(node, fields(node)[0].name, "x")


def test_lists_become_tuples_and_whole_numbers_floats():
    experiment = from_dict(
        Experiment, {"data": {"classes": ["a"], "palette": [[1, 2, 3]]}, "augment": {"flip": 1}, "optim": {"lr": 1}}
    )
    assert experiment.data.classes == ("a",) and experiment.data.palette == ((1, 2, 3),)
    assert isinstance(experiment.augment.flip, float) and isinstance(experiment.optim.lr, float)
    assert from_dict(DataConfig, {"classes": ("a",), "palette": ((1, 2, 3),)}) == experiment.data
    assert to_dict(experiment)["data"]["palette"] == [[1, 2, 3]]


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "0.0001", "1.0e-4"])
def test_numbers_may_be_written_as_people_write_them(text, tmp_path):
    (tmp_path / "a.yaml").write_text(f"optim: {{weight_decay: {text}}}\n", encoding="utf-8")
    assert load_experiment(tmp_path / "a.yaml").optim.weight_decay == 1e-4
    assert override(Experiment(), [f"optim.weight_decay={text}"]).optim.weight_decay == 1e-4


def test_differences_name_the_dotted_keys():
    changed = override(Experiment(), ["optim.lr=0.02", "model.frozen=[bn1]", "name=other"])
    assert differences(Experiment(), changed) == ["name", "model.frozen", "optim.lr"]
    assert differences(changed, changed) == []


@pytest.mark.parametrize(
    ("first", "second"), [("ccnet", "ce2p"), ("ce2p", "mine:Head"), ("{name: mine:Head, width: 3}", "ccnet")]
)
def test_experiments_with_different_heads_are_compared(first, second):
    one, other = (override(Experiment(), [f"model.head={head}"]) for head in (first, second))
    keys = {f"model.head.{key}" for head in (one, other) for key in to_dict(head)["model"]["head"]}
    shared = {key for key, value in flatten(one).items() if flatten(other).get(key) == value}
    assert set(differences(one, other)) == set(differences(other, one)) == keys - shared
    assert "model.head.name" in differences(one, other)


# --- refusals ---


def test_an_unknown_key_names_the_near_miss():
    assert refusal({"optm": {}}) == "unknown key optm; did you mean optim?"
    assert refusal({"optim": {"wamup": 3}}) == "unknown key optim.wamup; did you mean warmup?"
    assert refusal({"optim": {"zzz": 3}}) == (
        "unknown key optim.zzz; known here: name, lr, momentum, weight_decay, power, eta_min, warmup, backbone_factor, "
        "gate_factor, layer_decay, decay_norms, clip, schedule, steps, gamma"
    )
    assert refusal({3: 4}).startswith("unknown key 3; known here: name, model, ")


def test_a_head_is_a_section_or_a_name():
    assert from_dict(ModelConfig, {"head": "ce2p"}) == from_dict(ModelConfig, {"head": {"name": "ce2p"}})
    assert from_dict(ModelConfig, {"head": {"recurrence": 0}}).head == CCNetConfig(recurrence=0)
    assert refusal({"model": {"head": "cnet"}}) == ("model.head.name: unknown head 'cnet'; did you mean ccnet or ce2p?")
    assert refusal({"model": {"head": 3}}) == "model.head must be a mapping of keys to values, got 3"
    assert refusal({"model": {"head": {"name": [1]}}}).startswith(
        "model.head.name: unknown head [1]; known: ccnet, ce2p"
    )
    assert refusal({"model": {"head": {"activation": "relu"}}}).startswith("unknown key model.head.activation; ")


def test_a_head_from_outside_keeps_its_settings_until_it_is_made():
    values = {"model": {"head": {"name": "nowhere:Head", "rates": [1, 2], "deep": True}}}
    experiment = from_dict(Experiment, values)
    assert experiment.model.head == OwnHead("nowhere:Head", (("rates", (1, 2)), ("deep", True)))
    assert ("model.head.name", "nowhere:Head") in experiment.code
    assert from_dict(Experiment, json.loads(json.dumps(to_dict(experiment)))) == experiment
    assert hash(experiment) == hash(from_dict(Experiment, values))
    changed = override(experiment, ["model.head.rates=[3]", "model.head.width=8"])
    assert dict(changed.model.head.settings) == {"rates": (3,), "deep": True, "width": 8}
    said = refusal({"model": {"head": {"name": "nowhere:Head", "inner": {"a": 1}}}})
    assert said == "model.head.inner must be a value or a list of values, got {'a': 1}"


def test_another_head_keeps_the_settings_that_both_have():
    words = ["model.head.channels=64", "model.head.recurrence=3"]
    for change in ("model.head=ce2p", "model.head.name=ce2p", "model.head={name: ce2p}"):
        assert override(Experiment(), [*words, change]).model.head == CE2PConfig(channels=64, recurrence=3)
    parsing = override(Experiment(), [*words, "model.head=ce2p", "model.head.activation=relu"])
    assert parsing.model.head.activation == "relu"
    back = override(parsing, ["model.head=ccnet"])
    assert back.model.head == CCNetConfig(channels=64, recurrence=3)
    assert override(Experiment(), [*words, "model.head=a:B"]).model.head == OwnHead("a:B")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": 3}, "name must be text, got 3"),
        ({"model": 3}, "model must be a mapping of keys to values, got 3"),
        ({"model": None}, "model must be a mapping of keys to values, got None"),
        ([1], "the configuration must be a mapping of keys to values, got [1]"),
        ({"model": {"head": {"recurrence": 1.0}}}, "model.head.recurrence must be a whole number, got 1.0"),
        ({"model": {"head": {"recurrence": True}}}, "model.head.recurrence must be a whole number, got True"),
        ({"model": {"head": {"recurrence": "two"}}}, "model.head.recurrence must be a whole number, got 'two'"),
        ({"model": {"head": {"recurrence": None}}}, "model.head.recurrence must be a whole number, got None"),
        ({"model": {"pretrained": 1}}, "model.pretrained must be true or false, got 1"),
        ({"model": {"pretrained": "yes"}}, "model.pretrained must be true or false, got 'yes'"),
        ({"model": {"head": {"dropout": "much"}}}, "model.head.dropout must be a number, got 'much'"),
        ({"model": {"head": {"dropout": True}}}, "model.head.dropout must be a number, got True"),
        ({"model": {"frozen": "conv1"}}, "model.frozen must be a list of names, got 'conv1'"),
        ({"model": {"frozen": ["conv1", 2]}}, "model.frozen[1] must be text, got 2"),
        ({"data": {"classes": ["a", True]}}, "data.classes[1] must be text, got True"),
        ({"data": {"palette": [[1, 2]]}}, "data.palette[0] must be a list of 3 values, got [1, 2]"),
        ({"data": {"palette": [[1, 2, 0.5]]}}, "data.palette[0][2] must be a whole number, got 0.5"),
        ({"preprocess": {"mean": [1, 2]}}, "preprocess.mean must be a list of 3 values, got [1, 2]"),
        ({"preprocess": {"mean": [1, 2, "x"]}}, "preprocess.mean[2] must be a number, got 'x'"),
        ({"preprocess": {"order": "rbg"}}, "preprocess.order must be one of rgb, bgr, got 'rbg'"),
        ({"preprocess": {"scale": 512}}, "preprocess.scale must be a list, got 512"),
        ({"augment": {"crop": None}}, "augment.crop must be a list, got None"),
        ({"loss": {"normalizer": "mean"}}, "loss.normalizer must be one of all, valid, got 'mean'"),
        ({"optim": {"name": "adam"}}, "optim.name must be one of sgd, adamw, got 'adam'"),
        ({"train": {"precision": 16}}, "train.precision must be one of fp32, tf32, bf16, fp16, got 16"),
        ({"inference": {"mode": "tiles"}}, "inference.mode must be one of whole, slide, got 'tiles'"),
        (
            {"inference": {"stride": [800, 513]}},
            "inference.stride must be at most inference.window ([769, 769]), got [800, 513]",
        ),
        ({"inference": {"ratios": []}}, "inference.ratios must be numbers above 0, got []"),
        (
            {"data": {"classes": ["a", "b"], "flip_pairs": [[0, 2]]}},
            "data.flip_pairs must be pairs of class numbers, got [0, 2]",
        ),
    ],
)
def test_a_wrong_type_names_key_rule_and_value(values, message):
    assert refusal(values) == message


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.output_stride=4", "model.output_stride must be 8, 16 or 32, got 4"),
        ("model.head.channels=0", "model.head.channels must be at least 1, got 0"),
        ("model.head.reduction=0", "model.head.reduction must be at least 1, got 0"),
        ("model.head.channels=4", "model.head.channels must be at least model.head.reduction, got 4"),
        ("model.aux_head.channels=-1", "model.aux_head.channels must be at least 0, got -1"),
        ("model.head.dropout=1.5", "model.head.dropout must be at least 0 and below 1, got 1.5"),
        ("model.head.dropout=-0.1", "model.head.dropout must be at least 0 and below 1, got -0.1"),
        ("model.head.dropout=.nan", "model.head.dropout must be finite, got nan"),
        ("data.ignore=256", "data.ignore must be between 0 and 255, got 256"),
        ("data.ignore=-1", "data.ignore must be between 0 and 255, got -1"),
        ("data.classes=[a, b, a]", "data.classes must be distinct names, got ['a', 'b', 'a']"),
        ("data.palette=[[0, 0, 0]]", "data.palette must be as long as data.classes (0), got 1"),
        ("preprocess.std=[1, 1, -1]", "preprocess.std must be above 0, got [1.0, 1.0, -1.0]"),
        ("preprocess.std=[1, 0, 1]", "preprocess.std must be above 0, got [1.0, 0.0, 1.0]"),
        ("preprocess.std=[1, nan, 1]", "preprocess.std[1] must be finite, got nan"),
        ("preprocess.scale=[0, 5]", "preprocess.scale must be at least 1 x 1, got [0, 5]"),
        ("augment.scale=[5, 0]", "augment.scale must be at least 1 x 1, got [5, 0]"),
        ("augment.ratio=[2.0, 0.5]", "augment.ratio must be two rising numbers above 0, got [2.0, 0.5]"),
        ("augment.ratio=[0, 1]", "augment.ratio must be two rising numbers above 0, got [0.0, 1.0]"),
        ("augment.crop=[512, 0]", "augment.crop must be at least 1 x 1, got [512, 0]"),
        ("augment.max_fraction=1.01", "augment.max_fraction must be at most 1, got 1.01"),
        ("augment.flip=2", "augment.flip must be between 0 and 1, got 2.0"),
        ("augment.rotation=181", "augment.rotation must be between 0 and 180 degrees, got 181.0"),
        ("augment.rotation=-5", "augment.rotation must be between 0 and 180 degrees, got -5.0"),
        ("augment.rotation_chance=2", "augment.rotation_chance must be between 0 and 1, got 2.0"),
        ("inference.pad_to=[0, 5]", "inference.pad_to must be at least 1 x 1, got [0, 5]"),
        ("model.head=ce2q", "model.head.name: unknown head 'ce2q'; did you mean ce2p?"),
        ("loss.aux_weight=-0.4", "loss.aux_weight must be at least 0, got -0.4"),
        ("loss.class_weights=atuo", "loss.class_weights must be a list or auto, got 'atuo'"),
        ("loss.class_weights=[1, -1]", "loss.class_weights must be at least 0, got [1.0, -1.0]"),
        ("optim.lr=1e39", "optim.lr must be at most 1e+06, got 1e+39"),
        ("loss.class_weights=[0, 0]", "loss.class_weights must be above 0 for some class, got [0.0, 0.0]"),
        ("loss.class_weights=3", "loss.class_weights must be a list, got 3"),
        ("loss.terms=[{name: dise}]", "loss.terms: unknown term 'dise'; did you mean dice?"),
        (
            "loss.terms=[{name: mse}]",
            "loss.terms: unknown term 'mse'; known: cross_entropy, ohem, focal, dice, lovasz, "
            "category_consistent, package.module:function",
        ),
        ("loss.terms=[{nam: dice}]", "unknown key loss.terms[0].nam; did you mean name?"),
        ("loss.terms=[dice]", "loss.terms[0] must be a mapping of keys to values, got 'dice'"),
        ("loss.terms=[{weight: -1}]", "loss.terms: the weight of cross_entropy must be at least 0, got -1.0"),
        (
            "loss.terms=[{name: dice}, {name: dice}]",
            "loss.terms must be different terms, got ['dice', 'dice']",
        ),
        (
            "loss.terms=[{name: category_consistent}, {weight: 0}]",
            "loss.terms must be at least one term with a weight above 0 beside category_consistent, "
            "got ['category_consistent', 'cross_entropy']",
        ),
        (
            "loss.terms=[]",
            "loss.terms must be at least one term with a weight above 0 beside category_consistent, got []",
        ),
        ("loss.smoothing=1.5", "loss.smoothing must be at least 0 and below 1, got 1.5"),
        ("loss.focal_gamma=-1", "loss.focal_gamma must be at least 0, got -1.0"),
        ("loss.ohem.threshold=7", "loss.ohem.threshold must be between 0 and 1, got 7.0"),
        ("loss.ohem.keep=-1", "loss.ohem.keep must be at least 0, got -1"),
        ("loss.consistency.dimensions=0", "loss.consistency.dimensions must be at least 1, got 0"),
        ("loss.consistency.delta_v=-1", "loss.consistency.delta_v must be at least 0, got -1.0"),
        (
            "loss.consistency.delta_d=0.5",
            "loss.consistency.delta_d must be above loss.consistency.delta_v (0.5), got 0.5",
        ),
        ("optim.lr=0", "optim.lr must be above 0, got 0.0"),
        ("optim.lr=.inf", "optim.lr must be finite, got inf"),
        ("optim.power=0", "optim.power must be above 0, got 0.0"),
        ("optim.weight_decay=-1", "optim.weight_decay must be at least 0, got -1.0"),
        ("optim.eta_min=-1", "optim.eta_min must be at least 0, got -1.0"),
        ("optim.eta_min=0.1", "optim.eta_min must be at most optim.lr (0.01), got 0.1"),
        ("optim.warmup=-1", "optim.warmup must be at least 0, got -1"),
        ("optim.momentum=1.1", "optim.momentum must be at least 0 and below 1, got 1.1"),
        ("train.iterations=0", "train.iterations must be at least 1, got 0"),
        ("train.batch=0", "train.batch must be at least 1, got 0"),
        ("train.accumulate=0", "train.accumulate must be at least 1, got 0"),
        ("train.accumulate=3", "train.batch must be a multiple of train.accumulate (3), got 8"),
        ("train.validate_every=-1", "train.validate_every must be at least 0, got -1"),
        ("train.checkpoint_every=-1", "train.checkpoint_every must be at least 0, got -1"),
        ("train.seed=-1", "train.seed must be at least 0, got -1"),
    ],
)
def test_a_senseless_value_names_key_rule_and_value(word, message):
    assert set_refusal(word) == message


def test_a_palette_holds_colors():
    assert refusal({"data": {"classes": ["a"], "palette": [[0, 256, 0]]}}) == (
        "data.palette must be colors of 0..255, got [0, 256, 0]"
    )


def test_more_classes_than_a_label_can_hold_are_refused():
    names = [f"c{index}" for index in range(256)]
    assert refusal({"data": {"classes": names}}) == "data.classes must be at most 255 names, got 256"
    assert len(from_dict(DataConfig, {"classes": names[:255]}).classes) == 255


# --- words of the command line ---


def test_words_set_values_of_every_kind():
    changed = override(
        Experiment(),
        [
            "model.head.recurrence=3",
            "model.frozen=[conv1, layer1]",
            "model.pretrained=true",
            "data.name=my_city:open_city",
            "preprocess.scale=[2049, 1025]",
            "optim.lr=6e-4",
            "name=a name with = and spaces",
        ],
    )
    assert changed.model.head.recurrence == 3 and changed.model.pretrained is True
    assert changed.model.frozen == ("conv1", "layer1")
    assert changed.data.name == "my_city:open_city"
    assert changed.preprocess.scale == (2049, 1025)
    assert changed.optim.lr == 6e-4
    assert changed.name == "a name with = and spaces"
    assert override(changed, ["preprocess.scale=null"]).preprocess.scale is None
    assert override(changed, ["model.head.recurrence=1", "model.head.recurrence=2"]).model.head.recurrence == 2
    # The original stays as it was.
    assert Experiment().model.head.recurrence == 2 and changed.preprocess.scale == (2049, 1025)


def test_values_that_only_fit_together_are_set_together():
    changed = apply_overrides(Experiment(), {"data.classes": ["a"], "data.palette": [[1, 2, 3]]})
    assert changed.data.palette == ((1, 2, 3),)


@pytest.mark.parametrize(
    ("word", "changed"),
    [
        ("optim={lr: 0.5}", ("optim.lr",)),
        ("model={head: {recurrence: 1, channels: 64}}", ("model.head.channels", "model.head.recurrence")),
        # A section inside the section.
        ("loss={smoothing: 0.1, ohem: {keep: 5}}", ("loss.ohem.keep", "loss.smoothing")),
        ("loss.ohem={keep: 5}", ("loss.ohem.keep",)),
        ("optim={}", ()),
    ],
)
def test_a_section_leaves_the_keys_that_it_does_not_name_as_they_are(word, changed):
    before = override(
        Experiment(),
        [
            *(
                "model.head.channels=32",
                "model.head.recurrence=3",
                "model.head.dropout=0.5",
                "optim.lr=0.25",
                "optim.momentum=0.5",
            ),
            *("loss.aux_weight=0.7", "loss.smoothing=0.3", "loss.ohem.keep=9", "loss.ohem.threshold=0.25"),
        ],
    )
    assert tuple(sorted(differences(before, override(before, [word])))) == changed


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.head.recurrence", "--set expects section.key=value, got 'model.head.recurrence'"),
        ("=3", "--set expects section.key=value, got '=3'"),
        ("optm.lr=3", "unknown key optm; did you mean optim?"),
        ("optim.wamup=3", "unknown key optim.wamup; did you mean warmup?"),
        ("recurrence=1", "unknown key recurrence; did you mean model.head.recurrence?"),
        ("model.recurrence=1", "unknown key model.recurrence; did you mean model.head.recurrence?"),
        ("scale=[1, 1]", "unknown key scale; did you mean preprocess.scale or augment.scale?"),
        ("model.head.activation=relu", "unknown key model.head.activation; the head ce2p has it"),
        ("task=instances", "task is segmentation and cannot be changed; it belongs to the recipe or the YAML file"),
        ("model.head.recurrence.twice=3", "model.head.recurrence is a value, it has no keys below it"),
        ("name.first=x", "name is a value, it has no keys below it"),
        ("model=3", "model must be a mapping of keys to values, got 3"),
    ],
)
def test_a_word_that_sets_nothing_is_refused(word, message):
    assert set_refusal(word) == message


def test_a_word_that_is_not_yaml_is_refused_by_name():
    assert set_refusal("model.frozen=[a").startswith("--set model.frozen: not valid YAML: ")


# --- files ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optm: {}\n", "unknown key optm; did you mean optim?"),
        ("model: {output_stride: 9}\n", "model.output_stride must be 8, 16 or 32, got 9"),
        ("model: [\n", "not valid YAML: "),
        ("- 1\n", "the configuration must be a mapping of keys to values, got [1]"),
        ("[]\n", "the configuration must be a mapping of keys to values, got []"),
        ("just words\n", "the configuration must be a mapping of keys to values, got 'just words'"),
    ],
)
def test_an_error_in_a_file_names_the_file(text, message, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CrissCrossError) as caught:
        load_experiment(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_file_is_named_once_and_even_where_its_name_begins_the_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").write_text("model: {output_stride: 9}\n", encoding="utf-8")
    with pytest.raises(CrissCrossError, match=r"^model: model\.output_stride must be 8, 16 or 32"):
        load_experiment("model")
    (tmp_path / "bad.yaml").write_text("a: [\n", encoding="utf-8")
    with pytest.raises(CrissCrossError) as caught:
        load_experiment("bad.yaml")
    assert str(caught.value).startswith("bad.yaml: not valid YAML")


@pytest.mark.parametrize("kind", ["missing", "a folder", "not text"])
def test_a_file_that_cannot_be_read_is_named(kind, tmp_path):
    path = tmp_path / "x.yaml"
    if kind == "a folder":
        path.mkdir()
    elif kind == "not text":
        path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(CrissCrossError, match=r"x\.yaml: (cannot be read|not UTF-8 text)"):
        load_experiment(path)


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    assert load_experiment(tmp_path / "empty.yaml") == Experiment()


# --- recipes ---


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_can_be_built_and_written(name, tmp_path):
    experiment = recipe(name)
    assert experiment.name == name
    (tmp_path / "recipe.yaml").write_text(to_yaml(experiment), encoding="utf-8")
    assert load_experiment(tmp_path / "recipe.yaml") == experiment
    # Whoever asks for a baseline by name gets one, and nobody else.
    assert (experiment.model.head.recurrence == 0) == name.endswith("-baseline")


def test_a_baseline_differs_from_its_recipe_in_the_attention_alone():
    changed = set(differences(recipe("camvid-light"), recipe("camvid-light-baseline")))
    assert changed == {"name", "model.head.recurrence"}


def test_an_unknown_recipe_names_the_near_miss():
    with pytest.raises(CrissCrossError) as caught:
        recipe("camvid-lihgt")
    assert str(caught.value).startswith("no recipe 'camvid-lihgt'; did you mean camvid-light")
    with pytest.raises(CrissCrossError) as caught:
        recipe("zzz")
    assert str(caught.value) == "no recipe 'zzz'; `crisscross zoo` lists all of them"
